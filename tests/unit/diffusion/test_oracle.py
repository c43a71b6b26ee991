"""The oracle against brute force: the truth that others are measured by is measured itself."""

from __future__ import annotations

import torch

from calotype.diffusion import Cosine, GaussianMixture, Schedule

F64 = torch.float64
SCHEDULE = Schedule(Cosine())
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0], [0.8]], dtype=F64), torch.tensor([0.5, 0.3], dtype=F64), torch.tensor([0.4, 0.6], dtype=F64)
)


def test_a_gaussian_is_shrunk_to_its_mean():
    x, t = torch.randn(4, 2, 3, dtype=F64), torch.tensor([0.1, 0.4, 0.7, 0.95], dtype=F64)
    alpha, sigma = (v.view(-1, 1, 1) for v in SCHEDULE.at(t))
    exact = GaussianMixture.gaussian(torch.zeros(2, 3, dtype=F64), 0.7).denoise(SCHEDULE)
    assert torch.allclose(exact(x, t), alpha * 0.49 * x / (alpha**2 * 0.49 + sigma**2))


def test_a_mixture_is_the_integral_of_bayes_rule():
    x_0 = torch.linspace(-6, 6, 20_001, dtype=F64)
    density = (
        MIXTURE.weights * (-((x_0[:, None] - MIXTURE.means[:, 0]) ** 2) / (2 * MIXTURE.stds**2)).exp() / MIXTURE.stds
    ).sum(1)
    for t in (0.1, 0.5, 0.9):
        time = torch.tensor([t], dtype=F64)
        alpha, sigma = SCHEDULE.at(time)
        for x in (-1.3, 0.0, 0.4, 2.0):
            posterior = density * (-((x - alpha * x_0) ** 2) / (2 * sigma**2)).exp()
            expected = (posterior * x_0).sum() / posterior.sum()
            found = MIXTURE.denoise(SCHEDULE)(torch.tensor([[x]], dtype=F64), time)
            assert torch.allclose(found.squeeze(), expected, rtol=1e-8)


def test_draws_have_the_stated_moments():
    g = torch.Generator().manual_seed(0)
    x = MIXTURE.draw(torch.randn(50_000, 1, generator=g, dtype=F64), torch.rand(50_000, generator=g))
    assert torch.allclose(x.mean(0), MIXTURE.mean(), atol=0.02)
    assert torch.allclose(x.T.cov(), MIXTURE.covariance(), rtol=0.02)


def test_is_finite_far_from_the_data():
    exact = MIXTURE.denoise(SCHEDULE)
    assert exact(torch.tensor([[1e4], [-1e4]]), torch.tensor([0.01, 0.99])).isfinite().all()
