"""The table of predictions, formula by formula."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import EDM, X0, Epsilon, FlowVelocity, Mixed, Velocity
from calotype.errors import UserError

F64 = torch.float64
alpha, sigma = torch.tensor([0.9, 0.5, 0.2], dtype=F64), torch.tensor([0.3, 0.5, 1.4], dtype=F64)


def test_coefficients():
    one = torch.ones_like(alpha)
    power = alpha**2 + sigma**2
    expected = {
        X0(): (0 * one, one, one),
        Epsilon(): (1 / alpha, -sigma / alpha, one),
        Velocity(): (alpha / power, -sigma / power, one),
        FlowVelocity(): (1 / (alpha + sigma), -sigma / (alpha + sigma), one),
        EDM(): (alpha / power, sigma / power.sqrt(), 1 / power.sqrt()),
        Mixed(0.3): (1 / alpha - 0.7 * sigma**2 / (alpha * power), -0.3 * sigma / alpha, one),
    }
    for p, values in expected.items():
        assert all(torch.allclose(a, b, rtol=1e-14) for a, b in zip(p.coefficients(alpha, sigma), values, strict=True))


def test_edm_as_the_paper_prints_it():
    s, sigma = 0.5, torch.tensor([0.002, 0.3, 1.0, 80.0], dtype=F64)
    c_skip, c_out, c_in = EDM(0.5).coefficients(torch.ones_like(sigma), sigma)
    assert torch.allclose(c_skip, s**2 / (sigma**2 + s**2), rtol=1e-14)
    assert torch.allclose(c_out, sigma * s / (sigma**2 + s**2).sqrt(), rtol=1e-14)
    assert torch.allclose(c_in, 1 / (sigma**2 + s**2).sqrt(), rtol=1e-14)


def test_edm_has_input_and_target_of_unit_variance():
    """For x_0 of standard deviation s: the variances of c_in x_t and of F, from those of x_0 and eps."""
    s = 0.7
    _, _, c_in = EDM(s).coefficients(alpha, sigma)
    assert torch.allclose(c_in**2 * (alpha**2 * s**2 + sigma**2), torch.ones_like(alpha))
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    of_x_0, of_eps = EDM(s).target(one, zero, alpha, sigma), EDM(s).target(zero, one, alpha, sigma)
    assert torch.allclose((s * of_x_0) ** 2 + of_eps**2, one)


def test_edm_for_unit_variance_is_velocity_with_the_sign_changed():
    logsnr = torch.linspace(-9, 9, 19, dtype=F64)
    a, s = logsnr.sigmoid().sqrt(), (-logsnr).sigmoid().sqrt()
    edm, v = EDM(1.0).coefficients(a, s), Velocity().coefficients(a, s)
    for ours, theirs in zip(edm, (v.c_skip, -v.c_out, v.c_in), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-13)


def test_mixed_knows_the_answer_for_a_standard_normal():
    """There E[eps | x_t] = sigma x_t / (alpha^2 + sigma^2), and the network has nothing to add to it or take away."""
    x_t, power = torch.tensor([1.0, -2, 3], dtype=F64), alpha**2 + sigma**2
    for share in (0.1, 0.5, 1.0):
        c_skip, c_out, _ = Mixed(share).coefficients(alpha, sigma)
        assert torch.allclose(c_skip * x_t + c_out * (sigma * x_t / power), alpha * x_t / power, rtol=1e-12)


def test_mixed_with_the_whole_share_is_epsilon():
    for a, b in zip(Mixed(1.0).coefficients(alpha, sigma), Epsilon().coefficients(alpha, sigma), strict=True):
        assert torch.allclose(a, b, rtol=1e-14)


def test_targets():
    x_0, eps = torch.tensor([1.0, -2, 3], dtype=F64), torch.tensor([0.5, 0.1, -1], dtype=F64)
    assert torch.equal(X0().target(x_0, eps, alpha, sigma), x_0)
    assert torch.equal(Epsilon().target(x_0, eps, alpha, sigma), eps)
    assert torch.equal(Velocity().target(x_0, eps, alpha, sigma), alpha * eps - sigma * x_0)
    assert torch.equal(FlowVelocity().target(x_0, eps, alpha, sigma), eps - x_0)


def test_flow_is_the_derivative_of_the_straight_line():
    x_0, eps, t, h = torch.tensor([1.0, -2, 3], dtype=F64), torch.tensor([0.5, 0.1, -1], dtype=F64), 0.4, 1e-6
    ahead, behind = ((1 - s) * x_0 + s * eps for s in (t + h, t - h))
    assert torch.allclose(FlowVelocity().target(x_0, eps, alpha, sigma), (ahead - behind) / (2 * h), rtol=1e-8)


@pytest.mark.parametrize("p", [X0(), Velocity(), FlowVelocity(), EDM()], ids=str)
def test_is_defined_without_signal(p):
    no, full = torch.zeros(1), torch.ones(1)
    assert all(c.isfinite().all() for c in p.coefficients(no, full))
    assert p.target(full, 2 * full, no, full).isfinite()


def test_wrong_fields_are_explained():
    with pytest.raises(UserError, match="sigma_data > 0"):
        EDM(0.0)
    for share in (0.0, 1.5):
        with pytest.raises(UserError, match=r"in \(0, 1\]"):
            Mixed(share)
