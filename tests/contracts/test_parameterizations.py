"""What every parameterization and every weighting must do."""

from __future__ import annotations

import itertools

import pytest
import torch

from calotype.condition import Condition
from calotype.diffusion import (
    Cosine,
    Denoiser,
    MinSNR,
    Objective,
    Schedule,
    parameterizations,
    weightings,
)
from calotype.registry import from_plain, to_plain

F64 = torch.float64
PARAMETERIZATIONS = [parameterizations[name]() for name in parameterizations]
WEIGHTINGS = [*(weightings[name]() for name in weightings), MinSNR(1.0)]
each = pytest.mark.parametrize("p", PARAMETERIZATIONS, ids=str)
each_weighting = pytest.mark.parametrize("weighting", WEIGHTINGS, ids=str)

logsnr = torch.linspace(-20, 20, 41, dtype=F64)[:, None]


def amplitudes(scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """|log-SNR| <= 20, on the variance preserving path (scale 1) and off it."""
    return scale * logsnr.sigmoid().sqrt(), scale * (-logsnr).sigmoid().sqrt()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("member", [*PARAMETERIZATIONS, *WEIGHTINGS], ids=str)
def test_survives_a_config_file(member):
    assert from_plain(to_plain(member)) == member


@each
@pytest.mark.parametrize("scale", [1.0, 0.3, 2.0])
def test_the_target_read_back_is_x_0(p, scale):
    alpha, sigma = amplitudes(scale)
    x_0, eps = draw(41, 8), draw(41, 8, seed=1)
    x_t = alpha * x_0 + sigma * eps
    c_skip, c_out, _ = p.coefficients(alpha, sigma)
    back = c_skip * x_t + c_out * p.target(x_0, eps, alpha, sigma)
    # x_t holds x_0 to within rounding times sigma / alpha, and no reading of it can do better
    bound = 1e-12 * (sigma / alpha).clamp(min=1)
    assert ((back - x_0).abs() < bound).all()


@pytest.mark.parametrize("pair", [*itertools.product(PARAMETERIZATIONS, repeat=2)], ids=str)
def test_round_trip_through_any_other(pair):
    """F_p -> (x_0, eps) -> F_q -> (x_0, eps) -> F_p, for all |log-SNR| <= 20."""
    p, q = pair
    alpha, sigma = amplitudes(1.0)
    x_0, eps = draw(41, 8), draw(41, 8, seed=1)
    x_t = alpha * x_0 + sigma * eps
    f_p = p.target(x_0, eps, alpha, sigma)

    def read(r, f):
        c_skip, c_out, _ = r.coefficients(alpha, sigma)
        x_0 = c_skip * x_t + c_out * f
        return x_0, (x_t - alpha * x_0) / sigma

    f_q = q.target(*read(p, f_p), alpha, sigma)
    back = p.target(*read(q, f_q), alpha, sigma)
    # the one of (x_0, eps) that is drowned in x_t is known to rounding times the ratio of amplitudes, and no better
    condition = torch.maximum(alpha / sigma, sigma / alpha)
    assert ((back - f_p).abs() < 1e-14 * condition * f_p.abs().clamp(min=1)).all()
    assert ((back - f_p)[(logsnr.abs() <= 12).squeeze()].abs() < 1e-12).all()


@each
def test_coefficients_have_the_shape_of_alpha_and_are_finite_where_there_is_signal(p):
    for c in p.coefficients(*amplitudes(1.0)):
        assert c.shape == logsnr.shape and c.isfinite().all()
    clean = p.coefficients(torch.ones(3), torch.zeros(3))
    assert all(c.isfinite().all() for c in clean)


# -------------------------------------------------------------------------------------------------------- the weights


@each
@each_weighting
def test_multiplier_is_positive_and_finite(p, weighting):
    alpha, sigma = amplitudes(1.0)
    m = weighting(alpha, sigma, p.coefficients(alpha, sigma).c_out)
    assert m.shape == alpha.shape and m.isfinite().all() and (m > 0).all()


@each_weighting
def test_means_the_same_error_under_any_parameterization(weighting):
    """m |d_F|^2 is one number whoever predicts: with d_F = d_x / c_out, m / c_out^2 must not depend on c_out."""
    alpha, sigma = amplitudes(0.7)
    per_x_0 = [
        weighting(alpha, sigma, c_out) / c_out**2
        for c_out in (p.coefficients(alpha, sigma)[1] for p in PARAMETERIZATIONS)
    ]
    for other in per_x_0[1:]:
        assert torch.allclose(other, per_x_0[0], rtol=1e-12)


@each_weighting
def test_the_loss_does_not_depend_on_the_parameterization(weighting):
    """Networks that say the same thing about x_0 in other words get the same loss."""
    schedule = Schedule(Cosine())
    x_0, eps, answer = draw(6, 2, 3, 3), draw(6, 2, 3, 3, seed=1), draw(6, 2, 3, 3, seed=2)
    t = torch.tensor([0.02, 0.2, 0.4, 0.6, 0.8, 0.98], dtype=F64)
    losses = []
    for p in PARAMETERIZATIONS:
        alpha, sigma = (v.view(-1, 1, 1, 1) for v in schedule.at(t))
        c_skip, c_out, _ = p.coefficients(alpha, sigma)

        def network(x, time, cond, c_skip=c_skip, c_out=c_out):
            return (answer - c_skip * schedule.perturb(x_0, eps, t)) / c_out

        loss, metrics = Objective(weighting)(Denoiser(network, schedule, p), x_0, Condition(), t, eps)
        assert loss.shape == (6,)
        assert torch.allclose(metrics["error_x0"], (answer - x_0).square().mean(), rtol=1e-9)
        losses.append(loss)
    for loss in losses[1:]:
        assert torch.allclose(loss, losses[0], rtol=1e-9)


@each
@each_weighting
def test_a_perfect_prediction_costs_nothing_and_every_error_costs(p, weighting):
    schedule = Schedule(Cosine())
    x_0, eps = draw(3, 2, 3, 3), draw(3, 2, 3, 3, seed=1)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    target = p.target(x_0, eps, *(v.view(-1, 1, 1, 1) for v in schedule.at(t)))
    objective = Objective(weighting)
    right, _ = objective(Denoiser(lambda x, time, cond: target, schedule, p), x_0, Condition(), t, eps)
    wrong, _ = objective(Denoiser(lambda x, time, cond: target + 1, schedule, p), x_0, Condition(), t, eps)
    assert torch.equal(right, torch.zeros(3, dtype=F64)) and (wrong > 0).all()
