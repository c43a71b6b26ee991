"""Step by step the same as diffusers' schedulers, where they are right.

Known places where they are not, or do something else, and which are left out here:

* DDIM and PNDM compute the previous timestep as t - T // N, which is not the previous grid point unless N divides T.
* DDPM with "fixed_large" adds noise to the final image of a respaced chain.
* PNDM combines past velocities, of other samples and noise levels, where the network predicts velocity; ours are eps.
* UniPC with "bh1" multiplies an infinite step by zero on arrival: its last sample is not a number.
* Karras's grid rounds its times to whole table entries (DPM-Solver++, UniPC); ours tells the network the exact level.
* Euler's churn is added after the network has been asked, so its answer belongs to another sample; Heun has no churn.
* Flow matching ends its grid at 1 / T before 0, and its shift moves that end too: a grid of its own, not a sampler.
* Without `set_alpha_to_one` and `final_sigmas_type="zero"` some end at the noise of the first table entry.
"""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from calotype.condition import Condition
from calotype.diffusion import (
    DDIM,
    DDPM,
    Denoiser,
    DPMpp2M,
    Epsilon,
    Karras,
    Linear,
    Sampler,
    ScaledLinear,
    Schedule,
    UniformGrid,
    Velocity,
)
from calotype.diffusion.curves.density import Flow
from calotype.diffusion.path import LinearPath
from calotype.diffusion.samplers import PLMS, DPMpp2MSDE, Euler, EulerAncestral, Heun, UniPC
from calotype.diffusion.variance import FixedLarge, FixedSmall, LearnedRange, Prediction

TABLES = {
    "stable diffusion": (ScaledLinear(), {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
    "ddpm": (Linear(), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
}
PREDICTIONS = {"epsilon": Epsilon(), "v_prediction": Velocity()}
N = 50

tables = pytest.mark.parametrize("table", TABLES)
predictions = pytest.mark.parametrize("prediction", PREDICTIONS)


def network(x: Tensor, time: Tensor, cond: object = None) -> Tensor:
    """Any smooth function of the sample and of the table index will do."""
    return torch.tanh(x) * (0.5 + time.view(-1, 1, 1, 1) / 2000) + 0.1


def theirs(cls: type, table: str, prediction: str, **options: object):
    common = {"timestep_spacing": "trailing", "prediction_type": prediction, **TABLES[table][1], **options}
    scheduler = cls(**common)
    # their table is a float32 product of a thousand factors; an exact one leaves only the formulas to compare
    scheduler.alphas_cumprod = (1 - TABLES[table][0].betas()).cumprod(0)
    scheduler.set_timesteps(N)
    return scheduler


def initial() -> Tensor:
    # float64, for an eps-prediction is divided by alpha(1) = 0.006 and would show float32's rounding, not the formulas
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def ours(sampler: Sampler, table: str, prediction: str, times: Tensor, noise=torch.zeros_like) -> list[Tensor]:
    schedule = Schedule(TABLES[table][0])
    denoise = Denoiser(network, schedule, PREDICTIONS[prediction]).bind(Condition())
    return [step.x for step in sampler(denoise, initial(), times, schedule, noise)]


def same(a: list[Tensor], b: list[Tensor]) -> None:
    assert len(a) == len(b)
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        assert torch.allclose(x, y, rtol=1e-5, atol=1e-5), f"step {i}: {(x - y).abs().max()}"


@tables
def test_the_tables_agree(table):
    scheduler = DDPMScheduler(**TABLES[table][1])
    alpha, _ = Schedule(TABLES[table][0]).at((torch.arange(1000, dtype=torch.float64) + 1) / 1000)
    assert torch.allclose((alpha**2).float(), scheduler.alphas_cumprod, rtol=2e-5)


@tables
@predictions
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(table, prediction, eta):
    scheduler = theirs(DDIMScheduler, table, prediction, clip_sample=False, set_alpha_to_one=True)
    drawn = torch.randn(N, *initial().shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x, expected = initial(), []
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(network(x, t.double()), t, x, eta=eta, variance_noise=drawn[i]).prev_sample
        expected.append(x)
    draws = iter(drawn)
    times = UniformGrid()(Schedule(), N)
    same(ours(DDIM(eta), table, prediction, times, lambda x: next(draws)), expected)


@tables
@predictions
@pytest.mark.parametrize(("variance", "variance_type"), [(FixedSmall(), "fixed_small"), (FixedLarge(), "fixed_large")])
def test_ddpm(table, prediction, variance, variance_type):
    scheduler = theirs(DDPMScheduler, table, prediction, clip_sample=False, variance_type=variance_type)
    g = torch.Generator().manual_seed(1)
    x, expected = initial(), []
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.double()), t, x, generator=g).prev_sample
        expected.append(x)
    g = torch.Generator().manual_seed(1)
    times = UniformGrid()(Schedule(), N)
    found = ours(DDPM(variance), table, prediction, times, lambda x: torch.randn(x.shape, generator=g, dtype=x.dtype))
    last = N if variance_type == "fixed_small" else N - 1
    same(found[:last], expected[:last])


@tables
@predictions
def test_dpmpp2m(table, prediction):
    scheduler = theirs(DPMSolverMultistepScheduler, table, prediction)
    x, expected = initial(), []
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.double()), t, x).prev_sample
        expected.append(x)
    same(ours(DPMpp2M(), table, prediction, UniformGrid()(Schedule(), N)), expected)


@tables
@predictions
def test_dpmpp2m_karras(table, prediction):
    scheduler = theirs(DPMSolverMultistepScheduler, table, prediction, use_karras_sigmas=True)
    schedule = Schedule(TABLES[table][0])
    times = Karras(sigma_max=1e4)(schedule, N)
    alpha, sigma = schedule.at(times)
    assert torch.allclose((sigma / alpha).float(), scheduler.sigmas, rtol=2e-5)
    x, expected = initial(), []
    for t, exact in zip(scheduler.timesteps, times, strict=False):
        x = scheduler.step(network(x, schedule.clock(exact)), t, x).prev_sample
        expected.append(x)
    same(ours(DPMpp2M(), table, prediction, times), expected)


@tables
def test_ddpm_with_a_learned_range(table):
    """The network's second half of channels is v. diffusers takes the log variance of the whole table's step, so every
    entry is visited; it is the last ten, whose posterior variance is not clipped."""
    scheduler = theirs(DDPMScheduler, table, "epsilon", clip_sample=False, variance_type="learned_range")
    scheduler.set_timesteps(1000)
    g = torch.Generator().manual_seed(1)
    x, expected = initial(), []
    for t in scheduler.timesteps[:10]:
        both = torch.cat([network(x, t.double()), torch.sin(3 * x)], 1)
        x = scheduler.step(both, t, x, generator=g).prev_sample
        expected.append(x)

    class Told:
        def __init__(self, schedule: Schedule) -> None:
            self.denoise = Denoiser(network, schedule, Epsilon()).bind(Condition())

        def __call__(self, x: Tensor, t: Tensor) -> Tensor:
            return self.denoise(x, t)

        def predict(self, x: Tensor, t: Tensor) -> Prediction:
            return Prediction(self(x, t), torch.sin(3 * x))

    g = torch.Generator().manual_seed(1)
    schedule = Schedule(TABLES[table][0])
    times = UniformGrid()(schedule, 1000)[:11]
    walk = DDPM(LearnedRange())(
        Told(schedule), initial(), times, schedule, lambda x: torch.randn(x.shape, generator=g, dtype=x.dtype)
    )
    same([step.x for step in walk], expected)


@tables
@pytest.mark.parametrize("runge_kutta", [True, False])
def test_plms(table, runge_kutta):
    scheduler = theirs(PNDMScheduler, table, "epsilon", skip_prk_steps=not runge_kutta, set_alpha_to_one=True)
    x, seen = initial(), []
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.double()), t, x).prev_sample
        seen.append(x)
    # their calls within a step return scaffolding: three of four in a Runge-Kutta step, the first of a short start
    expected = [*seen[3:12:4], *seen[12:]] if runge_kutta else seen[1:]
    same(ours(PLMS(runge_kutta), table, "epsilon", UniformGrid()(Schedule(), N)), expected)


def in_sigma(cls: type, table: str, prediction: str, per_step: int = 1, **options: object) -> list[Tensor]:
    """The walk of a scheduler that works on y = x / alpha, after every interval, as x."""
    scheduler = theirs(cls, table, prediction)
    sigmas = (1 / scheduler.alphas_cumprod - 1).sqrt()[(1000 - torch.arange(0, 1000, 1000 // N)) - 1]
    sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])  # theirs in float64, for the reason given above
    scheduler.sigmas = (
        sigmas if per_step == 1 else torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    )
    y, xs = initial() * (sigmas[0] ** 2 + 1).sqrt(), []
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.scale_model_input(y, t)
        y = scheduler.step(network(x, t.double()), t, y, **options).prev_sample
        if (i + 1) % per_step == 0 or i == len(scheduler.timesteps) - 1:
            xs.append(y / (sigmas[len(xs) + 1] ** 2 + 1).sqrt())
    return xs


@tables
@predictions
def test_euler(table, prediction):
    expected = in_sigma(EulerDiscreteScheduler, table, prediction)
    same(ours(Euler(), table, prediction, UniformGrid()(Schedule(), N)), expected)


@tables
@predictions
def test_euler_ancestral(table, prediction):
    g = torch.Generator().manual_seed(1)
    expected = in_sigma(EulerAncestralDiscreteScheduler, table, prediction, generator=g)
    g = torch.Generator().manual_seed(1)
    times = UniformGrid()(Schedule(), N)
    noise = lambda x: torch.randn(x.shape, generator=g, dtype=x.dtype)  # noqa: E731
    same(ours(EulerAncestral(), table, prediction, times, noise), expected)


@tables
@predictions
def test_heun(table, prediction):
    expected = in_sigma(HeunDiscreteScheduler, table, prediction, per_step=2)
    same(ours(Heun(), table, prediction, UniformGrid()(Schedule(), N)), expected)


@tables
@predictions
def test_dpmpp2m_sde(table, prediction):
    scheduler = theirs(DPMSolverMultistepScheduler, table, prediction, algorithm_type="sde-dpmsolver++")
    drawn = torch.randn(N, *initial().shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x, expected = initial(), []
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(network(x, t.double()), t, x, variance_noise=drawn[i]).prev_sample
        expected.append(x)
    draws = iter(drawn)
    times = UniformGrid()(Schedule(), N)
    same(ours(DPMpp2MSDE(), table, prediction, times, lambda x: next(draws)), expected)


def unipc(table: str, prediction: str, **options: object) -> list[Tensor]:
    scheduler = theirs(UniPCMultistepScheduler, table, prediction, **options)
    sigmas = (1 / scheduler.alphas_cumprod - 1).sqrt()[scheduler.timesteps]
    scheduler.sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])  # theirs in float64, for the reason given above
    x, xs = initial(), []
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.double()), t, x).prev_sample
        xs.append(x)
    return xs


@tables
@predictions
@pytest.mark.parametrize(("p", "b"), [(1, 2), (2, 2), (3, 2), (1, 1), (2, 1), (3, 1)])
def test_unipc(table, prediction, p, b):
    expected = unipc(table, prediction, solver_order=p, solver_type=f"bh{b}")
    found = ours(UniPC(p, b), table, prediction, UniformGrid()(Schedule(), N))
    last = N if b == 2 else N - 1
    same(found[:last], expected[:last])
    assert found[-1].isfinite().all()


def test_unip_without_the_corrector():
    expected = unipc("ddpm", "epsilon", solver_order=3, disable_corrector=list(range(N)))
    same(ours(UniPC(3, corrector=False), "ddpm", "epsilon", UniformGrid()(Schedule(), N)), expected)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("sampler", [Euler(), DDIM()], ids=["euler", "ddim"])
def test_flow_matching_euler(sampler, shift):
    """On their grid, whose sigma is our t; the network predicts the flow eps - x_0."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(N)
    scheduler.sigmas = scheduler.sigmas.double()
    x, expected = initial(), []
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(network(x, 1000 * scheduler.sigmas[i]), t, x).prev_sample
        expected.append(x)
    schedule = Schedule(Flow(), LinearPath())

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return x - t.view(-1, 1, 1, 1) * network(x, schedule.clock(t))

    walk = sampler(denoise, initial(), scheduler.sigmas, schedule, torch.zeros_like)
    same([step.x for step in walk], expected)
