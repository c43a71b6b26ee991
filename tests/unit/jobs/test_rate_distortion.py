"""Gaussian pictures and their exact denoiser, where every answer is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from PIL import Image
from torch import nn

from calotype.autoencoder.base import PixelSpace
from calotype.autoencoder.bottleneck.gaussian import GaussianConfig
from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.conditioning.conditioner import Conditioners
from calotype.data.loader import pictures
from calotype.data.source import Record, Source
from calotype.diffusion import X0, Cosine, Denoiser, GaussianMixture, LogSNRGrid, Schedule, UniformGrid
from calotype.generation.images import to_pil
from calotype.jobs.rate_distortion import Coding, code, received
from calotype.model import LatentDiffusion
from calotype.nn.encoder_decoder import EncoderDecoderConfig

S, N, SIDE = 0.2, 8, 32
SCHEDULE = Schedule(Cosine())
ENTROPY = 0.5 * math.log2(2 * math.pi * math.e * S**2) + math.log2(127.5)
"""Bits of a number of N(0, S^2) to within a cell of 2 / 255."""


class Noise(Source):
    """Pictures of independent numbers, in 8 bits."""

    name, classes = "noise", ()

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Record:
        return Record(self._image(index), "a wish that nobody hears", -1, str(index))

    def _image(self, index: int) -> Image.Image:
        return to_pil(S * torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(index)))

    def captions(self) -> list[str]:
        return ["a wish that nobody hears"] * N

    def labels(self) -> list[int]:
        return [-1] * N

    def key(self, index: int) -> str:
        return str(index)

    def fingerprint(self) -> str:
        return "noise"


@dataclass(frozen=True)
class Exact:
    """E[x_0 | x_t] of N(0, S^2) as a network that is asked for x_0."""

    def __call__(self, x: torch.Tensor, time: torch.Tensor, cond: object) -> torch.Tensor:
        t = (time.double() - SCHEDULE.clock.offset) / SCHEDULE.clock.scale
        out: torch.Tensor = GaussianMixture.gaussian(torch.zeros(x[0].shape), S).denoise(SCHEDULE)(x, t)
        return out.to(x)


def model(autoencoder: nn.Module | None = None) -> LatentDiffusion:
    denoiser = Denoiser(Exact(), SCHEDULE, X0())  # type: ignore[arg-type]
    return LatentDiffusion(autoencoder or PixelSpace(), denoiser, Conditioners({}, {}), SIDE).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pixels():
    return code(model(), Noise(), Coding(steps=200, points=20, flow=4))


def closed_form(steps: int) -> float:
    """Bits of prior and terms of N(0, S^2) under the chain: half a step in SNR times the error."""
    snr = SCHEDULE.logsnr(LogSNRGrid()(SCHEDULE, steps)[:-1]).exp()
    mse = S**2 / (1 + S**2 * snr)
    return float((0.5 * snr[0] * S**2 + 0.5 * (snr[1:] - snr[:-1]) @ mse[:-1]) / math.log(2))


def test_the_bound_is_the_closed_form_and_lies_above_the_entropy(pixels) -> None:
    bound = pixels.bound
    assert bound.discrete and bound.total.n == N
    assert bound.prior.mean + bound.terms.mean == pytest.approx(closed_form(200), rel=0.01)
    assert bound.total.mean == pytest.approx(bound.prior.mean + bound.terms.mean + bound.readout.mean)
    # in the tail a step of d in log-SNR costs (e^d - 1) / 2 instead of d / 2
    assert ENTROPY < bound.total.mean < 1.08 * ENTROPY + 0.1


def test_the_curve_and_the_bound_are_of_one_chain(pixels) -> None:
    """Other noise, and every step instead of one of four."""
    rate = pixels.bound.prior.mean + pixels.bound.terms.mean
    assert pixels.curve.rate[-1].mean == pytest.approx(rate, rel=0.01)
    last = SCHEDULE.logsnr(LogSNRGrid()(SCHEDULE, 200)[-2])
    assert pixels.logsnr[-1] == pytest.approx(float(last)) and pixels.factor == 1
    assert pixels.curve.rmse[0] == pytest.approx(127.5 * S, rel=0.02) and pixels.first_stage is None


def test_flow_and_bound_agree_on_the_entropy(pixels) -> None:
    """An exact denoiser leaves nothing between them; at the end the flow smooths the data by a hair, which costs
    nothing where they are as smooth as here."""
    flow = pixels.flow
    assert flow.likelihood.n == flow.bound.n == 4
    assert flow.likelihood.mean == pytest.approx(ENTROPY, abs=0.05)
    assert abs(flow.above.mean) < 3 * flow.above.error < 0.15
    assert flow.above.mean == pytest.approx(flow.bound.mean - flow.likelihood.mean)


def test_fewer_pictures_no_flow_and_another_chain() -> None:
    found = code(model(), Noise(), Coding(grid=UniformGrid(), steps=4, points=2, limit=3, flow=0))
    assert found.flow is None and found.curve.n == found.bound.total.n == 3
    assert found.curve.times == (1.0, 0.25)


def test_latents_are_counted_per_number_of_the_picture() -> None:
    """Independent normal latents at a quarter of the side: a sixteenth of the bits; and the first stage by itself."""
    torch.manual_seed(0)
    network = EncoderDecoderConfig(channels=8, multipliers=(1, 1, 1), blocks=1, z_channels=3)
    autoencoder = LatentAutoencoderConfig(3, network, GaussianConfig()).build().eval()
    found = code(model(autoencoder), Noise(), Coding(steps=20, points=5))
    assert not found.bound.discrete and found.flow is None and found.factor == 4
    assert found.curve.rate[-1].mean == pytest.approx(found.bound.prior.mean + found.bound.terms.mean, rel=0.05)
    stage = found.first_stage
    assert stage is not None and stage.rate is not None and stage.rate > 0
    # x_0_hat is nearly the latent at the last point, so the curve ends where the first stage does
    assert found.curve.rmse[-1] == pytest.approx(stage.rmse, rel=0.01)
    assert found.curve.perceptual[-1].mean == pytest.approx(stage.perceptual.mean, rel=0.02)
    with torch.no_grad():
        z = torch.cat([autoencoder.encode(batch["image"]) for batch in pictures(Noise(), SIDE)])
    snr = SCHEDULE.logsnr(LogSNRGrid()(SCHEDULE, 20)[0]).exp()
    expected = float(0.5 * snr * z.double().square().mean()) / math.log(2) / 16
    assert found.bound.prior.mean == pytest.approx(expected, rel=1e-4)


def test_what_is_received_at_the_end_is_the_picture() -> None:
    """And at the beginning the mean of all pictures, grey."""
    batch = next(pictures(Noise(), SIDE, 2))
    x, times = batch["image"], torch.tensor([1.0, 0.5, 1e-3], dtype=torch.float64)
    first, middle, last = received(model(), x, batch["index"].tolist(), times, seed=0)
    assert first.abs().max() < 0.01 and (last - x).abs().max() < 0.01
    assert (last - x).square().mean() < (middle - x).square().mean() < (first - x).square().mean()
