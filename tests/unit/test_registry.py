from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pytest

from calotype.errors import UnknownName, UserError
from calotype.registry import Registry, from_plain, kinds, registry, to_plain


class Shape(Protocol):
    def area(self) -> float: ...


shapes: Registry[Shape] = Registry("test_shape")


@shapes.register("square")
@dataclass(frozen=True)
class Square:
    side: float = 1.0

    def __post_init__(self) -> None:
        if self.side <= 0:
            raise ValueError(f"side must be positive, got {self.side}")

    def area(self) -> float:
        return self.side**2


@shapes.register("union")
@dataclass(frozen=True)
class Union:
    parts: tuple[Shape, ...]
    names: tuple[str, ...] = ()

    def area(self) -> float:
        return sum(p.area() for p in self.parts)


@dataclass(frozen=True)
class Frame:
    width: int = 1


@dataclass(frozen=True)
class Drawing:
    shape: Shape = field(default_factory=Square)
    title: str = "untitled"
    scale: float = 1.0
    size: tuple[int, int] = (1, 1)
    limit: int | None = None
    more: Mapping[str, Shape] = field(default_factory=dict)
    square: Square = field(default_factory=Square)
    frame: Frame | None = None
    frames: tuple[Frame, ...] = ()
    named: Mapping[str, Frame] = field(default_factory=dict)


TREES = [
    Square(2.5),
    Union((Square(1.0), Union((Square(2.0),), ("inner",)))),
    Union(()),
    Drawing(),
    Drawing(Union((Square(),)), "t", 2.0, (3, 4), 5, {"a": Square(3.0), "b": Union((Square(),))}, Square(4.0)),
    Drawing(frame=Frame(2), frames=(Frame(), Frame(3)), named={"x": Frame(4)}),
]


@pytest.mark.parametrize("value", TREES)
def test_plain_round_trip_through_json(value: object) -> None:
    plain = json.loads(json.dumps(to_plain(value)))
    cls = None if "type" in plain else type(value)
    assert from_plain(plain, cls) == value


def test_names() -> None:
    assert list(shapes) == ["square", "union"] and len(shapes) == 2
    assert shapes["square"] is Square
    assert shapes.name_of(Square()) == "square"
    assert to_plain(Square()) == {"type": "test_shape.square", "side": 1.0}
    assert shapes.create("square", side=3) == Square(3.0)
    assert registry("test_shape") is shapes
    assert "test_shape" in kinds()


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        shapes.register("square")(Square)


def test_name_of_a_stranger() -> None:
    with pytest.raises(UnknownName, match="Drawing"):
        shapes.name_of(Drawing())


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"type": "test_shape.sqare"}, "unknown test_shape 'sqare'; did you mean 'square'?"),
        ({"type": "test_shap.square"}, "unknown kind of component 'test_shap'"),
        ({"type": "os.system"}, "unknown kind of component 'os'"),
        ({"type": "test_shape.square", "sied": 1}, "unknown key of Square 'sied'; did you mean 'side'?"),
        ({"type": "test_shape.square", "side": "wide"}, "side = 'wide' is not accepted"),
        ({"type": "test_shape.square", "side": float("nan")}, "side = nan is not accepted"),
        ({"type": "test_shape.square", "side": -1}, "side must be positive, got -1"),
        ({"type": "test_shape.union"}, "lacks the key 'parts'"),
        ({"side": 1}, "needs a 'type'"),
        ([1], "must be a mapping, got list"),
    ],
)
def test_mistakes_are_one_sentence(plain: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        from_plain(plain)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"shape": {"type": "test_shape.square", "sied": 1}}, "unknown key in shape of Square 'sied'"),
        ({"more": {"a": {"type": "test_shape.square", "side": 0}}}, "more.a: side must be positive"),
        ({"scale": []}, "scale = [] is not accepted"),
        ({"size": []}, "size = [] is not accepted"),
        ({"size": [1]}, "size = [1] is not accepted"),
        ({"shape": 3}, "shape = 3 is not accepted: expected a mapping with a 'type'"),
        ({"shape": None}, "shape = null is not accepted"),
        ({"shape": {"side": 1}}, "shape = {'side': 1} is not accepted"),
        ({"size": [1, 2, 3]}, "size = [1, 2, 3] is not accepted"),
        ({"square": {"type": "test_shape.union", "parts": []}}, "square must be a Square, got test_shape.union"),
        ({"frame": {"widht": 1}}, "unknown key in frame of Frame 'widht'"),
        ({"frame": 3}, "frame = 3 is not accepted"),
        ({"frames": [{}, {"widht": 1}]}, "unknown key in frames[1] of Frame 'widht'"),
        ({"frames": [{}, 3]}, "frames[1] = 3 is not accepted"),
        ({"named": {"x": {"widht": 1}}}, "unknown key in named.x of Frame 'widht'"),
        ({"scale": {"a": {"b": 1}}}, "scale = {'a': {'b': 1}} is not accepted"),
        ({"scale": [{"a": 1}]}, "scale = [{'a': 1}] is not accepted"),
        ({"square": {"side": "x"}}, "square.side = 'x' is not accepted"),
    ],
)
def test_mistakes_name_their_place(plain: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        from_plain(plain, Drawing)
    assert message in str(caught.value)


def test_only_values_have_a_plain_form() -> None:
    with pytest.raises(TypeError, match="object has no plain form"):
        to_plain({"a": object()})


def test_a_registry_imports_its_package_on_first_use() -> None:
    samplers = Registry("test_sampler", "calotype.diffusion.samplers")
    import sys

    assert len(samplers) == 0  # the real members register with the real registry
    assert "calotype.diffusion.samplers.ddim" in sys.modules
