"""The variance of the reverse step and the terms of the bound, as the released codes have them.

diffusers' scheduler gives the variances; at the step that arrives at the data, where it and the papers' codes differ,
it adds no noise, so its value there is never used and is left out.

The bound is that of DDPM's and ADM's code, written here in their tables of betas: means by two coefficients, "clipped"
log variances, KL of two Gaussians, the mean over dimensions over log 2, and the readout in place of the KL at index 0.
"""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler

from calotype.diffusion import Linear, ScaledLinear, Schedule, UniformGrid
from calotype.diffusion.likelihood import discrete_bound
from calotype.diffusion.readout import Discretized
from calotype.diffusion.variance import FixedLarge, FixedSmall, LearnedRange, PosteriorVariance, Prediction, Transition

F64 = torch.float64
TABLES = {
    "stable diffusion": (ScaledLinear(), {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
    "ddpm": (Linear(), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
}
VARIANCES = {"fixed_small": FixedSmall(), "fixed_large": FixedLarge(), "learned_range": LearnedRange()}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", VARIANCES)
@pytest.mark.parametrize("steps", [1000, 50, 10])
def test_variances_are_those_of_diffusers(table, kind, steps):
    curve, options = TABLES[table]
    theirs = DDPMScheduler(**options, variance_type=kind, timestep_spacing="trailing")
    # their table is a float32 product of a thousand factors; an exact one leaves only the formulas to compare
    theirs.alphas_cumprod, theirs.one = (1 - curve.betas()).cumprod(0), torch.tensor(1.0, dtype=F64)
    theirs.set_timesteps(steps)
    v = torch.linspace(-1.2, 1.2, 6, dtype=F64).view(1, 1, 2, 3)
    times = UniformGrid()(Schedule(curve), steps)
    for k, index in list(enumerate(theirs.timesteps))[:-1][:: max(1, steps // 50)]:
        expected = theirs._get_variance(index, predicted_variance=v)
        expected = expected if kind == "learned_range" else expected.log()  # the former is a logarithm already
        step = Transition.of(Schedule(curve), times[k], times[k + 1])
        found = VARIANCES[kind].log_variance(step, v, v)
        assert torch.allclose(found, expected.expand_as(found), rtol=1e-7), f"step {k}"


class Noisy(PosteriorVariance):
    """Any prediction and any v that depend on x_t and t."""

    def __call__(self, x_t, t):
        return self.predict(x_t, t).x_0

    def predict(self, x_t, t):
        return Prediction(torch.tanh(x_t) * (1 - t.view(-1, 1, 1, 1)), torch.sin(5 * x_t))


@pytest.mark.parametrize("kind", VARIANCES)
def test_the_bound_is_that_of_the_papers_code(kind):
    betas = Linear().betas()
    abar = (1 - betas).cumprod(0)
    before = torch.cat([abar.new_ones(1), abar[:-1]])
    small = betas * (1 - before) / (1 - abar)
    clipped = torch.cat([small[1:2], small[1:]]).log()
    large = torch.cat([small[1:2], betas[1:]]).log()
    c_0, c_x = betas * before.sqrt() / (1 - abar), (1 - before) * (1 - betas).sqrt() / (1 - abar)

    g = torch.Generator().manual_seed(0)
    x_0 = torch.randint(0, 256, (2, 1, 4, 4), generator=g).double() / 127.5 - 1
    eps = torch.randn(2, 1, 4, 4, generator=g, dtype=F64)
    expected = []
    for i in reversed(range(1000)):
        x_t = abar[i].sqrt() * x_0 + (1 - abar[i]).sqrt() * eps
        found, v = Noisy().predict(x_t, torch.full((2,), (i + 1) / 1000, dtype=F64))
        f = (v + 1) / 2
        log_variance = {
            "fixed_small": clipped[i].expand_as(v),
            "fixed_large": large[i].expand_as(v),
            "learned_range": f * betas[i].log() + (1 - f) * clipped[i],
        }[kind]
        mean, true = (c_0[i] * x + c_x[i] * x_t for x in (found, x_0))
        if i:
            delta = true - mean
            nats = 0.5 * (
                -1 + log_variance - clipped[i] + (clipped[i] - log_variance).exp() + delta**2 * (-log_variance).exp()
            )
        else:
            nats = discretized(x_0, mean, log_variance / 2)
        expected.append(nats.mean((1, 2, 3)) / math.log(2))
    prior = 0.5 * (-1 - (1 - abar[-1]).log() + (1 - abar[-1]) + abar[-1] * x_0**2).mean((1, 2, 3)) / math.log(2)

    schedule = Schedule(Linear())
    bound = discrete_bound(
        Noisy(),
        x_0,
        UniformGrid()(schedule, 1000),
        schedule,
        lambda x: eps,
        variance=VARIANCES[kind],
        readout=Discretized(approximate=True),
    )
    assert torch.allclose(bound.terms, torch.stack(expected[:-1], 1), rtol=1e-6)
    assert torch.allclose(bound.readout, expected[-1], rtol=1e-6)
    # their prior is N(0, 1), ours what sampling begins with, N(0, sigma(1)^2): abar^2 / 4 apart
    assert torch.allclose(bound.prior, prior, rtol=1e-4)


def discretized(x, mean, log_scale):
    def cdf(y):
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))

    above = cdf((x - mean + 1 / 255) * (-log_scale).exp())
    below = cdf((x - mean - 1 / 255) * (-log_scale).exp())
    p = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
    return -p.clamp(min=1e-12).log()
