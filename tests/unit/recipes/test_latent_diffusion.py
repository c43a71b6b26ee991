"""The paper's rows: networks stay what they are when a run fills in its channels, and numbers hang together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from calotype.autoencoder.released import RELEASED
from calotype.conditioning.class_label import ClassLabel
from calotype.jobs.train import PIXELS
from calotype.nn.published import PUBLISHED, PUBLISHED_TAU
from calotype.recipes import get
from calotype.recipes.latent_diffusion import ROWS


@pytest.mark.parametrize("name", ROWS)
def test_the_network_is_the_published_one(name: str) -> None:
    """With the channels of its first stage and the width of its conditions, and in millions what the list says."""
    row, run = ROWS[name], get(name, "diffusion").build()
    first, channels = row.first_stage.split(",")[0], run.network.in_channels
    assert (run.autoencoder == PIXELS) == row.first_stage.startswith("none") == name.endswith("-f1")
    if first in RELEASED:
        assert RELEASED[first].channels == channels
    widths = {c.width for c in run.conditioners.values()}
    filled = replace(run.network, out_channels=channels, context_width=widths.pop() if widths else None)
    assert filled == PUBLISHED[row.network]
    with torch.device("meta"):
        count = sum(p.numel() for p in filled.build().parameters())
    assert round(count / 1e6) == row.millions
    assert f"{row.millions} M parameters" in get(name).summary


def test_the_latents_can_be_halved_down_to_the_lowest_level() -> None:
    for name, row in ROWS.items():
        side = {"vq-f4": 64, "vq-f8": 32, "vq-f16": 16, "kl-f8": 32}.get(row.first_stage.split(",")[0])
        side = side or (256 if "pixels" in row.first_stage else int(row.first_stage.split(" x ")[0].split()[-1]))
        assert side % PUBLISHED[row.network].factor == 0, name


def test_rates_are_multiples_of_the_batch_as_in_the_released_configs() -> None:
    """They give a rate per picture; the learning rate is that times the batch."""
    for name, rate in {"ldm-celebahq": 2e-6, "ldm-ffhq": 2e-6, "ldm-bedrooms": 2e-6, "ldm-imagenet-f8": 1e-6}.items():
        assert ROWS[name].lr == pytest.approx(rate * ROWS[name].batch)


def test_the_captions_transformer_is_the_published_one() -> None:
    """But for the size of its embeddings at first."""
    run, tau = get("ldm-text").build(), PUBLISHED_TAU["ldm-text"]
    assert run.conditioners["caption"].transformer(tau.vocabulary) == replace(tau, word_std=1.0, position_std=0.1)


def test_one_row_more_than_there_are_classes() -> None:
    """1001 of 512, as released: the last is "no class"."""
    config = get("ldm-imagenet").build().conditioners["class"]
    made = ClassLabel([str(i) for i in range(1000)], config.width, config.drop)
    assert made.embedding.weight.shape == (1001, 512)
