"""What every registered perceptual distance must do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.vgg_toys import random_weights

from calotype.losses.lpips import Lpips
from calotype.losses.perceptual import PerceptualConfig, PerceptualDistance, perceptuals
from calotype.nn.discriminator import PatchDiscriminatorConfig
from calotype.registry import from_plain, to_plain
from calotype.runs import AutoencoderRun, DataConfig

WITH_WEIGHTS: dict[str, Callable[[Path], PerceptualConfig]] = {"lpips": lambda file: Lpips(str(file))}
"""Configs of members whose weights do not come with the package."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("vgg") / "vgg16.safetensors")


@pytest.fixture(scope="module", params=[*perceptuals])
def config(request: pytest.FixtureRequest, weights: Path) -> PerceptualConfig:
    make = WITH_WEIGHTS.get(request.param)
    return make(weights) if make else perceptuals.create(request.param)


@pytest.fixture(scope="module")
def distance(config: PerceptualConfig) -> PerceptualDistance:
    return config.build()


def test_a_config_survives_a_file(config: PerceptualConfig) -> None:
    assert from_plain(to_plain(config)) == config


def test_one_number_a_pair_zero_for_equal_pictures(distance: PerceptualDistance, config: PerceptualConfig) -> None:
    g = torch.Generator().manual_seed(0)
    side = max(16, config.smallest)
    x, y = (torch.rand(3, 3, side, side, generator=g) * 2 - 1 for _ in range(2))
    d = distance(x, y)
    assert d.shape == (3,) and d.dtype == torch.float32 and (d > 0).all()
    assert distance(x, x).tolist() == [0.0] * 3
    torch.testing.assert_close(
        d, torch.cat([distance(x[k : k + 1], y[k : k + 1]) for k in range(3)]), rtol=1e-4, atol=0
    )


def test_looks_at_pictures_as_small_as_it_says(distance: PerceptualDistance, config: PerceptualConfig) -> None:
    x, y = torch.zeros(1, 3, config.smallest, config.smallest), torch.ones(1, 3, config.smallest, config.smallest)
    assert distance(x, y).isfinite().all() and distance(x, y) > 0


def test_frozen_and_named(distance: PerceptualDistance) -> None:
    assert distance.state_dict() == {} and not distance.train().training
    assert distance.name and len(distance.sha256) == 64
    with pytest.raises(ValueError, match="one shape"):
        distance(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 16))


def test_a_run_of_smaller_pictures_is_refused(config: PerceptualConfig) -> None:
    least = max(8, config.smallest)
    critic = PatchDiscriminatorConfig(layers=1)  # which is content with less than any of them
    AutoencoderRun(DataConfig(side=least), perceptual=config, discriminator=critic)
    if least > 8:
        with pytest.raises(ValueError, match=f"data.side must be at least {least} pixels"):
            AutoencoderRun(DataConfig(side=least - 1), perceptual=config, discriminator=critic)
