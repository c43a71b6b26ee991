"""The forward process."""

from __future__ import annotations

import torch

from calotype.diffusion import Cosine, Schedule
from calotype.diffusion.schedule import rows, wide

F64 = torch.float64


def test_perturb_is_alpha_x_0_plus_sigma_eps_per_sample():
    schedule = Schedule()
    t = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    x_0, eps = torch.randn(2, 3, 2, 4, 4, dtype=F64)
    alpha, sigma = schedule.at(t)
    x_t = schedule.perturb(x_0, eps, t)
    for i in range(3):
        assert torch.equal(x_t[i], alpha[i] * x_0[i] + sigma[i] * eps[i])


def test_perturb_keeps_the_dtype_of_the_sample():
    for dtype in (torch.bfloat16, torch.float32):
        x = torch.ones(2, 1, 2, 2, dtype=dtype)
        assert Schedule().perturb(x, x, torch.tensor([0.1, 0.2], dtype=F64)).dtype == dtype


def test_unit_variance_is_preserved():
    alpha, sigma = Schedule(Cosine(None, None)).at(torch.linspace(0, 1, 33, dtype=F64))
    assert torch.allclose(alpha**2 + sigma**2, torch.ones(33, dtype=F64), rtol=0, atol=1e-15)


def test_rows_and_wide():
    x = torch.zeros(2, 3, 4, 5, dtype=torch.bfloat16)
    assert rows(torch.ones(2, dtype=F64), x).shape == (2, 1, 1, 1) and rows(torch.ones(2), x).dtype == torch.bfloat16
    assert (wide(x), wide(x.float()), wide(x.double())) == (torch.float32, torch.float32, F64)
