"""Dynamic thresholding against its definition, element by element."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion.guidance import DynamicThreshold
from calotype.errors import UserError


def test_is_the_definition():
    x = 3 * torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[0] /= 10  # in range already
    found = DynamicThreshold(0.9)(x)
    for before, after in zip(x, found, strict=True):
        ordered = sorted(abs(v) for v in before.flatten().tolist())
        place = 0.9 * (len(ordered) - 1)
        low = int(place)
        s = max(1.0, ordered[low] + (place - low) * (ordered[low + 1] - ordered[low]))
        expected = [min(max(v, -s), s) / s for v in before.flatten().tolist()]
        assert torch.allclose(after.flatten(), torch.tensor(expected, dtype=torch.float64))
    assert found.abs().max() <= 1


def test_what_lies_in_range_is_not_touched():
    x = torch.rand(2, 3, 4, 4) * 2 - 1
    assert torch.equal(DynamicThreshold(0.5)(x), x)


def test_the_largest_threshold_of_one_is_clipping():
    x = 3 * torch.randn(2, 3, 4, 4)
    assert torch.equal(DynamicThreshold(0.5, largest=1.0)(x), x.clamp(-1, 1))


def test_large_pictures_are_no_problem():
    assert DynamicThreshold()(torch.full((2, 1, 3000, 3000), 2.0)).max() == 1
    assert DynamicThreshold()(torch.full((1, 1, 4100, 4100), 2.0)).max() == 1


def test_the_quantile_is_that_of_torch():
    x = 3 * torch.randn(3, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    for q in (0.001, 0.5, 0.995, 1.0):
        s = x.abs().flatten(1).quantile(q, dim=1).clamp(min=1).view(3, 1, 1, 1)
        assert torch.allclose(DynamicThreshold(q)(x), x.clamp(-s, s) / s)


def test_takes_half_precision_and_no_samples():
    x = 3 * torch.randn(2, 3, 4, 4)
    half = DynamicThreshold(0.9)(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), DynamicThreshold(0.9)(x.bfloat16().float()), atol=0.02)
    assert DynamicThreshold()(x[:0]).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("fields", [{"quantile": 0.0}, {"quantile": 1.1}, {"largest": 0.5}])
def test_wrong_fields_are_explained(fields):
    with pytest.raises(UserError, match="must"):
        DynamicThreshold(**fields)
