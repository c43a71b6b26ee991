"""What every registered bottleneck must do."""

from __future__ import annotations

import pytest
import torch

from calotype.autoencoder.bottleneck.base import Bottleneck, BottleneckConfig, bottlenecks
from calotype.autoencoder.bottleneck.finite_scalar import FiniteScalarConfig
from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.registry import from_plain, to_plain

CHANNELS = 4
FITTING: dict[str, BottleneckConfig] = {"finite_scalar": FiniteScalarConfig((8, 5, 4, 3))}
"""Configs for CHANNELS channels, where the default is for another number."""


@pytest.fixture(params=[*bottlenecks])
def config(request: pytest.FixtureRequest) -> BottleneckConfig:
    return FITTING.get(request.param) or bottlenecks.create(request.param)


@pytest.fixture
def bottleneck(config: BottleneckConfig) -> Bottleneck:
    torch.manual_seed(0)
    return config.build(CHANNELS)


def features(bottleneck: Bottleneck, n: int = 3) -> torch.Tensor:
    return torch.randn(n, bottleneck.incoming, 6, 5, generator=torch.Generator().manual_seed(1))


def test_shapes_and_finite_numbers(bottleneck: Bottleneck) -> None:
    h = features(bottleneck)
    for noise in (None, torch.randn_like):
        code = bottleneck(h, noise)
        assert code.z.shape == code.read.shape == (3, CHANNELS, 6, 5)
        costs = [*code.penalties.values(), *([] if code.rate is None else [code.rate])]
        assert all(c.ndim == 0 and c.isfinite() and c >= 0 for c in costs)
        assert all(torch.as_tensor(m).isfinite().all() for m in code.metrics.values())


def test_moments_are_the_code_without_noise(bottleneck: Bottleneck) -> None:
    h = features(bottleneck)
    mean, std = bottleneck.eval().moments(h)
    assert mean.dtype == std.dtype == torch.float32 and (std >= 0).all()
    torch.testing.assert_close(mean, bottleneck(h).z)


def test_the_decoder_reads_the_same_from_a_code_and_from_a_latent(bottleneck: Bottleneck) -> None:
    code = bottleneck.eval()(features(bottleneck))
    torch.testing.assert_close(code.read, bottleneck.project(code.z))
    torch.testing.assert_close(code.read, bottleneck.project(code.read), msg="projecting twice is projecting once")


def test_the_reconstruction_error_reaches_the_encoder(bottleneck: Bottleneck) -> None:
    h = features(bottleneck).requires_grad_()
    bottleneck(h).read.square().sum().backward()
    assert h.grad is not None and h.grad.isfinite().all() and (h.grad != 0).any()


def test_looking_changes_nothing(bottleneck: Bottleneck) -> None:
    before = {k: v.clone() for k, v in bottleneck.state_dict().items()}
    with torch.no_grad():
        bottleneck.train()(features(bottleneck))
    bottleneck.eval()(features(bottleneck))
    assert all(torch.equal(v, before[k]) for k, v in bottleneck.state_dict().items())


def test_half_precision_features(bottleneck: Bottleneck) -> None:
    h = features(bottleneck)
    a, b = bottleneck.eval()(h.bfloat16()), bottleneck(h.bfloat16().float())
    torch.testing.assert_close(a.read.float(), b.read)


def test_comes_back_from_a_file(config: BottleneckConfig) -> None:
    assert from_plain(to_plain(config), BottleneckConfig, "bottleneck") == config


def test_an_autoencoder_around_it_saves_and_learns(config: BottleneckConfig) -> None:
    torch.manual_seed(0)
    network = EncoderDecoderConfig(channels=8, multipliers=(1, 2), blocks=1, z_channels=CHANNELS)
    build = LatentAutoencoderConfig(channels=CHANNELS, network=network, bottleneck=config).build
    a, b = build(), build()
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    image, _ = a.reconstruct(x, torch.randn_like)
    (image - x).abs().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in a.encoder.parameters())
    b.load_state_dict(a.state_dict())
    z = a.eval().encode(x)
    assert z.shape == (2, CHANNELS, 4, 4)
    assert torch.equal(a.decode(z), b.eval().decode(b.encode(x)))
