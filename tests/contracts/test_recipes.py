"""Every recipe, by existing: it builds, explains itself, survives YAML, and each kind has its default."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from calotype.config import resolve, to_yaml
from calotype.recipes import Kind, Recipe, get, recipes


@pytest.mark.parametrize("recipe", recipes(), ids=lambda r: r.name)
def test_recipe(recipe: Recipe, tmp_path: Path) -> None:
    config = recipe.build()
    assert config == recipe.build()
    assert recipe.summary.endswith(".") and len(recipe.summary) <= 120, "the first line is the summary in lists"
    assert "\n\n" in recipe.text, "a recipe gives the reasons for its numbers"
    assert recipe.name == recipe.name.lower() and " " not in recipe.name
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert resolve(config, path) == config


@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_kind_has_a_default(kind: Kind) -> None:
    assert get(None, kind).default
