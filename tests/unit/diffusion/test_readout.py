"""The last step of a likelihood, against sums and integrals."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion.readout import Discretized, Gaussian
from calotype.errors import UserError

F64 = torch.float64
LEVELS = torch.arange(256, dtype=F64) / 127.5 - 1


def cases() -> tuple[torch.Tensor, torch.Tensor]:
    mean = torch.tensor([-1.2, -1.0, -0.3, 0.0, 0.501, 1.0, 1.7], dtype=F64)[:, None, None]
    std = torch.tensor([1e-4, 1e-3, 0.004, 0.05, 0.5, 3.0], dtype=F64)[:, None]
    return mean, 2 * std.log()


def test_the_density_is_that_of_a_gaussian():
    mean, log_variance = cases()
    expected = -torch.distributions.Normal(mean, (log_variance / 2).exp()).log_prob(LEVELS)
    assert torch.allclose(Gaussian()(LEVELS, mean, log_variance), expected, rtol=1e-12)


@pytest.mark.parametrize("readout", [Discretized(), Discretized(approximate=True)], ids=str)
def test_the_256_masses_sum_to_one(readout):
    mass = (-readout(LEVELS.expand(7, 6, 256), *cases())).exp().sum(-1)
    # the approximation holds every probability above 1e-12
    assert torch.allclose(mass, torch.ones_like(mass), atol=3e-10 if readout.approximate else 1e-13)


def test_every_mass_is_the_integral_over_its_cell():
    """In the logarithm, so that cells twenty deviations away are compared too."""
    mean, log_variance = cases()
    x = LEVELS[1:-1, None]  # the inner cells
    compared = 0
    for m in mean.flatten():
        for lv in log_variance.flatten()[2:]:
            # composite Simpson, as fine as the Gaussian is narrow
            n = 2 * max(64, int(4 / math.exp(lv / 2))) + 1
            places = torch.linspace(-1 / 255, 1 / 255, n, dtype=F64)
            weight = torch.full((n,), 2.0, dtype=F64)
            weight[1::2], weight[0], weight[-1] = 4.0, 1.0, 1.0
            weight = weight * (2 / 255 / (n - 1) / 3)
            density = -0.5 * ((x + places - m) ** 2 * (-lv).exp() + lv + math.log(2 * math.pi))
            log_mass = torch.logsumexp(density + weight.log(), 1)
            near = log_mass > -200  # farther out, Simpson's rule no longer resolves the slope
            found = -Discretized()(x[:, 0], m, lv)
            assert torch.allclose(found[near], log_mass[near], rtol=2e-6, atol=2e-6)
            compared += int(near.sum())
    assert compared > 1000


def test_the_approximation_is_that_of_ddpm():
    def cdf(x):
        return 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    for level in (0, 1, 100, 254, 255):
        for mean, std in ((0.0, 0.5), (-0.95, 0.01), (0.99, 0.1), (1.0, 0.001)):
            x = level / 127.5 - 1
            above, below = cdf((x - mean + 1 / 255) / std), cdf((x - mean - 1 / 255) / std)
            p = above if level == 0 else 1 - below if level == 255 else above - below
            found = Discretized(approximate=True)(
                torch.tensor([x], dtype=F64), torch.tensor(mean, dtype=F64), torch.tensor(2 * math.log(std), dtype=F64)
            )
            assert found.item() == pytest.approx(-math.log(max(p, 1e-12)), rel=1e-9)


def test_the_approximation_is_near():
    x, mean, log_variance = LEVELS[100:156], torch.tensor(0.1, dtype=F64), torch.tensor(-2.0, dtype=F64)
    exact, approximate = (Discretized(a)(x, mean, log_variance) for a in (False, True))
    assert 1e-6 < (exact - approximate).abs().max() < 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_value_and_gradients_are_finite_anywhere(dtype):
    x = LEVELS.to(dtype)
    for m in (-3.0, 0.2, 1.0):
        for lv in (-25.0, -10.0, 0.0, 4.0):
            mean = torch.full_like(x, m, requires_grad=True)
            log_variance = torch.full_like(x, lv, requires_grad=True)
            nats = Discretized()(x, mean, log_variance)
            nats.sum().backward()
            assert nats.isfinite().all() and mean.grad.isfinite().all() and log_variance.grad.isfinite().all()


@pytest.mark.parametrize("x", [0.1234, 1.01, -1.2, float("nan")])
def test_values_that_are_no_8_bit_pixels_are_refused(x):
    with pytest.raises(UserError, match="8 bits"):
        Discretized()(torch.tensor([[x]]), torch.zeros(1, 1), torch.zeros(1, 1))
