"""A folder of pictures.

The folder tells by its shape what it is:

* `metadata.jsonl` in it: one JSON object per line with "file_name", and optionally "caption" (or "text") and "label"
  (or "class");
* pictures in subfolders only, two or more of them: one class per subfolder;
* otherwise plain pictures, wherever they lie.

A text file beside a picture (`cat.jpg`, `cat.txt`) is its caption. Names that begin with a dot are passed over. Classes
are in the order of their names; if all are numbers, in the order of the numbers.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype.data.images import FORMATS, MAX_PIXELS, SUFFIXES, open_image
from calotype.data.source import Record, Source
from calotype.errors import UserError

METADATA = "metadata.jsonl"
MAX_CAPTION = 16_384
"""Bytes read of a caption file, characters kept of any caption."""

SKIPPED = "__MACOSX"
"""The folder of resource forks that some archives unpack to; its files have the suffixes of pictures."""


@dataclass(frozen=True)
class Entry:
    """A picture on disk, before it is decoded."""

    path: Path
    caption: str
    label: int


class FolderSource(Source):
    """The pictures of a folder, in the order of their names.

    Args:
        path: the folder; searched recursively, without following links to folders.
        max_pixels: larger pictures count as bad.

    Raises:
        UserError: no such folder, no pictures in it, or a line of metadata.jsonl that makes no sense.
    """

    def __init__(self, path: Path | str, max_pixels: int = MAX_PIXELS) -> None:
        self.path = Path(path)
        self.name = _printable(str(path))
        self._max_pixels = max_pixels
        if not _exists(self.path):
            raise UserError(f"there is no folder {self.name[:200]}; name a folder of pictures, or embedded:NAME")
        if not self.path.is_dir():
            raise UserError(f"{self.path} is a file; name the folder that holds the pictures")
        if (self.path / METADATA).is_file():
            entries, self.classes = _from_metadata(self.path)
        else:
            entries, self.classes = _from_names(self.path)
        if not entries and (self.path / METADATA).is_file():
            raise UserError(f"{self.path / METADATA} is empty; fill it, or remove it to use the pictures without it")
        if not entries:
            raise UserError(
                f"{self.path} holds no pictures; looked for {', '.join(SUFFIXES)} ({', '.join(FORMATS)}) in it and its "
                "subfolders"
            )
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Record:
        entry = self._entries[index]
        return Record(open_image(entry.path, self._max_pixels), entry.caption, entry.label, self.key(index))

    def captions(self) -> Sequence[str]:
        return [e.caption for e in self._entries]

    def labels(self) -> Sequence[int]:
        return [e.label for e in self._entries]

    def key(self, index: int) -> str:
        return _printable(str(self._entries[index].path.relative_to(self.path)))

    def fingerprint(self) -> str:
        h = hashlib.sha256()
        for e in self._entries:
            stat = e.path.stat() if e.path.exists() else None
            size, time = (stat.st_size, stat.st_mtime_ns) if stat else (-1, -1)
            line = f"{e.path.relative_to(self.path)}|{size}|{time}|{e.caption}|{e.label}\n"
            h.update(line.encode(errors="surrogatepass"))  # a name on disk need not be UTF-8
        return "folder-" + h.hexdigest()[:16]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long or odd to be any, or a folder that may not be looked into
        return False


def _printable(name: str) -> str:
    """A name that can be shown, whatever bytes it has on disk."""
    return name.encode(errors="replace").decode()


def _tidy(caption: str) -> str:
    return " ".join(_printable(caption[:MAX_CAPTION]).split())


def _pictures(folder: Path) -> list[Path]:
    found = []
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".") and name != SKIPPED]
        found += [Path(place, n) for n in names if n.lower().endswith(SUFFIXES) and not n.startswith(".")]
    return sorted(p for p in found if p.is_file())


def _sidecar(path: Path) -> str:
    text = path.with_suffix(".txt")
    if not text.is_file():
        return ""
    with text.open("rb") as file:
        return _tidy(file.read(MAX_CAPTION).decode("utf-8-sig", errors="replace"))


def _classes(names: Iterable[str]) -> dict[str, int]:
    """Class name -> label. Numbers count as numbers, so that class "10" of 11 is label 10."""
    distinct = set(names)
    if all(name.isascii() and name.isdecimal() and len(name) < 10 for name in distinct):
        return {name: k for k, name in enumerate(sorted(distinct, key=lambda name: (int(name), name)))}
    return {name: k for k, name in enumerate(sorted(distinct))}


def _from_names(folder: Path) -> tuple[list[Entry], tuple[str, ...]]:
    pictures = _pictures(folder)
    parts = [p.relative_to(folder).parts for p in pictures]
    tops = [_printable(p[0]) for p in parts]
    labels = _classes(tops) if all(len(p) > 1 for p in parts) and len(set(tops)) > 1 else {}
    return [Entry(p, _sidecar(p), labels.get(top, -1)) for p, top in zip(pictures, tops, strict=True)], tuple(labels)


def _from_metadata(folder: Path) -> tuple[list[Entry], tuple[str, ...]]:
    rows: list[tuple[Path, str, str | None]] = []
    root = folder.resolve()
    with (folder / METADATA).open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{folder / METADATA}, line {number}"
            row = _row(line, where)
            path = _inside(folder, root, row["file_name"], where)
            caption = _word(row, ("caption", "text"), where)
            label = _word(row, ("label", "class"), where)
            caption = _sidecar(path) if caption is None else _tidy(caption)
            rows.append((path, caption, (_tidy(label) or None) if label else None))
    labels = _classes(label for _, _, label in rows if label is not None)
    return [Entry(p, c, -1 if label is None else labels[label]) for p, c, label in rows], tuple(labels)


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError also for a number of thousands of digits
        raise UserError(f"{where} is not JSON ({error}); write one object per line") from error
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise UserError(f'{where} has no \'file_name\'; write {{"file_name": "cat.png", "caption": "a cat"}}')
    return row


def _word(row: dict[str, Any], keys: tuple[str, ...], where: str) -> str | None:
    """The first of these keys that is there and not null."""
    for key in keys:
        value = row.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UserError(f"{where}: {key!r} is {str(value)[:80]}; write text or a number, or leave it out")
        return str(value)
    return None


def _inside(folder: Path, root: Path, name: str, where: str) -> Path:
    path, shown = folder / name, repr(_printable(name[:200]))
    try:
        inside, there = path.resolve().is_relative_to(root), path.is_file()
    except (OSError, ValueError):  # too long for the file system, or with a character no name can have
        inside, there = True, False
    if not inside:
        raise UserError(f"{where}: {shown} lies outside the folder; give names inside it")
    if not there:
        raise UserError(f"{where}: there is no file {shown}; correct the name or remove the line")
    return path


def open_source(text: str | Path) -> Source:
    """A source by name: a folder, or `embedded:NAME`; raises `UserError`."""
    from calotype.data.embedded import NAMES, embedded

    name = str(text)
    if not name.strip():
        raise UserError(f"no pictures are named; give a folder, or one of {', '.join(f'embedded:{n}' for n in NAMES)}")
    if name.startswith("embedded:"):
        return embedded(name.removeprefix("embedded:"))
    base, slash, split = name.removeprefix("embedded").lstrip(":/").partition("/")
    near = difflib.get_close_matches(base, NAMES, n=1, cutoff=0.7)
    if near and not _exists(Path(name)):
        raise UserError(f"there is no folder {name}; did you mean 'embedded:{near[0]}{slash}{split}'?")
    return FolderSource(name)
