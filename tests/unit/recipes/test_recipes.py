"""The table of recipes; the members themselves are held to their contract in tests/contracts/test_recipes.py."""

from __future__ import annotations

import pytest

import calotype.recipes
from calotype.errors import UnknownName, UserError
from calotype.recipes import get, recipe, recipes


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> None:
    recipes()  # the real ones, so that they are not imported into the empty table
    monkeypatch.setattr(calotype.recipes, "_recipes", {})


def make() -> str:
    """One line.

    More."""
    return "config"


def test_register_and_get() -> None:
    assert recipe("b", kind="diffusion")(make) is make
    recipe("a", kind="autoencoder", default=True)(make)
    assert [r.name for r in recipes()] == ["a", "b"]
    assert [r.name for r in recipes("diffusion")] == ["b"]
    assert get("b").build() == "config"
    assert get("b").summary == "One line." and get("b").text == "One line.\n\nMore."
    assert get(None, "autoencoder").name == "a"


def test_mistakes_in_declaring() -> None:
    recipe("a", kind="diffusion", default=True)(make)
    with pytest.raises(ValueError, match="registered twice"):
        recipe("a", kind="diffusion")(make)
    with pytest.raises(ValueError, match="second default diffusion"):
        recipe("b", kind="diffusion", default=True)(make)
    with pytest.raises(ValueError, match="unknown kind 'sound'"):
        recipe("c", kind="sound")(make)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a docstring"):
        recipe("d", kind="diffusion")(lambda: None)
    assert [r.name for r in recipes()] == ["a"]


def test_mistakes_in_asking() -> None:
    recipe("small-faces", kind="diffusion")(make)
    recipe("small-codec", kind="autoencoder")(make)
    with pytest.raises(UnknownName, match="did you mean 'small-faces'"):
        get("smal-faces")
    with pytest.raises(UserError, match="is for diffusion, not for autoencoder"):
        get("small-faces", "autoencoder")
    with pytest.raises(UserError, match="no default diffusion recipe; name one with --recipe"):
        get(None, "diffusion")
