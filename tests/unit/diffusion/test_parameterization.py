"""The table of predictions, formula by formula."""

from __future__ import annotations

import torch

from calotype.diffusion import X0, Epsilon, Velocity

F64 = torch.float64
alpha, sigma = torch.tensor([0.9, 0.5, 0.2], dtype=F64), torch.tensor([0.3, 0.5, 1.4], dtype=F64)


def test_coefficients():
    one = torch.ones_like(alpha)
    power = alpha**2 + sigma**2
    expected = {
        X0(): (0 * one, one, one),
        Epsilon(): (1 / alpha, -sigma / alpha, one),
        Velocity(): (alpha / power, -sigma / power, one),
    }
    for p, values in expected.items():
        assert all(torch.equal(a, b) for a, b in zip(p.coefficients(alpha, sigma), values, strict=True))


def test_targets():
    x_0, eps = torch.tensor([1.0, -2, 3], dtype=F64), torch.tensor([0.5, 0.1, -1], dtype=F64)
    assert torch.equal(X0().target(x_0, eps, alpha, sigma), x_0)
    assert torch.equal(Epsilon().target(x_0, eps, alpha, sigma), eps)
    assert torch.equal(Velocity().target(x_0, eps, alpha, sigma), alpha * eps - sigma * x_0)


def test_velocity_and_x0_are_defined_without_signal():
    no, full = torch.zeros(1), torch.ones(1)
    for p in (X0(), Velocity()):
        assert all(c.isfinite().all() for c in p.coefficients(no, full))
