"""The table of loss weights: multipliers on the errors of eps, x_0 and v, as functions of SNR."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion import (
    EDM,
    P2,
    VPSDE,
    X0,
    Cosine,
    CosMapTimes,
    Epsilon,
    Flow,
    FlowVelocity,
    LinearPath,
    LogitNormalTimes,
    LogNormal,
    MinSNR,
    ModeTimes,
    Schedule,
    Sigmoid,
    SoftMinSNR,
    TruncatedSNR,
    UniformEDM,
    UniformEpsilon,
    UniformFlow,
    UniformTimes,
    UniformVelocity,
    UniformX0,
    VarianceExploding,
    VariancePreserving,
    Velocity,
)
from calotype.errors import UserError

F64 = torch.float64
logsnr = torch.linspace(-10, 10, 21, dtype=F64)
alpha, sigma = logsnr.sigmoid().sqrt(), (-logsnr).sigmoid().sqrt()
snr = logsnr.exp()
one = torch.ones_like(snr)

TABLE = {
    (UniformEpsilon(), Epsilon()): one,
    (UniformEpsilon(), X0()): snr,
    (UniformEpsilon(), Velocity()): snr / (snr + 1),
    (UniformVelocity(), Epsilon()): (snr + 1) / snr,
    (UniformVelocity(), X0()): snr + 1,
    (UniformVelocity(), Velocity()): one,
    (MinSNR(5.0), Epsilon()): snr.clamp(max=5) / snr,
    (MinSNR(5.0), X0()): snr.clamp(max=5),
    (MinSNR(5.0), Velocity()): snr.clamp(max=5) / (snr + 1),
    (UniformX0(), Epsilon()): 1 / snr,
    (UniformX0(), X0()): one,
    (UniformX0(), Velocity()): 1 / (snr + 1),
    (TruncatedSNR(), Epsilon()): (1 / snr).clamp(min=1),
    (TruncatedSNR(), X0()): snr.clamp(min=1),
    (TruncatedSNR(), Velocity()): snr.clamp(min=1) / (snr + 1),
    (SoftMinSNR(4.0), Epsilon()): 4 / (snr + 4),
    (SoftMinSNR(4.0), X0()): 4 * snr / (snr + 4),
    (SoftMinSNR(4.0), Velocity()): 4 * snr / ((snr + 4) * (snr + 1)),
    (P2(), Epsilon()): 1 / (1 + snr),
    (P2(), X0()): snr / (1 + snr),
    (P2(2.0, 0.5), Epsilon()): (2 + snr) ** -0.5,
    (P2(gamma=0.0), Epsilon()): one,
    # sigma of the paper is 1 / sqrt(snr)
    (UniformEDM(0.5), Epsilon()): (1 / snr + 0.25) / 0.25,
    (UniformEDM(0.5), X0()): (1 / snr + 0.25) / (0.25 / snr),
    (UniformEDM(0.5), EDM(0.5)): one,
    (UniformFlow(), FlowVelocity()): one,
    (UniformFlow(), Epsilon()): (1 + snr**-0.5) ** 2,
    (UniformFlow(), X0()): (1 + snr**0.5) ** 2,
    (Sigmoid(-1.0), Epsilon()): (-1 - logsnr).sigmoid() * Cosine().slope(Cosine().time(logsnr)).abs(),
}


@pytest.mark.parametrize("pair", [*TABLE], ids=str)
def test_multiplier(pair):
    weighting, p = pair
    m = weighting(alpha, sigma, p.coefficients(alpha, sigma).c_out)
    assert torch.allclose(m, TABLE[pair], rtol=1e-12)


@pytest.mark.parametrize("pair", [*TABLE], ids=str)
def test_the_expected_weighted_error_is_the_stated_one(pair):
    """m |d_F|^2 is the stated multiple of |d_eps|^2 for an error d_F of any prediction."""
    weighting, p = pair
    x_0, eps, d = torch.randn(3, 50, 21, dtype=F64, generator=torch.Generator().manual_seed(0))
    c_skip, c_out, _ = p.coefficients(alpha, sigma)
    x_t = alpha * x_0 + sigma * eps
    wrong = c_skip * x_t + c_out * (p.target(x_0, eps, alpha, sigma) + d)
    d_eps = (x_t - alpha * wrong) / sigma - eps
    on_eps = TABLE[(weighting, Epsilon())]
    m = weighting(alpha, sigma, c_out)
    assert torch.allclose((m * d**2).mean(0), (on_eps * d_eps**2).mean(0), rtol=1e-6)


@pytest.mark.parametrize("path", [VariancePreserving(), LinearPath(), VarianceExploding()], ids=str)
@pytest.mark.parametrize(
    ("weighting", "p"),
    [
        (UniformEpsilon(), Epsilon()),
        (UniformX0(), X0()),
        (UniformVelocity(), Velocity()),
        (UniformFlow(), FlowVelocity()),
        (UniformEDM(0.5), EDM(0.5)),
    ],
    ids=str,
)
def test_is_one_for_the_network_that_predicts_just_that_on_every_path(weighting, p, path):
    amplitudes = path(logsnr)
    m = weighting(*amplitudes, p.coefficients(*amplitudes).c_out)
    assert torch.allclose(m, torch.ones_like(m), rtol=1e-12)


def test_min_snr_is_exactly_zero_without_signal_and_finite():
    no, full = torch.zeros(1), torch.ones(1)
    assert MinSNR()(no, full, Velocity().coefficients(no, full).c_out) == 0


def test_velocity_weighting_keeps_the_terminal_step():
    no, full = torch.zeros(1), torch.ones(1)
    assert UniformVelocity()(no, full, Velocity().coefficients(no, full).c_out) == 1


@pytest.mark.parametrize("weighting", [SoftMinSNR(), P2(), Sigmoid()], ids=str)
def test_others_that_give_the_terminal_step_no_weight(weighting):
    no, full = torch.zeros(1), torch.ones(1)
    assert weighting(no, full, Velocity().coefficients(no, full).c_out) == 0


def test_soft_min_snr_is_a_factor_on_the_loss_of_edms_f():
    """((sigma s)^2 / (sigma^2 + s^2)^2 on |d_F|^2, that is, up to a constant, for gamma = 1 / s^2."""
    s, sigma_edm = 0.5, snr**-0.5
    m = SoftMinSNR(4.0)(alpha, sigma, EDM(s).coefficients(alpha, sigma).c_out)
    factor = (sigma_edm * s) ** 2 / (sigma_edm**2 + s**2) ** 2
    ratio = m / factor
    assert torch.allclose(ratio, ratio[:1].expand_as(ratio), rtol=1e-9)


# ------------------------------------------------------------------------------------------ weights that are densities

times = torch.linspace(0.02, 0.98, 97, dtype=F64)


def in_the_integral(weighting, schedule):
    """w with loss = integral of w |d_eps|^2 over log-SNR: the multiplier on |d_eps|^2 times the density of log-SNR."""
    a, s = schedule.at(times)
    m = weighting(a, s, Epsilon().coefficients(a, s).c_out)
    return m / schedule.curve.slope(times).abs(), schedule.logsnr(times)


def test_what_is_minimised_in_the_end():
    cosine, flow, s = Schedule(Cosine(None, None)), Schedule(Flow(), LinearPath()), 0.5
    published = [
        (UniformEpsilon(), cosine, lambda x: 1 / (x / 2).cosh()),
        (UniformVelocity(), cosine, lambda x: (-x / 2).exp()),
        (UniformFlow(), flow, lambda x: (-x / 2).exp()),
        (
            UniformEDM(s),
            Schedule(LogNormal(sigma_data=1.0)),
            lambda x: (-(((x - 2.4) / 2.4) ** 2) / 2).exp() * ((-x).exp() + s**2),
        ),
    ]
    for weighting, schedule, w in published:
        found, x = in_the_integral(weighting, schedule)
        ratio = found / w(x)
        assert torch.allclose(ratio, ratio[:1].expand_as(ratio), rtol=1e-8), weighting


@pytest.mark.parametrize("curve", [Cosine(), VPSDE(), Flow()], ids=str)
def test_sigmoid_is_the_same_integral_on_every_curve(curve):
    w, x = in_the_integral(Sigmoid(-2.0, curve), Schedule(curve))
    assert torch.allclose(w, (-2 - x).sigmoid(), rtol=1e-8)


@pytest.mark.parametrize("sampler", [UniformTimes(), LogitNormalTimes(0.5, 0.6), ModeTimes(), CosMapTimes()], ids=str)
def test_a_density_of_times_on_a_flow_is_a_weight(sampler):
    """Drawing t from pi is, in -1/2 E[w logsnr' |d_eps|^2] over uniform t, the weight w = pi t / (1 - t)."""
    u, h = times, 1e-6
    t = sampler.quantile(u)
    pi = 2 * h / (sampler.quantile(u + h) - sampler.quantile(u - h))
    a, s = Schedule(Flow(), LinearPath()).at(t)
    drawn = pi * UniformFlow()(a, s, Epsilon().coefficients(a, s).c_out)
    weighted = -0.5 * pi * t / (1 - t) * Flow().slope(t)
    assert torch.allclose(drawn, weighted, rtol=1e-9)


def test_wrong_fields_are_explained():
    for weighting, fields, match in (
        (MinSNR, (0.0,), "gamma > 0"),
        (SoftMinSNR, (-1.0,), "gamma > 0"),
        (P2, (0.0, 1.0), "k > 0"),
        (P2, (1.0, -1.0), "gamma >= 0"),
        (UniformEDM, (0.0,), "sigma_data > 0"),
        (Sigmoid, (math.nan,), "finite bias"),
    ):
        with pytest.raises(UserError, match=match):
            weighting(*fields)
