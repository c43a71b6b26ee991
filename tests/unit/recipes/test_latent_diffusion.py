"""The paper's rows: networks stay what they are when a run fills in its channels, and numbers hang together."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from tests.condition_toys import Squares, Words

from calotype.autoencoder.released import RELEASED
from calotype.conditioning.class_label import ClassLabel
from calotype.conditioning.conditioner import Conditioners
from calotype.conditioning.semantic_map import SemanticMap
from calotype.jobs.train import PIXELS
from calotype.nn.published import PUBLISHED, PUBLISHED_TAU
from calotype.recipes import get
from calotype.recipes.latent_diffusion import ROWS


def first_stage(name: str) -> Squares:
    """One with the factor and the channels of a row's."""
    [size] = re.findall(r"(\d+) x \d+ x (\d+)", ROWS[name].first_stage) or [("256", "3")]
    return Squares(256 // int(size[0]), int(size[1]))


@pytest.mark.parametrize("name", ROWS)
def test_the_network_is_the_published_one(name: str) -> None:
    """With the channels of its first stage and the widths of its conditions, and in millions what the list says."""
    row, run = ROWS[name], get(name, "diffusion").build()
    first, latents = row.first_stage.split(",")[0], first_stage(name)
    assert (run.autoencoder == PIXELS) == row.first_stage.startswith("none") == name.endswith("-f1")
    if first in RELEASED:
        assert RELEASED[first].channels == latents.channels
    with torch.device("meta"):
        routes = Conditioners.fit(run.conditioners, Words(), latents).routes()
        filled = replace(
            run.network,
            in_channels=latents.channels + (routes.spatial or 0),
            out_channels=latents.channels,
            context_width=routes.tokens,
            vector_width=routes.vector,
        )
        count = sum(p.numel() for p in filled.build().parameters())
    assert filled == PUBLISHED[row.network]
    assert round(count / 1e6) == row.millions
    assert f"{row.millions} M parameters" in get(name).summary


def test_the_latents_can_be_halved_down_to_the_lowest_level() -> None:
    for name, row in ROWS.items():
        assert 256 // first_stage(name).factor % PUBLISHED[row.network].factor == 0, name


def test_rates_are_multiples_of_the_batch_as_in_the_released_configs() -> None:
    """They give a rate per picture; the learning rate is that times the batch."""
    rates = dict.fromkeys(("ldm-celebahq", "ldm-ffhq", "ldm-bedrooms", "ldm-layout-openimages"), 2e-6)
    rates |= dict.fromkeys(("ldm-imagenet-f8", "ldm-super-resolution", "ldm-semantic", "ldm-inpainting-big"), 1e-6)
    for name, rate in rates.items():
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


def weights(name: str) -> int:
    """Of what a row's network is told by."""
    run = get(name).build()
    with torch.device("meta"):
        made = Conditioners.fit(run.conditioners, Words(), first_stage(name))
    return sum(p.numel() for p in made.parameters())


def test_what_reads_layouts() -> None:
    """OpenImages' as published; COCO's as deep as comes closest to the sum that is printed, output layer included."""
    assert weights("ldm-layout-openimages") == 54_656_000
    unread = 8192 * 513
    sums = [
        ROWS["ldm-layout-coco"].millions
        + (weights("ldm-layout-coco") + by * (54_656_000 - 4_241_408) / 16 + unread) / 1e6
        for by in (-1, 0, 1)
    ]
    assert min(sums, key=lambda millions: abs(millions - 345)) == sums[1]


def test_tasks_have_their_pictures() -> None:
    """Fourfold degradations on latents of factor 4, holes for inpainting; their conditioners have nothing to learn."""
    for name, row in ROWS.items():
        data = get(name).build().data
        assert (data.degradation is not None) == (data.zoom < 1) == ("super" in name)
        assert (data.mask is not None) == ("inpainting" in name)
        if data.degradation is not None:
            assert data.degradation.factor == row.conditioners["low"].times == first_stage(name).factor
            assert weights(name) == 0
    assert weights("ldm-inpainting") == weights("ldm-inpainting-big") == 0


def test_a_label_map_of_182_areas_has_the_released_weights() -> None:
    config = get("ldm-semantic").build().conditioners["map"]
    made = SemanticMap(config, [str(i) for i in range(182)], first_stage("ldm-semantic"))
    assert sum(p.numel() for p in made.parameters()) == 182 * 3
