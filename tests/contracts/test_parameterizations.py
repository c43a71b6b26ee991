"""What every parameterization must do."""

from __future__ import annotations

import itertools

import pytest
import torch

from calotype.diffusion import EDM, Mixed, parameterizations
from calotype.registry import from_plain, to_plain

F64 = torch.float64
PARAMETERIZATIONS = [*(parameterizations[name]() for name in parameterizations), EDM(0.5), Mixed(0.9)]
each = pytest.mark.parametrize("p", PARAMETERIZATIONS, ids=str)

logsnr = torch.linspace(-20, 20, 41, dtype=F64)[:, None]


def amplitudes(scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """|log-SNR| <= 20, on the variance preserving path (scale 1) and off it."""
    return scale * logsnr.sigmoid().sqrt(), scale * (-logsnr).sigmoid().sqrt()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@each
def test_survives_a_config_file(p):
    assert from_plain(to_plain(p)) == p


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


@each
@pytest.mark.parametrize("scale", [1.0, 0.3, 2.0])
def test_the_target_is_the_coefficients_solved_for_f(p, scale):
    """(x_0 - c_skip x_t) / c_out, where c_out is not small."""
    alpha, sigma = (v[10:31] for v in amplitudes(scale))
    x_0, eps = draw(21, 8), draw(21, 8, seed=1)
    c_skip, c_out, _ = p.coefficients(alpha, sigma)
    solved = (x_0 - c_skip * (alpha * x_0 + sigma * eps)) / c_out
    assert torch.allclose(p.target(x_0, eps, alpha, sigma), solved, rtol=1e-8, atol=1e-10)
