"""Densities along the ODE of an exact denoiser, against the densities themselves."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.condition import Condition
from calotype.diffusion import X0, Cosine, Denoiser, GaussianMixture, Linear, LinearPath, Schedule, VarianceExploding
from calotype.diffusion.probability_flow import (
    CELL,
    HEUN,
    RK4,
    ExactTrace,
    Hutchinson,
    bits_per_dimension,
    dequantized,
    log_density,
)
from calotype.errors import UserError
from calotype.rng import SampleNoise

F64 = torch.float64


SCHEDULES = [
    Schedule(Cosine()),
    Schedule(Linear()),
    Schedule(Cosine(), LinearPath()),
    Schedule(Cosine(), VarianceExploding()),
]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)

# of mean zero: sampling begins in N(0, sigma^2), which is off by alpha(1) times the mean, 0.006 of it for a table
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0, 0.3], [0.6, 0.0], [0.0, -0.45]], dtype=F64),
    torch.tensor([0.5, 0.3, 0.8], dtype=F64),
    torch.tensor([0.3, 0.5, 0.2], dtype=F64),
)


def truth(mixture, x):
    """sum_k w_k N(x; mu_k, s_k^2 I), in the logarithm."""
    away = (x[:, None] - mixture.means).flatten(2)
    d = away.shape[2]
    each = -0.5 * (away.square().sum(2) / mixture.stds**2 + d * (2 * math.pi * mixture.stds**2).log())
    return torch.logsumexp(each + mixture.weights.log(), 1)


def points(n: int, *shape: int) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0), dtype=F64)


def unused(x):
    raise AssertionError("an exact trace draws nothing")


@each_schedule
def test_the_density_of_a_gaussian(schedule):
    gaussian = GaussianMixture.gaussian(torch.zeros(1, 1, 3, dtype=F64), 0.6)
    x = 0.6 * points(8, 1, 1, 3)
    found = log_density(gaussian.denoise(schedule), x, schedule, unused, steps=32, trace=ExactTrace(), t_min=1e-4)
    assert torch.allclose(found, truth(gaussian, x), atol=1e-3)


@each_schedule
@pytest.mark.parametrize(("method", "steps"), [(RK4, 48), (HEUN, 256)], ids=["rk4", "heun"])
def test_the_density_of_a_mixture(schedule, method, steps):
    x = MIXTURE.draw(points(16, 2), torch.linspace(0, 0.99, 16, dtype=F64))
    denoise, trace = MIXTURE.denoise(schedule), ExactTrace()
    found = log_density(denoise, x, schedule, unused, steps=steps, method=method, trace=trace, t_min=1e-4)
    assert torch.allclose(found, truth(MIXTURE, x), atol=1e-3)


@each_schedule
def test_data_may_lie_at_any_time(schedule):
    """Samples at t_min are x_0 + sigma / alpha eps there, and so is the density that is found."""
    t_min = 0.3
    alpha, sigma = schedule.at(torch.tensor(t_min, dtype=F64))
    noisy = GaussianMixture(MIXTURE.means, (MIXTURE.stds**2 + (sigma / alpha) ** 2).sqrt(), MIXTURE.weights)
    x = noisy.draw(points(16, 2), torch.linspace(0, 0.99, 16, dtype=F64))
    found = log_density(MIXTURE.denoise(schedule), x, schedule, unused, trace=ExactTrace(), t_min=t_min)
    assert torch.allclose(found, truth(noisy, x), atol=1e-3)


def test_the_density_of_a_mixture_integrates_to_one():
    """Over the plane, by the trapezoid: neither volumes nor normalisation are lost."""
    axis = torch.linspace(-4, 4, 33, dtype=F64)
    x = torch.cartesian_prod(axis, axis)
    found = log_density(MIXTURE.denoise(SCHEDULES[0]), x, SCHEDULES[0], unused, steps=24, trace=ExactTrace())
    assert (found.exp().sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("method", "order"), [(HEUN, 2), (RK4, 4)], ids=["heun", "rk4"])
def test_the_methods_have_their_order(method, order):
    x, denoise = points(4, 2), MIXTURE.denoise(SCHEDULES[0])

    def at(steps, method=method):
        return log_density(denoise, x, SCHEDULES[0], unused, steps=steps, method=method, trace=ExactTrace())

    best = at(320, RK4)
    errors = [(at(steps) - best).norm() for steps in (48, 96)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.6)


@pytest.mark.parametrize("method", [HEUN, RK4], ids=["heun", "rk4"])
def test_the_tableaus_are_consistent(method):
    assert sum(method.weights) == pytest.approx(1)
    assert [sum(row) for row in method.stages] == pytest.approx(list(method.nodes))
    assert [len(row) for row in method.stages] == list(range(len(method.nodes)))


# ------------------------------------------------------------------------------------------------------------ the trace


def test_random_signs_find_the_trace_in_the_mean():
    n = 4000
    x = points(1, 2).expand(n, 2)
    options = {"steps": 12, "method": HEUN}
    denoise = MIXTURE.denoise(SCHEDULES[0])
    exact = log_density(denoise, x[:1], SCHEDULES[0], unused, trace=ExactTrace(), **options)
    one, four = (
        log_density(denoise, x, SCHEDULES[0], SampleNoise.range(0, n), trace=Hutchinson(k), **options) for k in (1, 4)
    )
    for found in (one, four):
        assert abs(found.mean() - exact.item()) < 4 * found.std() / math.sqrt(n)
    assert (one.std() / four.std()).item() == pytest.approx(2, rel=0.15)


def test_signs_are_exact_where_dimensions_do_not_mix():
    """Of a Gaussian the Jacobian is a multiple of one, and v^T v = D for signs."""
    x = points(4, 2, 3, 3)
    denoise = GaussianMixture.gaussian(torch.zeros(2, 3, 3, dtype=F64), 0.5).denoise(SCHEDULES[0])
    exact, signs = (
        log_density(denoise, x, SCHEDULES[0], SampleNoise.range(0, 4), steps=8, trace=trace)
        for trace in (ExactTrace(), Hutchinson())
    )
    assert torch.allclose(exact, signs, rtol=1e-9)


def test_a_sample_does_not_depend_on_its_batch():
    x, denoise = points(4, 2), MIXTURE.denoise(SCHEDULES[0])
    whole = log_density(denoise, x, SCHEDULES[0], SampleNoise.range(3, 4), steps=8)
    parts = [log_density(denoise, x[i : i + 2], SCHEDULES[0], SampleNoise.range(3, 2, i), steps=8) for i in (0, 2)]
    assert torch.allclose(torch.cat(parts), whole, rtol=1e-9)


# ------------------------------------------------------------------------------------------------------------ in bits


def test_uniform_pixels_cost_8_bits():
    """The density of uniform pixels, dequantised, is one over the length of 256 cells."""
    x = torch.zeros(2, 3, 4, 4, dtype=F64)
    log_p = torch.full((2,), -48 * math.log(256 * CELL), dtype=F64)
    assert torch.allclose(bits_per_dimension(log_p, x, CELL), torch.full((2,), 8.0, dtype=F64))
    assert torch.allclose(bits_per_dimension(log_p, x), torch.full((2,), math.log2(256 * CELL), dtype=F64))


def test_dequantised_pixels_stay_in_their_cells():
    levels = (torch.arange(256).float() / 127.5 - 1).repeat(40, 1)
    x = dequantized(levels, SampleNoise.range(0, 40))
    away = (x - levels) / CELL
    assert away.abs().max() <= 0.5 + 1e-4 and abs(away.mean()) < 0.01
    assert away.std().item() == pytest.approx(math.sqrt(1 / 12), rel=0.03)
    assert torch.equal(x, dequantized(levels, SampleNoise.range(0, 40)))


# ------------------------------------------------------------------------------------------------------- how it is used


def test_a_network_is_asked_without_leaving_gradients():
    network = torch.nn.Conv2d(2, 2, 1)
    denoiser = Denoiser(lambda x, time, cond: network(x), SCHEDULES[0], X0())
    with torch.no_grad():
        found = log_density(
            denoiser.bind(Condition()), torch.randn(2, 2, 4, 4), SCHEDULES[0], SampleNoise.range(0, 2), steps=4
        )
    assert found.isfinite().all() and found.dtype == torch.float32
    assert not found.requires_grad and network.weight.grad is None


def test_an_open_end_is_cut():
    schedule = Schedule(Cosine(logsnr_min=None))
    x = points(4, 2)
    found = log_density(MIXTURE.denoise(schedule), x, schedule, unused, steps=48, trace=ExactTrace())
    assert torch.allclose(found, truth(MIXTURE, x), atol=1e-3)


@pytest.mark.parametrize("fields", [{"steps": 0}, {"t_min": 0.0}, {"t_min": 1.5}])
def test_flows_from_nowhere_are_refused(fields):
    with pytest.raises(UserError, match="flow needs"):
        log_density(MIXTURE.denoise(SCHEDULES[0]), points(1, 2), SCHEDULES[0], unused, **fields)


def test_no_draw_is_no_trace():
    with pytest.raises(UserError, match="at least 1 draw"):
        Hutchinson(0)
