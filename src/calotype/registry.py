"""Names for components: `name <-> frozen dataclass`.

A component without weights is a frozen dataclass, so *the object is its configuration*. Registering it gives it a name
that files and the command line can use. The table is closed: a file can only name what the package has registered,
never an import path.

>>> samplers = Registry("sampler", "calotype.diffusion.samplers")
>>> samplers.create("ddim", eta=1.0)                    # doctest: +SKIP
DDIM(eta=1.0)

A registry that knows its package imports every module in it on first use, so a new member is *one new file*: its
command-line name, its config schema and its contract tests follow from being registered.

`to_plain` and `from_plain` turn any tree of registered dataclasses into JSON values and back:
`DDIM(eta=1.0) <-> {"type": "sampler.ddim", "eta": 1.0}`.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from calotype.errors import UnknownName, UserError

T = TypeVar("T")

_registries: dict[str, Registry[Any]] = {}


class Registry(Generic[T]):
    """The members of one kind, by name.

    Args:
        kind: what the members are called in messages and files ("sampler").
        package: the package whose modules register the members; imported on first use.
        of: the type of config fields that hold a member or nothing (`of | None`): an empty one does not tell of which
            kind a bare name is, its type does.
    """

    def __init__(self, kind: str, package: str | None = None, of: type[Any] | None = None) -> None:
        self.kind, self.of = kind, of
        self._package = package
        self._members: dict[str, type[Any]] = {}
        _registries[kind] = self

    def register(self, name: str) -> Callable[[type[Any]], type[Any]]:
        """Class decorator: give a frozen dataclass its name. Raises `ValueError` if the name is taken."""

        def decorate(cls: type[Any]) -> type[Any]:
            if name in self._members:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._members[name] = cls
            return cls

        return decorate

    def _load(self) -> None:
        if self._package is None:
            return
        package, self._package = importlib.import_module(self._package), None
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")

    def __getitem__(self, name: str) -> type[T]:
        """The member called `name`; raises `UnknownName` with the nearest names."""
        self._load()
        if name not in self._members:
            raise UnknownName(self.kind, name, self._members)
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._members))

    def __len__(self) -> int:
        self._load()
        return len(self._members)

    def name_of(self, member: object) -> str:
        """The name under which the class of `member` is registered."""
        self._load()
        for name, cls in self._members.items():
            if type(member) is cls:
                return name
        raise UnknownName(self.kind, type(member).__name__, self._members)

    def create(self, name: str, **fields: Any) -> T:
        """The member called `name` with these fields; unknown or wrong fields raise `UserError`."""
        member: T = from_plain({"type": f"{self.kind}.{name}", **fields})
        return member


def registry(kind: str) -> Registry[Any]:
    """The registry of this kind; raises `UnknownName`."""
    if kind not in _registries:
        raise UnknownName("kind of component", kind, _registries)
    return _registries[kind]


def kind_of(hint: Any) -> str | None:
    """The kind of component that a field of type `hint` (`X` or `X | None`) holds, if a registry is known to be X's."""
    options = get_args(hint) or (hint,)
    return next((kind for kind, members in _registries.items() if members.of in options and members.of), None)


def kinds() -> list[str]:
    """The kinds of component that the modules imported so far, and their members', have registries for."""
    known: set[str] = set()
    while known != _registries.keys():  # a member may bring a kind of its own: loading one may reveal another
        known = {*_registries}
        for kind in known:
            _registries[kind]._load()
    return sorted(known)


def _registered_name(value: object) -> str | None:
    for kind, members in _registries.items():
        for name, cls in members._members.items():
            if type(value) is cls:
                return f"{kind}.{name}"
    return None


def to_plain(value: Any) -> Any:
    """A tree of dataclasses as JSON values; registered classes carry their name under "type"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = _registered_name(value)
        head = {"type": name} if name else {}
        return head | {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} has no plain form")


def from_plain(data: Any, cls: type[Any] | None = None, where: str = "") -> Any:
    """The inverse of `to_plain`: an object of a registered class, or of `cls` if the mapping names none.

    Raises:
        UserError: unknown class, unknown or missing key, value of a wrong type; the message names the key.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where or 'config'} must be a mapping, got {type(data).__name__}")
    data = dict(data)
    tag = data.pop("type", None)
    if tag is not None:
        kind, _, name = str(tag).partition(".")
        found = registry(kind)[name]
        if cls is not None and dataclasses.is_dataclass(cls) and not issubclass(found, cls):
            raise UserError(f"{where or 'config'} must be a {cls.__name__}, got {tag}")
        cls = found
    if cls is None or not dataclasses.is_dataclass(cls):
        raise UserError(f"{where or 'config'} needs a 'type' that names what it is")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in data:
        if key not in fields:
            raise UnknownName(f"key{f' in {where}' if where else ''} of {cls.__name__}", key, fields)
    hints = get_type_hints(cls)
    values = {k: _value(v, hints[k], f"{where}.{k}" if where else k) for k, v in data.items()}
    required = (
        k for k, f in fields.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    )
    for key in required:
        if key not in values:
            raise UserError(f"{where or cls.__name__} lacks the key {key!r}")
    try:
        return cls(**values)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{where or cls.__name__}: {error}") from error


def _value(value: Any, hint: Any, where: str) -> Any:
    if dataclasses.is_dataclass(value):
        return value
    if isinstance(value, Mapping) and "type" in value:
        return from_plain(value, hint if isinstance(hint, type) else None, where)
    # Mappings stay away from pydantic, which would pass over unknown keys of dataclasses.
    for option in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        origin, args = get_origin(option), get_args(option)
        if isinstance(value, Mapping):
            if isinstance(option, type) and dataclasses.is_dataclass(option):
                return from_plain(value, option, where)
            if origin in (dict, Mapping):
                return {k: _value(v, args[1], f"{where}.{k}") for k, v in value.items()}
        if value == [] and args[1:] == (...,):
            return ()
        if isinstance(value, list) and origin in (tuple, list, Sequence) and any(isinstance(v, Mapping) for v in value):
            return tuple(_value(v, args[0], f"{where}[{i}]") for i, v in enumerate(value))
    if isinstance(value, bool) and bool not in (get_args(hint) or (hint,)) and hint is not Any:
        raise UserError(f"{where} = {str(value).lower()} is not accepted: expected {_words(hint)}")
    if dataclasses.is_dataclass(hint):
        raise UserError(f"{where} = {_shown(value)} is not accepted: expected {_words(hint)}")
    from pydantic import ConfigDict, TypeAdapter, ValidationError  # late: costs 0.1 s, needed only at the border
    from pydantic_core import SchemaError

    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)).validate_python(
            value
        )
    except ValidationError as error:
        raise UserError(f"{where} = {_shown(value)} is not accepted: expected {_words(hint)}") from error
    except SchemaError as error:  # the hint holds a protocol: only registered components will do
        raise UserError(f"{where} = {_shown(value)} is not accepted: expected a mapping with a 'type'") from error


_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    type(None): "null",
}


def _words(hint: Any) -> str:
    """What a type hint asks for, as a person would say it."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(a) for a in args)
    if origin is tuple and args[1:] != (...,):
        return f"a list of {len(args)} ({', '.join(_words(a) for a in args)})"
    if origin in (tuple, list, Sequence):
        return f"a list (each {_words(args[0])})"
    if origin in (dict, Mapping):
        return "a mapping"
    kind = kind_of(hint)
    if kind is not None:
        return f"a {kind} ({', '.join(registry(kind))})"
    if dataclasses.is_dataclass(hint):
        return f"a mapping with the keys {', '.join(f.name for f in dataclasses.fields(hint) if f.init)}"
    return _WORDS.get(hint, "a mapping with a 'type'")


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)[:200]
