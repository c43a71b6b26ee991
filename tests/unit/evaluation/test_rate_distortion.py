"""Progressive coding of Gaussian pictures by the exact denoiser, where Shannon's curve is known."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from calotype.autoencoder.base import Autoencoder, PixelSpace
from calotype.conditioning.conditioner import Conditioners
from calotype.diffusion import X0, Cosine, Denoiser, Linear, LogSNRGrid, Schedule, UniformGrid
from calotype.diffusion.variance import FixedLarge, LearnedRange
from calotype.errors import UserError
from calotype.evaluation.rate_distortion import rate_distortion
from calotype.model import LatentDiffusion
from calotype.registry import to_plain

S = 0.2
SCHEDULE = Schedule(Cosine())
N, SIDE = 24, 16


class Exact(nn.Module):
    """E[x_0 | x_t] of N(0, std^2), and perhaps v = 0."""

    def __init__(self, schedule: Schedule, std: float, outputs: int = 1) -> None:
        super().__init__()
        self.schedule, self.std, self.outputs = schedule, std, outputs

    def forward(self, x, time, cond):
        t = (time.double() - self.schedule.clock.offset) / self.schedule.clock.scale
        alpha, sigma = (v.to(x).view(-1, 1, 1, 1) for v in self.schedule.at(t))
        x_0 = alpha * self.std**2 * x / (alpha**2 * self.std**2 + sigma**2)
        return torch.cat([x_0, *[torch.zeros_like(x)] * (self.outputs - 1)], 1)


class Halved(Autoencoder):
    """A first stage that keeps the mean of every 2 x 2 pixels, brought to the spread of the pixels."""

    factor, channels = 2, 3

    @dataclass(frozen=True)
    class Config:
        def build(self):
            return Halved()

    config = Config()

    def moments(self, image):
        z = 2 * F.avg_pool2d(image, 2)
        return z, torch.zeros_like(z)

    def decode(self, z):
        return F.interpolate(z / 2, scale_factor=2)


def model(autoencoder=None, schedule=SCHEDULE, variance=None) -> LatentDiffusion:
    network = Exact(schedule, S, 1 if variance is None else variance.outputs)
    denoiser = Denoiser(network, schedule, X0(), variance=variance)
    return LatentDiffusion(autoencoder or PixelSpace(), denoiser, Conditioners({}, {}), side=SIDE)


def batches(size: int = 8, n: int = N):
    x = S * torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    index = torch.arange(n)
    return [{"image": x[i : i + size], "index": index[i : i + size]} for i in range(0, n, size)]


def closed_form(times, schedule=SCHEDULE):
    """(rate in bits, mean squared error) at every time but the last: prior, and half a step in SNR times the error."""
    snr = schedule.logsnr(times[:-1]).exp()
    mse = S**2 / (1 + S**2 * snr)
    terms = 0.5 * (snr[1:] - snr[:-1]) * mse[:-1]
    return (0.5 * snr[:1] * S**2 + torch.cat([snr.new_zeros(1), terms.cumsum(0)])) / math.log(2), mse


@pytest.mark.parametrize("schedule", [SCHEDULE, Schedule(Linear())], ids=["cosine", "linear"])
def test_the_curve_of_a_gaussian_is_the_closed_form(schedule):
    times = UniformGrid()(schedule, 60)
    curve = rate_distortion(model(schedule=schedule), batches(), times)
    rate, mse = closed_form(times, schedule)
    assert curve.times == tuple(times[:-1].tolist()) and curve.n == N and curve.side == (SIDE, SIDE)
    for found, expected in zip(curve.rate, rate.tolist(), strict=True):
        # 18432 numbers in all: a mean of squares is known to about 1 %
        assert found.mean == pytest.approx(expected, rel=0.02, abs=1e-8)
        assert found.n == N
    assert list(curve.rmse) == pytest.approx((127.5 * mse.sqrt()).tolist(), rel=0.02)
    assert curve.bits_per_pixel == tuple(3 * rate.mean for rate in curve.rate)


def test_fine_steps_come_to_shannons_curve():
    """R(D) = 1/2 log2(s^2 / D), Cover & Thomas, theorem 10.3.2: no code is better, and this one gets as near as its
    steps are short."""
    gaps = []
    for steps in (40, 160):
        curve = rate_distortion(model(), batches(), LogSNRGrid(0.02, 80)(SCHEDULE, steps), points=9)
        shannon = [math.log2(S * 127.5 / rmse) for rmse in curve.rmse]
        assert all(r.mean > d - 0.02 for r, d in zip(curve.rate, shannon, strict=True))
        gaps.append(max(r.mean - d for r, d in zip(curve.rate, shannon, strict=True)))
    assert gaps[1] < 0.35 * gaps[0] and gaps[1] < 0.2


def test_bits_only_add_up_and_errors_only_fall():
    curve = rate_distortion(model(), batches(), UniformGrid()(SCHEDULE, 30))
    assert all(a.mean <= b.mean for a, b in pairwise(curve.rate))
    # where nearly nothing is known of the pictures, the noise of 18432 numbers is more than what a step adds
    assert all(a > b - 0.05 for a, b in pairwise(curve.rmse)) and curve.rmse[-1] < 0.3 * curve.rmse[0]
    assert all(a.mean < b.mean + 0.02 for a, b in pairwise(curve.psnr))
    assert curve.rate[0].mean < 1e-6, "at t = 1 nothing but the prior is paid"
    assert curve.psnr[5].mean == pytest.approx(20 * math.log10(255 / curve.rmse[5]), abs=0.1)


def test_points_choose_where_to_look_not_what_is_paid():
    times = UniformGrid()(SCHEDULE, 30)
    every, some = (rate_distortion(model(), batches(), times, points=points) for points in (None, 4))
    assert len(some.times) == 4 and some.times[0] == 1 and some.times[-1] == every.times[-1]
    for t, rate, rmse in zip(some.times, some.rate, some.rmse, strict=True):
        k = every.times.index(t)
        assert rate == every.rate[k] and rmse == every.rmse[k]


def test_latents_pay_per_pixel_and_end_at_what_the_first_stage_loses():
    times = UniformGrid()(SCHEDULE, 60)
    curve = rate_distortion(model(Halved()), batches(), times)
    rate, mse = closed_form(times)
    for found, expected in zip(curve.rate, rate.tolist(), strict=True):
        assert found.mean == pytest.approx(expected / 4, rel=0.03, abs=1e-8)
    # means of 4 pixels hold a quarter of the variance; an error of z counts a quarter in every pixel
    expected = (0.75 * S**2 + mse / 4).sqrt() * 127.5
    assert list(curve.rmse) == pytest.approx(expected.tolist(), rel=0.02)
    assert "latents (f = 2)" in curve.protocol


def test_a_picture_does_not_depend_on_its_batch():
    times = UniformGrid()(SCHEDULE, 6)
    a, b = (rate_distortion(model(), batches(size), times, seed=3) for size in (8, 5))
    assert list(a.rmse) == pytest.approx(list(b.rmse), rel=1e-6)
    assert [r.mean for r in a.rate] == pytest.approx([r.mean for r in b.rate], rel=1e-5)
    other = rate_distortion(model(), batches(), times, seed=4)
    assert a.rate[-1] != other.rate[-1]


def test_the_variance_is_that_of_the_sampler():
    """The large variance wastes bits on pictures far narrower than N(0, 1), and a v of 0 half as many logarithms."""
    times = UniformGrid()(SCHEDULE, 12)
    small, large = (rate_distortion(model(), batches(), times, variance=v).rate[-1].mean for v in (None, FixedLarge()))
    learned = rate_distortion(model(variance=LearnedRange()), batches(), times)
    assert small != learned.rate[-1].mean != large and "learned_range" in learned.protocol
    assert large > learned.rate[-1].mean


def test_clipping_keeps_predictions_in_range():
    """Far too loud predictions, clipped, make no error beyond the range and cost less."""
    loud = model()
    loud.denoiser.network.std = 50.0
    times = UniformGrid()(SCHEDULE, 12)
    free, clipped = (rate_distortion(loud, batches(), times, clip=clip) for clip in (False, True))
    assert clipped.rate[-1].mean < free.rate[-1].mean and "x_0_hat clipped" in clipped.protocol
    assert clipped.rmse == free.rmse  # a picture is shown clipped in any case
    with pytest.raises(UserError, match="no range"):
        rate_distortion(model(Halved()), batches(), times, clip=True)


def test_a_perceptual_distance_is_measured_if_asked_for():
    class Distance(nn.Module):
        name = "absolute"

        def forward(self, x, y):
            return (x - y).abs().mean((1, 2, 3))

    curve = rate_distortion(model(), batches(), UniformGrid()(SCHEDULE, 4), perceptual=Distance())
    assert curve.distance == "absolute" and len(curve.perceptual) == 4
    assert curve.perceptual[0].mean > curve.perceptual[-1].mean
    assert rate_distortion(model(), batches(), UniformGrid()(SCHEDULE, 4)).perceptual is None


def test_the_record_is_json():
    curve = rate_distortion(model(), batches(), UniformGrid()(SCHEDULE, 4))
    assert json.loads(json.dumps(to_plain(curve), allow_nan=False))["n"] == N


@pytest.mark.parametrize(
    ("times", "options", "words"),
    [([1.0, 0.5], {}, "ends at t = 0"), ([0.0], {}, "at least 1 step"), ([1.0, 0.0], {"points": 0}, "points")],
)
def test_chains_that_send_nothing_are_refused(times, options, words):
    with pytest.raises(UserError, match=words):
        rate_distortion(model(), batches(), torch.tensor(times, dtype=torch.float64), **options)


def test_one_picture_is_no_curve():
    with pytest.raises(ValueError, match="at least 2 pictures"):
        rate_distortion(model(), batches(n=1), UniformGrid()(SCHEDULE, 4))
