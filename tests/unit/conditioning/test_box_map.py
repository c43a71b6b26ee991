"""Boxes painted: a label map of objects, at the latent's resolution."""

import pytest
import torch
from tests.condition_toys import Squares, Words

from calotype.conditioning.box_map import BoxMapConfig
from calotype.errors import UserError
from calotype.layout import Box, Layout


def test_positions_hold_the_row_of_the_box_over_them() -> None:
    torch.manual_seed(0)
    member = BoxMapConfig(channels=3).fit(Words(), Squares(factor=4))
    painted = torch.from_numpy(Layout((Box(1, 0.0, 0.0, 0.5, 0.5),)).painted(16, 16))
    spatial = member({"box_map": painted[None]}).spatial
    assert member.reads == ("box_map",) and member.names == ("hat", "shoe") and spatial.shape == (1, 3, 4, 4)
    torch.testing.assert_close(spatial[0, :, 1, 1], member.embedding.weight[1])
    assert not spatial[0, :, 2:].any() and not spatial[0, :, :, 2:].any()


def test_it_is_guided_and_null_is_no_box() -> None:
    member = BoxMapConfig().fit(Words(), Squares())
    empty = torch.from_numpy(Layout().painted(16, 16))[None]
    assert member.guided and torch.equal(member({"box_map": empty}).spatial, member.null(1).spatial.expand(1, 8, 4, 4))
    with pytest.raises(UserError, match=r"'box_map' has the value 9; this model knows 0 \.\.\. 1"):
        member({"box_map": torch.full((1, 16, 16), 9, dtype=torch.uint8)})
