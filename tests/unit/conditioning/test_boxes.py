"""One token for every box: what it depends on, in which order, and what is left out."""

import math

import pytest
import torch
from tests.condition_toys import Squares, Words

from calotype.conditioning.boxes import Boxes, BoxesConfig
from calotype.errors import UserError
from calotype.layout import Box, Layout, Window

A, B, C = Box(0, 0.0, 0.0, 0.5, 0.5), Box(1, 0.25, 0.5, 1.0, 0.75), Box(0, 0.5, 0.5, 0.6, 0.6)


def build(objects: int = 3) -> Boxes:
    torch.manual_seed(0)
    return BoxesConfig(width=16, objects=objects, frequencies=4).fit(Words(), Squares())


def test_a_token_is_its_box_and_class_alone() -> None:
    tokens = build()({"layout": [Layout((A, B)), Layout((B,)), Layout((B, A, C))]}).tokens
    torch.testing.assert_close(tokens[0, 0], tokens[2, 1])
    torch.testing.assert_close(tokens[0, 1], tokens[1, 0])
    assert not torch.allclose(tokens[0, 0], tokens[2, 2]), "another place"
    torch.testing.assert_close(tokens[1, 1], tokens[1, 2])  # both absent
    torch.testing.assert_close(tokens[0, 3], tokens[2, 3])  # the same crop


def test_the_numbers_are_sines_and_cosines_of_the_corners() -> None:
    member, seen = build(), []
    member.mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    member({"layout": [Layout((B,))]})
    corners = [
        [math.sin(2**k * math.pi * c) for k in range(4)] + [math.cos(2**k * math.pi * c) for k in range(4)]
        for c in (0.25, 0.5, 1.0, 0.75)
    ]
    torch.testing.assert_close(seen[0][0, 16:], torch.tensor(corners).flatten(), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0][0, :16], member.embedding.weight[1])


def test_the_crop_is_told() -> None:
    tokens = build()({"layout": [Layout((A,)), Layout((A,), Window(0.0, 0.0, 0.5, 1.0))]}).tokens
    torch.testing.assert_close(tokens[0, :3], tokens[1, :3])
    assert not torch.allclose(tokens[0, 3], tokens[1, 3])


def test_of_too_many_the_largest_are_heard_and_a_person_is_told() -> None:
    few, many = build(2), Layout((C, A, B))
    torch.testing.assert_close(few({"layout": [many]}).tokens, few({"layout": [Layout((A, B))]}).tokens)
    with pytest.raises(UserError, match="3 boxes, this model takes 2 at most"):
        few.check_asked({"layout": [many]})
    with pytest.raises(UserError, match="a box has the class 7"):
        few({"layout": [Layout((Box(7, 0.0, 0.0, 1.0, 1.0),))]})


@pytest.mark.parametrize("wrong", [{"objects": 0}, {"frequencies": 0}, {"width": 0}, {"drop": -1.0}])
def test_sizes_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        BoxesConfig(**wrong)  # type: ignore[arg-type]
