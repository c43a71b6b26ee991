"""Run configs at the border: YAML files and dotted overrides in, typed frozen dataclasses out.

A config is a Python object (a recipe makes one). A person may change it by a YAML file and by `KEY=VALUE` words, in
this order; the result is checked once, by `registry.from_plain`, and from then on is typed.

    resolve(recipe(), Path("run.yaml"), ["optimizer.lr=1e-4", "schedule.curve=linear"])

Two rules hold for files and words alike. An unknown key is an error that names the nearest known one. Naming another
class of the same kind (`schedule.curve.type=curve.linear`, or in short `schedule.curve=linear`) switches to it: keys
that both classes have are kept, the others take the new class's defaults. A place that may be empty (`loss.penalty`) is
filled in the same way, and emptied by null.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from calotype.errors import UnknownName, UserError
from calotype.plain_yaml import dump, load_yaml, parse
from calotype.registry import from_plain, kind_of, registry, to_plain

T = TypeVar("T")
Plain = dict[str, Any]


# --- from a recipe, a file and words to a config ----------------------------------------------------------------------


def resolve(recipe: T, file: Path | None = None, overrides: Sequence[str] = ()) -> T:
    """The config `recipe`, changed by a YAML file, then by `KEY=VALUE` words.

    Raises:
        UserError: a file, key or value that cannot be accepted; the message names it.
    """
    cls = type(recipe)
    plain: Plain = to_plain(recipe)
    if file is not None:
        over = load_yaml(file)
        try:
            plain = merge(plain, over, cls)
        except UserError as error:
            raise UserError(f"{file}: {error}") from error
    resolved: T = from_plain(apply_overrides(plain, overrides, cls), cls)
    return resolved


def apply_overrides(plain: Plain, overrides: Sequence[str], cls: Any = None) -> Plain:
    """A copy of `plain` with words like "optimizer.lr=1e-4" applied from left to right; values are YAML.

    Args:
        cls: the dataclass that `plain` describes; without it the keys present in `plain` are the known ones.

    Raises:
        UserError: a word that is no KEY=VALUE, or whose value is no YAML.
        UnknownName: a key that the config does not have.
    """
    for word in overrides:
        key, equals, text = word.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise UserError(f"{word!r} is no override; write KEY=VALUE, for example optimizer.lr=1e-4")
        value = parse(text, f"override {key}")
        for part in reversed(parts):
            value = {part: value}
        plain = merge(plain, value, cls)
    return plain


def merge(base: Mapping[str, Any], over: Mapping[str, Any], cls: Any = None, where: str = "") -> Plain:
    """`base` with the values of `over`; mappings are merged, everything else is replaced.

    In a mapping with free keys (a field `dict[str, X]`), null removes an entry.

    Args:
        cls: the type that `base` describes, which tells keys that are known but absent.
        where: the dotted name of `base`, for messages.

    Raises:
        UnknownName: a key that is neither in `base` nor a field of its class.
        UserError: a class of another kind.
    """
    tag = over.get("type")
    merged = dict(base) if tag is None else _switched(base, str(tag), where)
    known = _keys(merged, cls)
    for key, value in over.items():
        if key == "type":
            continue
        if not isinstance(known, _AnyKey) and key not in known:
            raise UnknownName(f"key{f' in {where}' if where else ''}", key, known)
        old, hint = merged.get(key), known[key]
        name = f"{where}.{key}" if where else key
        kind = kind_of(hint) if old is None else None
        if isinstance(value, str) and (kind or (isinstance(old, Mapping) and "type" in old)):
            value = {"type": value}
        if kind and isinstance(value, Mapping) and "type" in value:
            value = {**value, "type": _tagged(kind, str(value["type"]), name)}
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            merged[key] = merge(old, value, hint, name)
        elif value is None and isinstance(known, _AnyKey):
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


class _AnyKey(dict[str, Any]):
    """The keys of a mapping with free keys: every key is known, and has the same type."""

    def __init__(self, hint: Any) -> None:
        super().__init__()
        self._hint = hint

    def __missing__(self, key: str) -> Any:
        return self._hint


def _keys(plain: Mapping[str, Any], hint: Any) -> dict[str, Any]:
    """Known key -> its type, for a plain mapping that stands where a value of type `hint` is expected."""
    if "type" in plain:
        hint = _class(str(plain["type"]))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next((a for a in typing.get_args(hint) if dataclasses.is_dataclass(a)), None)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return {f.name: hints[f.name] for f in dataclasses.fields(hint) if f.init}
    if typing.get_origin(hint) in (dict, Mapping):
        return _AnyKey(typing.get_args(hint)[1])
    return dict.fromkeys(plain)


def _class(tag: str) -> type[Any]:
    kind, _, name = tag.partition(".")
    cls: type[Any] = registry(kind)[name]
    return cls


def _tagged(kind: str, name: str, where: str) -> str:
    """The full name of a class of this kind, of which a person may have given the last part only."""
    tag = name if "." in name or not kind else f"{kind}.{name}"
    if kind and tag.partition(".")[0] != kind:
        raise UserError(f"{where or 'config'} must be a {kind}, got {tag}")
    return tag


def _switched(old: Mapping[str, Any], tag: str, where: str) -> Plain:
    """A new class's defaults, with the values of `old` wherever both classes have a key for the same sort of value."""
    kind = str(old.get("type", "")).partition(".")[0]
    tag = _tagged(kind, tag, where)
    if old.get("type") == tag:
        return dict(old)
    new: Plain = {"type": tag}
    for field in dataclasses.fields(_class(tag)):
        if not field.init:
            continue
        has_default = True
        if field.default is not dataclasses.MISSING:
            new[field.name] = to_plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            new[field.name] = to_plain(field.default_factory())
        else:
            has_default = False
        if field.name in old and (not has_default or _alike(old[field.name], new[field.name])):
            new[field.name] = old[field.name]
    return new


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return type(a) is type(b)
    return type(a) is type(b) or (isinstance(a, int | float) and isinstance(b, int | float))


def to_yaml(config: Any) -> str:
    """A config as YAML text, complete with defaults; `resolve` reads it back to an equal object."""
    return dump(to_plain(config))


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """One key on which two configs disagree; values as YAML, "absent" where a side lacks the key."""

    key: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.key}: {self.before} -> {self.after}"


def differences(before: Any, after: Any) -> list[Difference]:
    """Where two configs (objects or plain trees) differ, leaf by leaf, in the order of `before`."""
    a, b = dict(_leaves(to_plain(before))), dict(_leaves(to_plain(after)))
    return [Difference(k, a.get(k, "absent"), b.get(k, "absent")) for k in {**a, **b} if a.get(k) != b.get(k)]


def _leaves(plain: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(plain, dict) and plain:
        for name, value in plain.items():
            yield from _leaves(value, f"{key}.{name}" if key else name)
    else:
        yield key, dump(plain, one_line=True)
