"""Step by step the same as diffusers' schedulers, where they are right.

Known places where they are not, and which are left out here: DDIM computes the previous timestep as t - T // N, which
is not the previous grid point unless N divides T; DDPM with "fixed_large" adds noise to the final image of a respaced
chain; Karras's grid rounds its times to whole table entries, where ours tells the network the exact level.
"""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
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
@pytest.mark.parametrize(("spread", "variance_type"), [(0.0, "fixed_small"), (1.0, "fixed_large")])
def test_ddpm(table, prediction, spread, variance_type):
    scheduler = theirs(DDPMScheduler, table, prediction, clip_sample=False, variance_type=variance_type)
    g = torch.Generator().manual_seed(1)
    x, expected = initial(), []
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.double()), t, x, generator=g).prev_sample
        expected.append(x)
    g = torch.Generator().manual_seed(1)
    times = UniformGrid()(Schedule(), N)
    found = ours(DDPM(spread), table, prediction, times, lambda x: torch.randn(x.shape, generator=g, dtype=x.dtype))
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
