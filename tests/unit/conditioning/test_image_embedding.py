"""References: their content, not their size or place; tokens, vectors and both."""

from __future__ import annotations

import pytest
import torch
from tests.condition_toys import Squares, Words, draw
from torch.nn import functional as F

from calotype.condition import Routes
from calotype.conditioning.image_embedding import FEATURES, ImageEmbedding, ImageEmbeddingConfig
from calotype.data.folder import open_source
from calotype.data.loader import pictures
from calotype.errors import UserError


def build(**fields: int) -> ImageEmbedding:
    torch.manual_seed(0)
    return ImageEmbeddingConfig(**fields).fit(Words(), Squares())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "routes"),
    [
        ({}, Routes(tokens=256)),
        ({"tokens": 0, "vector": 7}, Routes(vector=7)),
        ({"tokens": 3, "width": 6, "vector": 7}, Routes(tokens=6, vector=7)),
    ],
)
def test_tokens_or_a_vector_or_both(fields: dict[str, int], routes: Routes) -> None:
    member = build(**fields)
    condition = member({"reference": draw(2, 3, 40, 40)})
    assert member.routes() == condition.routes == member.null(2).routes == routes
    if routes.tokens:
        assert condition.tokens.shape == (2, fields.get("tokens", 4), routes.tokens)


def test_embeddings_are_of_unit_size_and_say_the_same_at_any_resolution() -> None:
    [photos] = pictures(open_source("embedded:photos"), 256, 12)
    x = photos["image"]
    member = build()
    e = member.embed(x)
    assert e.shape == (len(x), FEATURES)
    torch.testing.assert_close(e.mean(1), torch.zeros(len(x)), atol=1e-5, rtol=0)
    torch.testing.assert_close(e.var(1, correction=0), torch.ones(len(x)), atol=1e-3, rtol=0)
    small = member.embed(F.interpolate(x, (160, 160), mode="bilinear", antialias=True))
    distances = torch.cdist(small, e)
    assert (distances.argmin(1) == torch.arange(len(x))).all()
    assert distances.diag().max() < distances.fill_diagonal_(torch.inf).min()


def test_an_unguided_reference_needs_no_null() -> None:
    assert not ImageEmbeddingConfig(guided=False).fit(Words(), Squares()).nothing.requires_grad


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"tokens": -1}, {"width": 0}, {"vector": -2}, {"drop": 2}])
def test_sizes_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        ImageEmbeddingConfig(**wrong)  # type: ignore[arg-type]


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(UserError, match="'reference' must be RGB pictures"):
        build()({"reference": draw(1, 1, 40, 40)})
