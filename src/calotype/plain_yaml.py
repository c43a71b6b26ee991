"""YAML as plain values: mappings, lists, text, finite numbers, true, false and null, and nothing else.

Scalars follow the core schema of YAML 1.2, so `1e-4` is a number and `no` a word (YAML 1.1, which PyYAML reads by
itself, has them the other way round). Size, depth and aliases are limited, a key may stand once, and no tag builds an
object.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from calotype.errors import UserError

MAX_BYTES = 1 << 20
MAX_ALIASES = 100
MAX_VALUES = 100_000
MAX_DEPTH = 32


_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_CORE = (  # YAML 1.2.2, section 10.3.2: tag, pattern of the whole word, its first characters; the first match wins
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2, unique keys, and limits."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.aliases += self.check_event(yaml.AliasEvent)
        self.depth += 1
        if self.depth > MAX_DEPTH or self.aliases > MAX_ALIASES:
            what = f"nested deeper than {MAX_DEPTH}" if self.depth > MAX_DEPTH else f"more than {MAX_ALIASES} aliases"
            raise yaml.MarkedYAMLError(problem=what, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            count = Counter(self.construct_object(key) for key, _ in node.value)
            twice = next(key for key, times in count.items() if times > 1)
            raise yaml.MarkedYAMLError(problem=f"key {twice!r} is given twice", problem_mark=node.start_mark)
        return mapping


class _Dumper(yaml.SafeDumper):
    """Short lists on one line, no aliases, and quotes wherever YAML 1.1 or 1.2 would read text as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_list(self, data: Any) -> Any:
        flat = all(not isinstance(v, list | dict) for v in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flat)


def _refuse_tag(loader: _Loader, node: yaml.Node) -> Any:
    raise yaml.MarkedYAMLError(
        problem=f"the tag {node.tag!r} builds an object; write text, numbers, lists and mappings only",
        problem_mark=node.start_mark,
    )


_Loader.add_constructor(None, _refuse_tag)
_Loader.yaml_implicit_resolvers = {}  # forget YAML 1.1's
for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"(?:{_FLOAT})\Z"), list("-+.0123456789"))
_Dumper.add_representer(list, _Dumper.represent_list)


def load_yaml(path: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        UserError: no such file, too large, no UTF-8 text, not YAML (with the line), or no mapping at the top.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; expected a YAML file with a run's config") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{path} has more than the {MAX_BYTES:,} bytes allowed for a config")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text, so no YAML config") from error
    value = parse(text, str(path))
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a mapping (key: value), got {_sort(value)}")
    return value


def parse(text: str, where: str) -> Any:
    """The value of one YAML document.

    Args:
        where: what the text is, for messages.

    Raises:
        UserError: not YAML (with the line), a tag that would build something else, or beyond the limits.
    """
    try:
        return _plain(_Loader(text).get_single_data())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None and "\n" in text.strip() else ""
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise UserError(f"{where}{line} is not accepted as YAML: {reason}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise UserError(f"{where} is not accepted as YAML: {str(error).splitlines()[0]}") from error


def dump(value: Any, one_line: bool = False) -> str:
    """Plain values as YAML text; `parse` reads them back to equal ones.

    Args:
        one_line: everything on one line, without the line's end.
    """
    if one_line:
        text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=MAX_BYTES)
        return text.removesuffix("...\n").strip()
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=100)
    return text


def _plain(value: Any) -> Any:
    """`value`, if it is a tree of JSON values of bounded size; aliases count as often as they are used."""
    waiting, seen = [(value, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if seen > MAX_VALUES or depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_VALUES:,} values or {MAX_DEPTH} levels")
        if isinstance(node, dict):
            for key in node:
                if not isinstance(key, str):
                    raise ValueError(f"the key {key!r} is {_sort(key)}; put quotes around it if it is a name")
            waiting += ((v, depth + 1) for v in node.values())
        elif isinstance(node, list):
            waiting += ((v, depth + 1) for v in node)
        elif isinstance(node, float) and not abs(node) < float("inf"):
            raise ValueError(f"{node} is no finite number")
        elif node is not None and not isinstance(node, bool | int | float | str):
            raise ValueError(f"{_sort(node)} has no place in a config")
    return value


def _sort(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")
