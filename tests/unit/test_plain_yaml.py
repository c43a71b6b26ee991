from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from calotype.errors import UserError
from calotype.plain_yaml import MAX_ALIASES, MAX_BYTES, MAX_DEPTH, dump, load_yaml, parse

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E6", 1e6),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("7", 7),
        ("-12", -12),
        ("10_000", 10_000),
        ("0x10", 16),
        ("010", 10.0),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1e-4'", "1e-4"),
        ("a red heart", "a red heart"),
        ("[1, 2.5, x, null]", [1, 2.5, "x", None]),
        ("{a: 1, b: {c: no}}", {"a": 1, "b": {"c": "no"}}),
        ("{<<: {a: 1}}", {"<<": {"a": 1}}),
        ("embedded:fluent", "embedded:fluent"),
        (r"C:\pictures", r"C:\pictures"),
        ("e4", "e4"),
        ("-", None),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    if text == "-":
        assert parse(text, "x") == [None]
    else:
        got = parse(text, "x")
        assert got == value and type(got) is type(value)


@given(PLAIN)
def test_dump_and_parse_are_inverse(value: object) -> None:
    assert parse(dump(value), "x") == value
    assert parse(dump(value, one_line=True), "x") == value


@given(WORDS)
def test_dumped_text_is_text_for_yaml_1_1_readers_too(text: str) -> None:
    assert yaml.safe_load(dump([text])) == [text]


@given(st.text(max_size=200))
def test_any_text_is_a_value_or_a_user_error(text: str) -> None:
    try:
        parse(text, "x")
    except UserError as error:
        assert str(error).startswith("x")


@given(st.binary(max_size=200))
def test_any_file_is_a_mapping_or_a_user_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    try:
        assert isinstance(load_yaml(path), dict)
    except UserError as error:
        assert str(path) in str(error)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.system [touch canary]", "builds an object"),
        ("!!python/name:os.system", "builds an object"),
        ("!!python/module:os", "builds an object"),
        ("!!binary aGVsbG8=", "a bytes has no place in a config"),
        ("!!set {a, b}", "a set has no place in a config"),
        ("!!timestamp 2001-01-01", "a date has no place"),
        ("!custom x", "builds an object"),
        (BOMB, "more than 100,000 values"),
        (f"[&a x{', *a' * (MAX_ALIASES + 1)}]", "aliases"),
        ("&a [*a]", "levels"),
        ("[" * (MAX_DEPTH + 1), "nested deeper"),
        ("{a: " * 5000, "nested deeper"),
        ("a: 1\nb: 2\na: 3", "key 'a' is given twice"),
        ("1: x", "the key 1 is a number"),
        ("true: x", "the key True is true or false"),
        ("? [a]\n: b", "unhashable key"),
        (".nan", "nan is no finite number"),
        ("[-.inf]", "-inf is no finite number"),
        ("1e999", "inf is no finite number"),
        ("9" * 5000, "not accepted as YAML"),
        ("a: [1, 2", "expected ',' or ']'"),
        ("a: b: c", "mapping values are not allowed here"),
        ("a: 1\n--- \nb: 2", "expected a single document"),
        ("\x00", "special characters are not allowed"),
    ],
)
def test_hostile_and_broken_text_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        parse(text, "run.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("run.yaml")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_syntax_errors_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data:\n  side: 64\n  flip: [true\noptimizer: {}\n")
    with pytest.raises(UserError, match=r"run\.yaml, line 4 is not accepted as YAML"):
        load_yaml(path)


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("\ufeffoptimizer:\n  lr: 1e-4  # a comment\n", encoding="utf-8")
    assert load_yaml(path) == {"optimizer": {"lr": 1e-4}}
    path.write_text("# nothing but comments\n")
    assert load_yaml(path) == {}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"- a\n- b\n", "must hold a mapping (key: value), got a list"),
        (b"42", "got a number"),
        (b"\x80\x02}q\x00.", "no UTF-8 text"),
        (b"PK\x03\x04\xff\xff", "no UTF-8 text"),
        (b"#" * (MAX_BYTES + 1), "more than the 1,048,576 bytes"),
    ],
)
def test_files_that_are_no_config(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        load_yaml(path)
    assert message in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml cannot be read: No such file"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        load_yaml(tmp_path)
