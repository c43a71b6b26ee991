"""What every sampler must do, checked against exact answers.

A new member is tested by being registered. The sampler of docs/howto/add-a-sampler.md is tested like a member, so the
page cannot go stale.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import runpy
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from calotype.condition import Condition
from calotype.diffusion import (
    Cosine,
    Denoiser,
    GaussianMixture,
    Sampler,
    ScaledLinear,
    Schedule,
    UniformGrid,
    Velocity,
    grids,
    samplers,
)
from calotype.registry import from_plain, to_plain
from calotype.rng import SampleNoise
from calotype.types import Denoise

F64 = torch.float64
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "add-a-sampler.md"
CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

COSINE = Schedule(Cosine())
OPEN = Schedule(Cosine(None, None))
STABLE_DIFFUSION = Schedule(ScaledLinear())
SCHEDULES = {"cosine": COSINE, "open cosine": OPEN, "stable diffusion": STABLE_DIFFUSION}

GAUSSIAN = GaussianMixture.gaussian(torch.tensor([0.4], dtype=F64), 0.5)
MIXTURE_1D = GaussianMixture(
    torch.tensor([[-1.0], [0.8]], dtype=F64), torch.tensor([0.5, 0.3], dtype=F64), torch.tensor([0.4, 0.6], dtype=F64)
)
MIXTURE_2D = GaussianMixture(
    torch.tensor([[-1.0, 0.2], [0.8, 0.9], [0.3, -1.1]], dtype=F64),
    torch.tensor([0.3, 0.25, 0.4], dtype=F64),
    torch.tensor([0.3, 0.45, 0.25], dtype=F64),
)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The page's sampler, loaded from a file of its own as a reader would write it; registered during this module."""
    file = tmp_path_factory.mktemp("howto") / "midpoint.py"
    file.write_text(CODE[0], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("howto_midpoint", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield samplers["midpoint"]()
    del samplers._members["midpoint"], sys.modules[spec.name]


@pytest.fixture(params=[*samplers, "the example of add-a-sampler.md"])
def sampler(request):
    if request.param in samplers:
        return samplers[request.param]()
    return request.getfixturevalue("example")


def no_noise(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def run(sampler: Sampler, denoise: Denoise, x: Tensor, times: Tensor, schedule: Schedule, noise=no_noise) -> Tensor:
    *_, last = sampler(denoise, x, times, schedule, noise)
    return last.x


def between(start: float, end: float, steps: int) -> Tensor:
    return torch.linspace(start, end, steps + 1, dtype=F64)


def measured_order(errors: list[float]) -> float:
    """From the last halving of the step size."""
    return float(torch.tensor(errors[-2] / errors[-1]).log2())


# ---------------------------------------------------------------------------------------------------------- the form


def test_is_a_frozen_dataclass_that_survives_a_config_file(sampler):
    assert dataclasses.is_dataclass(sampler) and sampler.__dataclass_params__.frozen
    assert from_plain(to_plain(sampler)) == sampler
    assert "http" in (type(sampler).__doc__ or ""), "cite the source"


def test_declares_order_and_stochastic(sampler):
    assert isinstance(type(sampler).order, int) and type(sampler).order >= 1
    assert isinstance(type(sampler).stochastic, bool)
    assert not {"order", "stochastic"} & {f.name for f in dataclasses.fields(sampler)}


def test_yields_one_step_per_interval_and_does_nothing_unasked(sampler):
    calls: list[Tensor] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        assert t.shape == (3,) and (t == t[0]).all()
        return GAUSSIAN.denoise(COSINE)(x, t)

    times = between(0.9, 0.1, 6)
    walk = sampler(denoise, torch.zeros(3, 1, dtype=F64), times, COSINE, no_noise)
    assert not calls
    next(walk)
    asked = len(calls)
    assert asked >= 1
    steps = [*walk]
    assert torch.equal(torch.stack([s.t for s in steps]), times[2:])
    assert all(s.x.shape == s.x_0.shape == (3, 1) for s in steps)
    assert all(times[-1] <= t[0] <= times[0] for t in calls)


def test_keeps_no_state_between_or_beside_walks(sampler):
    def walk():
        x = torch.tensor([[0.3], [-1.2]], dtype=F64)
        return sampler(MIXTURE_1D.denoise(COSINE), x, between(0.9, 0.1, 5), COSINE, SampleNoise([1, 2]))

    alone = [step.x for step in walk()]
    for a, b, x in zip(walk(), walk(), alone, strict=True):
        assert torch.equal(a.x, x) and torch.equal(b.x, x)
    [*islice(walk(), 2)]
    assert all(torch.equal(step.x, x) for step, x in zip(walk(), alone, strict=True))


def test_gradients_are_off_unless_a_guidance_turns_them_on(sampler):
    exact = GAUSSIAN.denoise(COSINE)

    def guided(x: Tensor, t: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            x_0 = exact(x, t)
            (g,) = torch.autograd.grad(x_0.sum(), x)
        assert (g > 0).all()
        return x_0.detach()

    x = torch.ones(2, 1, dtype=F64, requires_grad=True)
    for step in sampler(guided, x, between(0.9, 0.1, 3), COSINE, no_noise):
        assert torch.is_grad_enabled() and not step.x.requires_grad


# ------------------------------------------------------------------------------------------------------- the numbers


def test_converges_on_a_gaussian_at_the_declared_order(sampler):
    """x_0 ~ N(mu, s^2): every deterministic path keeps its quantile; a stochastic one keeps mean and variance."""
    mean, std = GAUSSIAN.means.item(), GAUSSIAN.stds.item()
    start, end = 0.9, 0.2
    (a_t, s_t), (a_s, s_s) = (COSINE.at(torch.tensor(t, dtype=F64)) for t in (start, end))
    var_t, var_s = a_t**2 * std**2 + s_t**2, a_s**2 * std**2 + s_s**2
    denoise = GAUSSIAN.denoise(COSINE)
    errors = []
    for steps in (20, 40, 80, 160):
        times = between(start, end, steps)
        if sampler.stochastic:
            response = impulse_response(sampler, denoise, times, a_t * mean, var_t.sqrt())
            errors.append((response.square().sum() - var_s).abs().item())
        else:
            x = run(sampler, denoise, (a_t * mean + var_t.sqrt()).view(1, 1), times, COSINE)
            errors.append((x - a_s * mean - var_s.sqrt()).abs().item())
        centre = run(sampler, denoise, (a_t * mean).view(1, 1), times, COSINE)
        assert torch.allclose(centre, a_s * mean, atol=1e-12), "the mean of a Gaussian is kept by any steps"
    assert measured_order(errors) >= sampler.order - 0.4, errors


def impulse_response(sampler: Sampler, denoise: Denoise, times: Tensor, centre: Tensor, std: Tensor) -> Tensor:
    """How far the result moves with x (by one std) and with each noise drawn: on a Gaussian a walk is affine in them,
    so the sum of squares is the exact variance of the result, without any random numbers."""
    count = 0

    def counted(x: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return torch.zeros_like(x)

    rest = run(sampler, denoise, centre.view(1, 1), times, COSINE, counted)
    impulses = iter(torch.eye(count + 1, dtype=F64)[1:])
    x = centre + torch.eye(count + 1, dtype=F64)[0][:, None] * std
    return run(sampler, denoise, x, times, COSINE, lambda x: next(impulses)[:, None]) - rest


def test_converges_on_a_mixture_at_the_declared_order(sampler):
    """In one dimension the probability flow keeps quantiles: x_s = CDF_s^-1(CDF_t(x_t))."""
    if sampler.stochastic:
        return check_moments(sampler, MIXTURE_1D, COSINE, steps=200)
    start, end = torch.tensor([0.85, 0.2], dtype=F64)
    x_t = torch.linspace(-1.7, 1.7, 9, dtype=F64)
    exact = quantile(cdf(x_t, *COSINE.at(start)), *COSINE.at(end))
    errors = []
    for steps in (40, 80, 160):
        x = run(sampler, MIXTURE_1D.denoise(COSINE), x_t[:, None], between(0.85, 0.2, steps), COSINE)
        errors.append((x[:, 0] - exact).square().mean().sqrt().item())
    assert measured_order(errors) >= sampler.order - 0.4, errors
    return None


def cdf(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    std = (alpha**2 * MIXTURE_1D.stds**2 + sigma**2).sqrt()
    z = (x[:, None] - alpha * MIXTURE_1D.means[:, 0]) / std
    return (MIXTURE_1D.weights * torch.special.ndtr(z)).sum(1)


def quantile(p: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    low, high = torch.full_like(p, -10), torch.full_like(p, 10)
    for _ in range(80):
        middle = (low + high) / 2
        above = cdf(middle, alpha, sigma) > p
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return middle


def check_moments(sampler: Sampler, data: GaussianMixture, schedule: Schedule, steps: int) -> None:
    n, shape = 20_000, data.means.shape[1:]
    g = torch.Generator().manual_seed(0)
    times = UniformGrid()(schedule, steps)
    x = schedule.at(times[0])[1] * torch.randn(n, *shape, generator=g, dtype=F64)
    x = run(sampler, data.denoise(schedule), x, times, schedule, lambda x: torch.randn(x.shape, generator=g).to(x))
    # four standard errors of 20 000 samples, plus as much for the steps
    assert torch.allclose(x.mean(0), data.mean(), atol=0.05)
    assert torch.allclose(x.T.cov().view_as(data.covariance()), data.covariance(), atol=0.06)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_samples_have_the_mean_and_covariance_of_the_data(sampler, schedule):
    check_moments(sampler, MIXTURE_2D, schedule, steps=60)


@pytest.mark.parametrize("schedule", [OPEN, STABLE_DIFFUSION], ids=["open cosine", "stable diffusion"])
@pytest.mark.parametrize("grid", [*grids])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_arrives_at_a_single_point_whatever_the_steps(sampler, schedule, grid, steps):
    point = torch.tensor([0.7, -0.3], dtype=F64)
    denoise = GaussianMixture.gaussian(point, 0.0).denoise(schedule)
    x = torch.tensor([[0.1, 1.3], [-2.0, 0.4]], dtype=F64)
    x = run(sampler, denoise, x, grids[grid]()(schedule, steps), schedule, SampleNoise([1, 2]))
    assert torch.allclose(x, point.expand(2, 2), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("grid", [*grids])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_is_finite_at_both_ends_in_every_dtype(sampler, schedule, grid, dtype):
    exact = MIXTURE_2D.denoise(schedule)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return exact(x.to(torch.promote_types(x.dtype, torch.float32)), t)

    x = torch.tensor([[0.5, -1.0], [2.0, 0.1]], dtype=dtype)
    for steps in (1, 2, 3, 20):
        for step in sampler(denoise, x, grids[grid]()(schedule, steps), schedule, SampleNoise([1, 2])):
            assert step.x.isfinite().all() and step.x_0.isfinite().all()
            assert step.x.dtype == step.x_0.dtype == torch.promote_types(dtype, torch.float32)


def test_takes_a_sample_on_another_device_than_the_times(sampler):
    """The meta device computes no numbers but refuses, like any accelerator, to meet a vector on the CPU."""
    denoiser = Denoiser(lambda x, time, cond: x + time.view(-1, 1, 1, 1), STABLE_DIFFUSION, Velocity())
    x = torch.empty(2, 1, 4, 4, device="meta")
    times = UniformGrid()(STABLE_DIFFUSION, 4)
    for step in sampler(denoiser.bind(Condition()), x, times, STABLE_DIFFUSION, torch.randn_like):
        assert step.x.device.type == "meta" and step.x.dtype == torch.float32


# --------------------------------------------------------------------------------------------------------- the seeds


def test_same_seed_same_image_whatever_the_batch(sampler):
    denoise, times = MIXTURE_2D.denoise(COSINE), UniformGrid()(COSINE, 10)

    def images(n: int, start: int) -> Tensor:
        noise = SampleNoise.range(7, n, start)
        return run(sampler, denoise, noise.initial((2,)), times, COSINE, noise)

    together = images(4, 0)
    assert torch.equal(together, torch.cat([images(1, 0), images(2, 1), images(1, 3)]))
    assert torch.equal(together, images(4, 0))


def test_depends_on_noise_if_and_only_if_it_says_so(sampler):
    x = torch.tensor([[0.5], [-1.0]], dtype=F64)
    a, b = (
        run(sampler, MIXTURE_1D.denoise(COSINE), x, between(0.9, 0.1, 5), COSINE, SampleNoise([seed, seed + 1]))
        for seed in (1, 100)
    )
    assert torch.equal(a, b) is not sampler.stochastic


# ---------------------------------------------------------------------------------------------------------- the page


def test_the_page_shows_the_sampler_in_use(example, tmp_path, capsys):
    script = tmp_path / "use.py"
    script.write_text(CODE[1], encoding="utf-8")
    runpy.run_path(str(script))
    printed = capsys.readouterr().out
    errors = [float(line.split()[-1]) for line in printed.splitlines()]
    assert len(errors) == 3 and errors[0] > 3 * errors[1] > 9 * errors[2], printed
