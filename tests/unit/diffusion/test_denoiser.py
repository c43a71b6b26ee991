"""Network, schedule and parameterization together."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from calotype.condition import Condition
from calotype.diffusion import (
    EDM,
    X0,
    Cosine,
    Denoiser,
    Epsilon,
    GaussianMixture,
    LogLinear,
    Schedule,
    VarianceExploding,
    Velocity,
)
from calotype.errors import UserError

F64 = torch.float64
SCHEDULE = Schedule(Cosine())
NOTHING = Condition()


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x, time, cond):
        return self.scale * x.to(self.scale) + time.view(-1, 1, 1, 1) / 1000


@pytest.mark.parametrize("p", [X0(), Epsilon(), Velocity()], ids=str)
def test_an_exact_network_gives_the_exact_posterior_mean(p):
    exact = GaussianMixture.gaussian(torch.full((2, 3, 3), 0.2, dtype=F64), 0.5).denoise(SCHEDULE)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=F64)

    def network(x, time, cond):
        alpha, sigma = (v.view(-1, 1, 1, 1) for v in SCHEDULE.at(t))
        c_skip, c_out, _ = p.coefficients(alpha, sigma)
        return (exact(x, t) - c_skip * x) / c_out

    x = torch.randn(3, 2, 3, 3, dtype=F64)
    assert torch.allclose(Denoiser(network, SCHEDULE, p)(x, t, NOTHING), exact(x, t), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, F64], ids=str)
def test_answers_in_float32_or_better(dtype):
    denoiser = Denoiser(Network(), SCHEDULE, Velocity())
    x_0 = denoiser(torch.randn(2, 1, 4, 4).to(dtype), torch.tensor([0.0, 1.0]), NOTHING)
    assert x_0.dtype == torch.promote_types(dtype, torch.float32) and x_0.isfinite().all()


def test_answers_in_float32_under_autocast():
    class Convolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x, time, cond):
            y = self.conv(x)
            assert y.dtype == torch.bfloat16
            return y

    denoiser = Denoiser(Convolution(), SCHEDULE, Velocity())
    with torch.autocast("cpu", torch.bfloat16):
        assert denoiser(torch.randn(1, 1, 4, 4), torch.tensor([0.5]), NOTHING).dtype == torch.float32


def test_half_precision_samples_are_combined_in_float32():
    x = torch.full((1, 1, 1, 1), 1.01, dtype=torch.bfloat16)
    t = torch.tensor([0.3])
    denoiser = Denoiser(lambda x, time, cond: torch.zeros_like(x), SCHEDULE, Velocity())
    assert torch.equal(denoiser(x, t, NOTHING), denoiser(x.float(), t, NOTHING))


def test_bind_is_the_call_with_the_condition_inside():
    seen = []

    def network(x, time, cond):
        seen.append(cond)
        return x

    cond = Condition(vector=torch.ones(2, 3))
    x, t = torch.randn(2, 1, 2, 2), torch.tensor([0.2, 0.7])
    denoiser = Denoiser(network, SCHEDULE, X0())
    assert torch.equal(denoiser.bind(cond)(x, t), denoiser(x, t, cond))
    assert all(c is cond for c in seen)


def test_owns_the_networks_weights_and_nothing_else():
    denoiser = Denoiser(Network(), SCHEDULE, Velocity())
    assert [*denoiser.state_dict()] == ["network.scale"]
    denoiser(torch.randn(2, 1, 2, 2), torch.tensor([0.2, 0.7]), NOTHING).sum().backward()
    assert denoiser.network.scale.grad is not None
    assert copy.deepcopy(denoiser).schedule == SCHEDULE


def test_epsilon_is_refused_where_no_signal_is_left():
    with pytest.raises(UserError, match=r"Epsilon prediction is undefined at t = 1.*logsnr_min"):
        Denoiser(Network(), Schedule(Cosine(None, None)), Epsilon())


def test_an_output_of_another_shape_is_refused():
    denoiser = Denoiser(lambda x, time, cond: x[:, :1], SCHEDULE, Velocity())
    with pytest.raises(UserError, match=r"shape \(2, 1, 4, 4\) to a latent of shape \(2, 3, 4, 4\)"):
        denoiser(torch.zeros(2, 3, 4, 4), torch.tensor([0.5, 0.5]), NOTHING)


def test_the_network_is_shown_unit_variance():
    """c_in: data of deviation 0.5 under exploding noise arrive at the network with deviation 1."""
    seen = []

    def network(x, time, cond):
        seen.append(x)
        return x

    schedule = Schedule(LogLinear(-6, 6), VarianceExploding())
    t = torch.tensor([0.2, 0.8], dtype=F64)
    x = torch.randn(2, 1, 4, 4, dtype=F64)
    Denoiser(network, schedule, EDM(0.5))(x, t, NOTHING)
    _, sigma = schedule.at(t)
    assert torch.allclose(seen[0], x / (sigma**2 + 0.25).sqrt().view(-1, 1, 1, 1), rtol=1e-12)
