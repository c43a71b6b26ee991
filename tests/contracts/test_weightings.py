"""What every weighting must do."""

from __future__ import annotations

import pytest
import torch

from calotype.condition import Condition
from calotype.diffusion import (
    P2,
    X0,
    Cosine,
    Denoiser,
    Flow,
    LinearPath,
    MinSNR,
    Objective,
    Schedule,
    Sigmoid,
    parameterizations,
    weightings,
)
from calotype.registry import from_plain, to_plain

F64 = torch.float64
PARAMETERIZATIONS = [parameterizations[name]() for name in parameterizations]
WEIGHTINGS = [*(weightings[name]() for name in weightings), MinSNR(1.0), P2(0.5, 0.5), Sigmoid(-3.0, Flow())]
each = pytest.mark.parametrize("p", PARAMETERIZATIONS, ids=str)
each_weighting = pytest.mark.parametrize("weighting", WEIGHTINGS, ids=str)

logsnr = torch.linspace(-20, 20, 41, dtype=F64)[:, None]


def amplitudes(scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """|log-SNR| <= 20, on the variance preserving path (scale 1) and off it."""
    return scale * logsnr.sigmoid().sqrt(), scale * (-logsnr).sigmoid().sqrt()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@each_weighting
def test_survives_a_config_file(weighting):
    assert from_plain(to_plain(weighting)) == weighting


@each_weighting
def test_cites_its_source(weighting):
    assert "http" in type(weighting).__doc__


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
    expected = weighting.on_x_0(alpha, sigma)
    for p in PARAMETERIZATIONS:
        _, c_out, _ = p.coefficients(alpha, sigma)
        assert torch.allclose(weighting(alpha, sigma, c_out) / c_out**2, expected, rtol=1e-12)


@each_weighting
def test_is_defined_without_signal(weighting):
    no, full = torch.zeros(1), torch.ones(1)
    m = weighting(no, full, X0().coefficients(no, full).c_out)
    assert m.isfinite() and m >= 0 and m.dtype == torch.float32


@each_weighting
@pytest.mark.parametrize("schedule", [Schedule(Cosine()), Schedule(Flow(), LinearPath())], ids=["cosine", "flow"])
def test_the_loss_does_not_depend_on_the_parameterization(weighting, schedule):
    """Networks that say the same thing about x_0 in other words get the same loss."""
    x_0, eps, answer = draw(6, 2, 3, 3), draw(6, 2, 3, 3, seed=1), draw(6, 2, 3, 3, seed=2)
    t = torch.tensor([0.02, 0.2, 0.4, 0.6, 0.8, 0.98], dtype=F64)
    losses = []
    for p in PARAMETERIZATIONS:
        alpha, sigma = (v.view(-1, 1, 1, 1) for v in schedule.at(t))
        if not p.coefficients(*schedule.at(torch.ones(1))).c_out.isfinite():
            continue  # refused on this schedule
        c_skip, c_out, _ = p.coefficients(alpha, sigma)

        def network(x, time, cond, c_skip=c_skip, c_out=c_out):
            return (answer - c_skip * schedule.perturb(x_0, eps, t)) / c_out

        loss, metrics = Objective(weighting)(Denoiser(network, schedule, p), x_0, Condition(), t, eps)
        assert loss.shape == (6,)
        assert torch.allclose(metrics["error_x0"], (answer - x_0).square().mean(), rtol=1e-9)
        losses.append(loss)
    assert len(losses) >= 4
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
