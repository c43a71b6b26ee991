"""The published first stages: the networks that were released, with the numbers that were published beside them."""

from __future__ import annotations

import pytest
import torch

from calotype.autoencoder.bottleneck.vector_quantized import ByGradient, VectorQuantizedConfig
from calotype.autoencoder.released import RELEASED
from calotype.recipes import get
from calotype.recipes.first_stages import RATE, ROWS
from calotype.recipes.latent_diffusion import FIRST_STAGES, VQ_F4_NOATTN
from calotype.recipes.latent_diffusion import ROWS as SECOND_STAGES


@pytest.mark.parametrize("name", ROWS)
def test_the_autoencoder_is_the_released_one(name: str) -> None:
    run, row = get(name, "autoencoder").build(), ROWS[name]
    assert (run.autoencoder.network, run.autoencoder.channels) == (RELEASED[name].network, RELEASED[name].channels)
    with torch.device("meta"):
        count = sum(p.numel() for p in run.autoencoder.build().parameters())
    assert round(count / 1e6) == row.millions and f"{row.millions} M parameters" in get(name).summary
    factor, side = run.autoencoder.network.factor, 256 // run.autoencoder.network.factor
    assert row.what.startswith(f"Factor {factor} to {side} x {side} x {run.autoencoder.channels}")


@pytest.mark.parametrize("name", ROWS)
def test_training_is_the_published_one(name: str) -> None:
    run = get(name, "autoencoder").build()
    assert run.optimizer == run.critic and run.optimizer.lr == pytest.approx(RATE * run.trainer.batch_size)
    assert run.loss.start.step < run.trainer.steps  # else there would be no discriminator
    bottleneck = run.autoencoder.bottleneck
    if isinstance(bottleneck, VectorQuantizedConfig):
        assert bottleneck.learning == ByGradient() and not bottleneck.learning.legacy
        assert f"{bottleneck.size} codes" in get(name).summary and "swapped" in get(name).text
    else:
        assert "swapped" not in get(name).text


def test_second_stages_name_first_stages_that_there_are_recipes_for() -> None:
    """Unless theirs was never published, or is none."""
    for name in (*FIRST_STAGES.values(), VQ_F4_NOATTN, *(row.first_stage for row in SECOND_STAGES.values())):
        known = name.split(",")[0] in ROWS
        assert known != (name.startswith("none") or "never released" in name), name
