from __future__ import annotations

import pytest
import torch

from calotype.condition import Condition, Routes


def condition(n: int = 3, value: float = 1.0) -> Condition:
    return Condition(
        tokens=torch.full((n, 4, 6), value),
        mask=torch.arange(4).expand(n, 4) < 2,
        spatial=torch.full((n, 2, 8, 8), value),
        vector=torch.full((n, 5), value),
    )


def test_routes() -> None:
    assert condition().routes == Routes(tokens=6, spatial=2, vector=5)
    assert Condition().routes == Routes()


def test_tokens_without_a_mask_are_all_attended() -> None:
    mask = Condition(tokens=torch.zeros(2, 3, 4)).mask
    assert mask is not None
    assert mask.dtype == torch.bool and mask.shape == (2, 3) and mask.all()


def test_where_chooses_row_by_row_on_every_route() -> None:
    null = Condition(
        torch.zeros(3, 4, 6), torch.ones(3, 4, dtype=torch.bool), torch.zeros(3, 2, 8, 8), torch.zeros(3, 5)
    )
    keep = torch.tensor([True, False, True])
    out = condition().where(keep, null)
    assert out.tokens is not None and out.mask is not None and out.spatial is not None and out.vector is not None
    for route in (out.tokens, out.spatial, out.vector):
        assert route.flatten(1).mean(1).tolist() == [1.0, 0.0, 1.0]
    assert out.mask.sum(1).tolist() == [2, 4, 2]


def test_cat_and_rows_are_inverse() -> None:
    a, b = condition(2, 1.0), condition(3, 2.0)
    both = a.cat(b)
    for name in ("tokens", "mask", "spatial", "vector"):
        assert torch.equal(getattr(both[:2], name), getattr(a, name))
        assert torch.equal(getattr(both[2:], name), getattr(b, name))


@pytest.mark.parametrize("route", ["tokens", "spatial", "vector"])
def test_two_conditions_must_use_the_same_routes(route: str) -> None:
    part = Condition(**{route: getattr(condition(), route)})
    with pytest.raises(ValueError, match="same routes; only one has"):
        condition().cat(part)


def test_merge_joins_tokens_in_length_and_others_in_channels() -> None:
    text = Condition(tokens=torch.zeros(2, 4, 6), mask=torch.zeros(2, 4, dtype=torch.bool))
    label = Condition(tokens=torch.ones(2, 1, 6), vector=torch.ones(2, 3))
    style = Condition(vector=torch.zeros(2, 2))
    out = Condition.merge([text, label, style])
    assert out.tokens is not None and out.mask is not None and out.vector is not None
    assert out.tokens.shape == (2, 5, 6)
    assert out.mask[0].tolist() == [False, False, False, False, True]
    assert out.vector[0].tolist() == [1, 1, 1, 0, 0]
    assert out.spatial is None
    assert out.routes == Routes.merge([text.routes, label.routes, style.routes])


def test_merge_of_nothing_is_no_condition() -> None:
    assert Condition.merge([]) == Condition()
    assert Routes.merge([]) == Routes()


def test_routes_of_different_token_width_do_not_merge() -> None:
    with pytest.raises(ValueError, match=r"one token width, got \[6, 8\]"):
        Routes.merge([Routes(tokens=6), Routes(tokens=8)])


def test_expand_repeats_without_copying() -> None:
    one = condition(1)
    many = one.expand(1000)
    assert many.spatial is not None and one.spatial is not None
    assert many.spatial.shape == (1000, 2, 8, 8)
    assert many.spatial.data_ptr() == one.spatial.data_ptr()


def test_to_keeps_masks_boolean() -> None:
    out = condition().to(torch.empty(0, dtype=torch.bfloat16))
    assert out.tokens is not None and out.mask is not None
    assert out.tokens.dtype == torch.bfloat16
    assert out.mask.dtype == torch.bool


def test_to_like_takes_the_dtypes_of_the_other() -> None:
    out = condition().to_like(condition().to(torch.empty(0, dtype=torch.float64)))
    assert out.vector is not None and out.vector.dtype == torch.float64


def everywhere(n: int = 3, value: float = 1.0) -> Condition:
    """A map that is the same everywhere."""
    return Condition(spatial=torch.full((n, 2, 1, 1), value))


def test_a_map_that_is_the_same_everywhere_is_spread_where_it_meets_others() -> None:
    full = Condition(spatial=torch.zeros(3, 2, 8, 6))
    for one, other in ((full, everywhere()), (everywhere(), full)):
        both = one.cat(other)
        assert both.spatial is not None and both.spatial.shape == (6, 2, 8, 6)
        merged = Condition.merge([one, other])
        assert merged.spatial is not None and merged.spatial.shape == (3, 4, 8, 6)
        chosen = one.where(torch.tensor([True, False, True]), other)
        assert chosen.spatial is not None and chosen.spatial.shape == (3, 2, 8, 6)
        assert both[:3].where(torch.ones(3, dtype=torch.bool), other).spatial is not None
    assert full.where(torch.tensor([True, False, True]), everywhere()).spatial.mean((1, 2, 3)).tolist() == [0, 1, 0]  # type: ignore[union-attr]


def test_maps_that_are_all_the_same_everywhere_stay_small() -> None:
    for condition in (everywhere().cat(everywhere()), Condition.merge([everywhere(), everywhere()])):
        assert condition.spatial is not None and condition.spatial.shape[2:] == (1, 1)


def test_maps_of_two_sizes_do_not_fit_together() -> None:
    small, large = (Condition(spatial=torch.zeros(3, 2, n, n)) for n in (4, 8))
    for join in (lambda: small.cat(large), lambda: Condition.merge([small, everywhere(), large])):
        with pytest.raises(ValueError, match=r"one size, got \[\(4, 4\), \(8, 8\)\]"):
            join()
