"""A folder of pictures.

The folder tells by its shape what it is:

* `metadata.jsonl` in it: one JSON object per line with "file_name", and optionally "caption" (or "text") and "label"
  (or "class");
* pictures in subfolders only, two or more of them: one class per subfolder;
* otherwise plain pictures, wherever they lie.

A text file beside a picture (`cat.jpg`, `cat.txt`) is its caption.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype.data.images import FORMATS, MAX_PIXELS, SUFFIXES, open_image
from calotype.data.source import Record, Source
from calotype.errors import UserError

METADATA = "metadata.jsonl"
MAX_CAPTION_BYTES = 16_384


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
        self.name = str(path)
        self._max_pixels = max_pixels
        if not self.path.exists():
            raise UserError(f"there is no folder {self.path}; name a folder of pictures, or embedded:NAME")
        if not self.path.is_dir():
            raise UserError(f"{self.path} is a file; name the folder that holds the pictures")
        if (self.path / METADATA).is_file():
            entries, self.classes = _from_metadata(self.path)
        else:
            entries, self.classes = _from_names(self.path)
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
        return str(self._entries[index].path.relative_to(self.path))

    def fingerprint(self) -> str:
        h = hashlib.sha256()
        for e in self._entries:
            stat = e.path.stat() if e.path.exists() else None
            size, time = (stat.st_size, stat.st_mtime_ns) if stat else (-1, -1)
            h.update(f"{e.path.relative_to(self.path)}|{size}|{time}|{e.caption}|{e.label}\n".encode())
        return "folder-" + h.hexdigest()[:16]


def _pictures(folder: Path) -> list[Path]:
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in found if p.is_file())


def _sidecar(path: Path) -> str:
    text = path.with_suffix(".txt")
    if not text.is_file():
        return ""
    with text.open("rb") as file:
        return " ".join(file.read(MAX_CAPTION_BYTES).decode("utf-8", errors="replace").split())


def _from_names(folder: Path) -> tuple[list[Entry], tuple[str, ...]]:
    pictures = _pictures(folder)
    tops = [p.relative_to(folder).parts for p in pictures]
    classes: tuple[str, ...] = ()
    if pictures and all(len(t) > 1 for t in tops) and len({t[0] for t in tops}) > 1:
        classes = tuple(sorted({t[0] for t in tops}))
    return [
        Entry(p, _sidecar(p), classes.index(t[0]) if classes else -1) for p, t in zip(pictures, tops, strict=True)
    ], classes


def _from_metadata(folder: Path) -> tuple[list[Entry], tuple[str, ...]]:
    rows: list[tuple[Path, str, str | None]] = []
    root = folder.resolve()
    with (folder / METADATA).open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{folder / METADATA}, line {number}"
            row = _row(line, where)
            path = folder / str(row["file_name"])
            if not path.resolve().is_relative_to(root):
                raise UserError(f"{where}: {row['file_name']!r} lies outside the folder; give names inside it")
            if not path.is_file():
                raise UserError(f"{where}: there is no file {row['file_name']!r}; correct the name or remove the line")
            caption = row.get("caption", row.get("text"))
            label = row.get("label", row.get("class"))
            rows.append(
                (path, _sidecar(path) if caption is None else str(caption), None if label is None else str(label))
            )
    classes = tuple(sorted({label for _, _, label in rows if label is not None}))
    return [Entry(p, c, -1 if label is None else classes.index(label)) for p, c, label in rows], classes


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({error}); write one object per line") from error
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise UserError(f'{where} has no \'file_name\'; write {{"file_name": "cat.png", "caption": "a cat"}}')
    return row


def open_source(text: str | Path) -> Source:
    """A source by name: a folder, or `embedded:NAME`; raises `UserError`."""
    from calotype.data.embedded import embedded

    name = str(text)
    return embedded(name.removeprefix("embedded:")) if name.startswith("embedded:") else FolderSource(name)
