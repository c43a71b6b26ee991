"""Several sources as one."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Mapping, Sequence
from itertools import accumulate

from calotype.data.source import Record, Source


class Union(Source):
    """Sources one after the other; the class of a picture is the source it comes from.

    With `data.balance` = 1 each of them is then seen equally often, however large it is. It has boxes, label maps and
    conditioning images if all of them have, with the same classes.

    Args:
        parts: class name -> source, at least one.
        name: what the whole is called.
    """

    def __init__(self, parts: Mapping[str, Source], name: str) -> None:
        self.classes, self.name = tuple(parts), name
        self._parts = list(parts.values())
        self.objects = _common([part.objects for part in self._parts])
        self.areas = _common([part.areas for part in self._parts])
        self.paired = all(part.paired for part in self._parts)
        self._ends = list(accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def total(self) -> int:
        return sum(part.total for part in self._parts)

    def _place(self, index: int) -> tuple[int, int]:
        """Which part, and which of its pictures."""
        index = range(len(self))[index]
        part = bisect.bisect_right(self._ends, index)
        return part, index - (self._ends[part] - len(self._parts[part]))

    def __getitem__(self, index: int) -> Record:
        part, row = self._place(index)
        record = self._parts[part][row]
        return Record(
            record.image,
            record.caption,
            part,
            record.key,
            record.boxes if self.objects else (),
            record.label_map if self.areas else None,
            record.conditioning_image if self.paired else None,
        )

    def captions(self) -> Sequence[str]:
        return [caption for part in self._parts for caption in part.captions()]

    def labels(self) -> Sequence[int]:
        return [k for k, part in enumerate(self._parts) for _ in range(len(part))]

    def key(self, index: int) -> str:
        part, row = self._place(index)
        return self._parts[part].key(row)

    def fingerprint(self) -> str:
        parts = "/".join(part.fingerprint() for part in self._parts)
        return "union-" + hashlib.sha256(parts.encode()).hexdigest()[:16]


def _common(names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The names that all have alike; none if they differ."""
    return names[0] if len(set(names)) == 1 else ()
