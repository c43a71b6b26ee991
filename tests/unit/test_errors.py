from __future__ import annotations

import pytest

from calotype import errors
from calotype.errors import UnknownName, UserError


def test_unknown_name_suggests_the_nearest() -> None:
    error = UnknownName("sampler", "huen", ["ddim", "heun", "dpmpp2m"])
    assert str(error) == "unknown sampler 'huen'; did you mean 'heun'?"


def test_unknown_name_lists_all_if_nothing_is_near() -> None:
    assert str(UnknownName("grid", "zzz", ["uniform", "karras"])) == "unknown grid 'zzz'; known: karras, uniform."


def test_unknown_name_of_nothing() -> None:
    assert str(UnknownName("recipe", "x", [])) == "unknown recipe 'x'; known: none."


def test_a_name_may_be_any_object() -> None:
    assert "unknown key '3'" in str(UnknownName("key", 3, ["lr"]))


@pytest.mark.parametrize(
    "cls",
    [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)],
    ids=lambda c: c.__name__,
)
def test_every_error_is_a_mendable_value_error(cls: type[Exception]) -> None:
    assert issubclass(cls, UserError)
    assert issubclass(cls, ValueError)
