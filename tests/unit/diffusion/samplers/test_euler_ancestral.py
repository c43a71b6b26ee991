"""Euler-ancestral is DDIM with eta = 1: its own formula, term by term."""

from __future__ import annotations

from itertools import pairwise

import torch

from calotype.diffusion import Cosine, GaussianMixture, Schedule
from calotype.diffusion.samplers import EulerAncestral
from calotype.rng import SampleNoise

F64 = torch.float64


def test_it_is_the_formula_in_sigma():
    schedule = Schedule(Cosine())
    denoise = GaussianMixture.gaussian(torch.tensor([0.3], dtype=F64), 0.5).denoise(schedule)
    times = torch.linspace(0.95, 0.1, 8, dtype=F64)
    x, noise = torch.tensor([[0.4], [-1.1]], dtype=F64), SampleNoise([1, 2])
    steps = EulerAncestral()(denoise, x, times, schedule, SampleNoise([1, 2]))
    y = x / schedule.at(times[0])[0]
    for (t, s), step in zip(pairwise(times), steps, strict=True):
        (a_t, s_t), (a_s, s_s) = schedule.at(t), schedule.at(s)
        here, there = s_t / a_t, s_s / a_s
        up = (there**2 * (here**2 - there**2) / here**2).sqrt()
        down = (there**2 - up**2).sqrt()
        slope = (y - denoise(a_t * y, t.expand(2))) / here
        y = y + (down - here) * slope + up * noise(y)
        assert torch.allclose(step.x, a_s * y, rtol=1e-12)
