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
from dataclasses import dataclass
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
    Linear,
    Sampler,
    ScaledLinear,
    Schedule,
    UniformGrid,
    Velocity,
    grids,
    samplers,
)
from calotype.diffusion.curves.density import Flow
from calotype.diffusion.curves.shifted import Shifted
from calotype.diffusion.path import LinearPath
from calotype.diffusion.samplers import DDIM, DDPM, PLMS, Churn, Euler, Heun, UniPC
from calotype.diffusion.variance import FixedLarge
from calotype.errors import UserError
from calotype.registry import from_plain, to_plain
from calotype.rng import SampleNoise
from calotype.types import Denoise

F64 = torch.float64
DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "howto" / "add-a-sampler.md"
CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

COSINE = Schedule(Cosine())
OPEN = Schedule(Cosine(None, None))
STABLE_DIFFUSION = Schedule(ScaledLinear())
FLOW = Schedule(Flow(), LinearPath())
SMOOTH = {
    "cosine": COSINE,
    "linear": Schedule(Linear()),
    "stable diffusion": STABLE_DIFFUSION,
    "shifted": Schedule(Shifted(Cosine(), -1.386)),
    "flow": FLOW,
}
ENDS = {"cosine": COSINE, "open cosine": OPEN, "stable diffusion": STABLE_DIFFUSION, "flow": FLOW}

smooth = pytest.mark.parametrize("schedule", SMOOTH.values(), ids=SMOOTH.keys())
ends = pytest.mark.parametrize("schedule", ENDS.values(), ids=ENDS.keys())
WHOLE = {name: schedule for name, schedule in ENDS.items() if schedule is not COSINE}  # without a remainder of noise
whole = pytest.mark.parametrize("schedule", WHOLE.values(), ids=WHOLE.keys())

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


@dataclass(frozen=True)
class Case:
    """A sampler and what is expected of it, which only the default fields declare."""

    sampler: Sampler
    order: int
    stochastic: bool


CHURN = Churn(amount=4.0)
VARIANTS = {
    "ddim, half ancestral": Case(DDIM(eta=0.5), 1, True),
    "ddpm, fixed large": Case(DDPM(FixedLarge()), 1, True),
    "euler, churned": Case(Euler(CHURN), 1, True),
    "heun, churned": Case(Heun(CHURN), 2, True),
    "plms, short start": Case(PLMS(runge_kutta=False), 2, False),
    "unipc 1, b1": Case(UniPC(p=1, b=1), 2, False),
    "unipc 3": Case(UniPC(p=3), 3, False),
    "unip": Case(UniPC(corrector=False), 2, False),
}


EXAMPLE = "the example of add-a-sampler.md"
NAMES = [*samplers, *VARIANTS, EXAMPLE]
DETERMINISTIC = [n for n in NAMES if n == EXAMPLE or not (VARIANTS[n] if n in VARIANTS else samplers[n]).stochastic]


def case_of(request) -> Case:
    if request.param in VARIANTS:
        return VARIANTS[request.param]
    sampler = samplers[request.param]() if request.param in samplers else request.getfixturevalue("example")
    return Case(sampler, sampler.order, sampler.stochastic)


@pytest.fixture(params=NAMES)
def case(request):
    return case_of(request)


@pytest.fixture(params=DETERMINISTIC)
def deterministic(request):
    return case_of(request)


@pytest.fixture
def sampler(case):
    return case.sampler


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


def visits(grid: str, schedule: Schedule, steps: int) -> Tensor | None:
    """The grid's times, or None if it tells the user that this schedule or number of steps is not for it."""
    try:
        return grids[grid]()(schedule, steps)
    except UserError:
        return None


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
    assert all(times[-1] <= t[0] <= 1 for t in calls), "churn looks back, nobody looks ahead"


def test_keeps_no_state_between_or_beside_walks(sampler):
    def walk():
        x = torch.tensor([[0.3], [-1.2]], dtype=F64)
        return sampler(MIXTURE_1D.denoise(COSINE), x, between(0.9, 0.1, 5), COSINE, SampleNoise([1, 2]))

    alone = [step.x for step in walk()]
    for a, b, x in zip(walk(), walk(), alone, strict=True):
        assert torch.equal(a.x, x) and torch.equal(b.x, x)
    [*islice(walk(), 2)]
    assert all(torch.equal(step.x, x) for step, x in zip(walk(), alone, strict=True))


def test_may_be_given_up_at_any_time(sampler):
    calls = 0

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return GAUSSIAN.denoise(COSINE)(x, t)

    walk = sampler(denoise, torch.zeros(3, 1, dtype=F64), between(0.9, 0.1, 6), COSINE, no_noise)
    next(walk)
    asked = calls
    walk.close()
    assert torch.is_grad_enabled() and calls == asked and [*walk] == []


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


@smooth
def test_converges_on_a_gaussian_at_the_declared_order(case, schedule):
    """x_0 ~ N(mu, s^2): every deterministic path keeps its quantile; a stochastic one keeps mean and variance."""
    mean, std = GAUSSIAN.means.item(), GAUSSIAN.stds.item()
    start, end, denoise = 0.84, 0.2, GAUSSIAN.denoise(schedule)

    def moments(t: float | Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = schedule.at(torch.as_tensor(t, dtype=F64))
        return alpha * mean, alpha**2 * std**2 + sigma**2

    (mean_t, var_t), (mean_s, var_s) = moments(start), moments(end)
    errors = []
    for steps in (40, 80):
        times = between(start, end, steps)
        if case.stochastic:
            response = impulse_response(case.sampler, denoise, times, schedule, mean_t, var_t.sqrt())
            errors.append((response.square().sum() - var_s).abs().item())
        else:
            walk = case.sampler(denoise, (mean_t + var_t.sqrt()).view(1, 1), times, schedule, no_noise)
            # over the later half of the walk, for the error at a single time may happen to cross zero
            x = torch.cat([step.x[0] for step in walk])[steps // 2 :]
            mean_x, var_x = moments(times[1 + steps // 2 :])
            errors.append((x - mean_x - var_x.sqrt()).square().mean().sqrt().item())
    assert measured_order(errors) >= case.order - 0.4, errors
    centre = run(case.sampler, denoise, mean_t.view(1, 1), between(start, end, 7), schedule)
    assert torch.allclose(centre, mean_s, atol=1e-12), "the mean of a Gaussian is kept by any steps"


def impulse_response(
    sampler: Sampler, denoise: Denoise, times: Tensor, schedule: Schedule, centre: Tensor, std: Tensor
) -> Tensor:
    """How far the result moves with x (by one std) and with each noise drawn: on a Gaussian a walk is affine in them,
    so the sum of squares is the exact variance of the result, without any random numbers."""
    count = 0

    def counted(x: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return torch.zeros_like(x)

    rest = run(sampler, denoise, centre.view(1, 1), times, schedule, counted)
    impulses = iter(torch.eye(count + 1, dtype=F64)[1:])
    x = centre + torch.eye(count + 1, dtype=F64)[0][:, None] * std
    return run(sampler, denoise, x, times, schedule, lambda x: next(impulses)[:, None]) - rest


@smooth
def test_converges_on_a_mixture_at_the_declared_order(deterministic, schedule):
    """In one dimension the probability flow keeps quantiles: x_s = CDF_s^-1(CDF_t(x_t))."""
    start, end = torch.tensor([0.84, 0.2], dtype=F64)  # whole table entries at every number of steps
    x_t = torch.linspace(-1.7, 1.7, 9, dtype=F64)
    exact = quantile(cdf(x_t, *schedule.at(start)), *schedule.at(end))
    errors = []
    for steps in (40, 80):
        x = run(deterministic.sampler, MIXTURE_1D.denoise(schedule), x_t[:, None], between(0.84, 0.2, steps), schedule)
        errors.append((x[:, 0] - exact).square().mean().sqrt().item())
    assert measured_order(errors) >= deterministic.order - 0.4, errors


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


@whole
def test_samples_have_the_mean_and_covariance_of_the_data(sampler, schedule):
    n, data, g = 6000, MIXTURE_2D, torch.Generator().manual_seed(0)
    # equal steps in t, and for the sake of Heun and PLMS from a sigma / alpha of at most 80, as the Karras grid has it
    times = UniformGrid()(schedule, 60).clamp(max=schedule.time(torch.tensor(-8.76, dtype=F64)))
    x = schedule.at(times[0])[1] * torch.randn(n, 2, generator=g, dtype=F64)
    x = run(sampler, data.denoise(schedule), x, times, schedule, lambda x: torch.randn(x.shape, generator=g).to(x))
    # four standard errors of 6 000 samples (0.045 for means, 0.055 for variances), plus as much for the 60 steps
    assert torch.allclose(x.mean(0), data.mean(), atol=0.09)
    assert torch.allclose(x.T.cov(), data.covariance(), atol=0.11)


@pytest.mark.parametrize("grid", [*grids])
@whole
def test_arrives_at_a_single_point_whatever_the_steps(sampler, schedule, grid):
    point = torch.tensor([0.7, -0.3], dtype=F64)
    denoise = GaussianMixture.gaussian(point, 0.0).denoise(schedule)
    for steps in (1, 2, 7):
        if (times := visits(grid, schedule, steps)) is not None:
            x = torch.tensor([[0.1, 1.3], [-2.0, 0.4]], dtype=F64)
            x = run(sampler, denoise, x, times, schedule, SampleNoise([1, 2]))
            assert torch.allclose(x, point.expand(2, 2), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)  # float64 is everywhere else
@ends
def test_is_finite_at_both_ends_in_every_dtype(sampler, schedule, dtype):
    exact = MIXTURE_2D.denoise(schedule)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return exact(x.to(torch.promote_types(x.dtype, torch.float32)), t)

    x = torch.tensor([[0.5, -1.0], [2.0, 0.1]], dtype=dtype)
    for grid in grids:
        for steps in (1, 2, 5):
            if (times := visits(grid, schedule, steps)) is not None:
                for step in sampler(denoise, x, times, schedule, SampleNoise([1, 2])):
                    assert step.x.isfinite().all() and step.x_0.isfinite().all()
                    assert step.x.dtype == step.x_0.dtype == torch.promote_types(dtype, torch.float32)


def test_every_grid_takes_some_of_these_schedules():
    for grid in grids:
        assert any(visits(grid, schedule, 8) is not None for schedule in ENDS.values()), grid


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


def test_depends_on_noise_if_and_only_if_it_says_so(case):
    x = torch.tensor([[0.5], [-1.0]], dtype=F64)
    a, b = (
        run(case.sampler, MIXTURE_1D.denoise(COSINE), x, between(0.9, 0.1, 5), COSINE, SampleNoise([seed, seed + 1]))
        for seed in (1, 100)
    )
    assert torch.equal(a, b) is not case.stochastic


# --------------------------------------------------------------------------------------------------------- the pages


def test_the_table_of_orders_and_costs_is_true():
    """docs/concepts/sampler.md: name, order, stochastic, network calls for n steps."""
    text = (DOCS / "concepts" / "sampler.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d \| (?:yes|no) \| [^|]*) \|", text, re.MULTILINE))
    assert set(rows) == {*samplers} - {"midpoint"}
    for name, row in rows.items():
        order, stochastic, calls = row.split(" | ")
        assert int(order) == samplers[name].order and (stochastic == "yes") is samplers[name].stochastic
        factor, offset = re.fullmatch(r"(\d?) ?n ?((?:[+-] \d+)?)", calls).groups()
        for n in (10, 20):
            assert calls_for(samplers[name](), n) == int(factor or 1) * n + int(offset.replace(" ", "") or 0), name


def calls_for(sampler: Sampler, n: int) -> int:
    count = 0

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return torch.zeros_like(x)

    run(sampler, denoise, torch.ones(1, 1, dtype=F64), UniformGrid()(COSINE, n), COSINE)
    return count


def test_the_page_shows_the_sampler_in_use(example, tmp_path, capsys):
    script = tmp_path / "use.py"
    script.write_text(CODE[1], encoding="utf-8")
    runpy.run_path(str(script))
    printed = capsys.readouterr().out
    errors = [float(line.split()[-1]) for line in printed.splitlines()]
    assert len(errors) == 3 and errors[0] > 3 * errors[1] > 9 * errors[2], printed
