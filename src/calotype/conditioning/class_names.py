"""A class name as a row of a table, whatever route it takes from there.

One row more than there are classes stands for "no class".
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from calotype.condition import Condition
from calotype.conditioning.conditioner import Conditioner, Corpus, Latents, check_drop, device_of
from calotype.errors import UnknownName, UserError
from calotype.nn.sizes import WIDEST, check_sizes


class ClassNames(Conditioner):
    """ "label" (B,) long, or class names under "label", -> rows (B, width) of a learned table.

    Args:
        classes: names; class k is row k.
        width: of a row.
        drop: probability of dropping the class alone.
    """

    reads = ("label",)

    def __init__(self, classes: Sequence[str], width: int, drop: float) -> None:
        super().__init__(drop)
        self.classes = tuple(classes)
        # rows of unit size: as large as normalised word tokens and as sines and cosines, so that it is seen beside them
        self.embedding = nn.Embedding(len(self.classes) + 1, width)

    @property
    def names(self) -> Sequence[str]:
        """Of the classes."""
        return self.classes

    @abstractmethod
    def condition(self, rows: Tensor) -> Condition:
        """Rows (B, width) on their route."""

    def index(self, label: int | str) -> int:
        """The class index of a name or number; raises `UserError` naming the nearest classes."""
        if isinstance(label, str):
            lowered = [c.casefold() for c in self.classes]
            if label.casefold() not in lowered:
                raise UnknownName("class", label, self.classes)
            return lowered.index(label.casefold())
        if not 0 <= int(label) < len(self.classes):
            raise UserError(f"class {label} is out of range; this model knows 0 ... {len(self.classes) - 1}")
        return int(label)

    def forward(self, batch: Mapping[str, Any]) -> Condition:
        """The label -1 ("no class") is null."""
        labels = [len(self.classes) if label == -1 else self.index(label) for label in _listed(batch["label"])]
        return self.condition(self.embedding(torch.tensor(labels, device=device_of(self))))

    def null(self, n: int) -> Condition:
        """The extra row."""
        return self.condition(self.embedding(torch.full((n,), len(self.classes), device=device_of(self))))

    def assets(self) -> Mapping[str, str]:
        """The class names."""
        return {"classes": json.dumps(self.classes)}


def _listed(labels: Any) -> list[int | str]:
    return labels.tolist() if isinstance(labels, Tensor) else list(labels)


@dataclass(frozen=True)
class ClassNamesConfig(ABC):
    """What the configs of `ClassNames` have in common."""

    width: int = 256
    drop: float = 0.0
    guided: ClassVar[bool] = True
    essential: ClassVar[bool] = False
    remedy: ClassVar[str] = "put the pictures in one folder per class, or name a 'label' in metadata.jsonl"

    def __post_init__(self) -> None:
        check_sizes(width=(self.width, WIDEST))
        check_drop(self.drop)

    @abstractmethod
    def build(self, classes: Sequence[str]) -> ClassNames:
        """A fresh conditioner for these classes."""

    def lacks(self, corpus: Corpus) -> str:
        """Classes, where there are none."""
        return "" if corpus.classes else "classes"

    def fit(self, corpus: Corpus, latents: Latents) -> ClassNames:
        """A conditioner for the classes of the data."""
        return self.build(corpus.classes)

    def load(self, assets: Mapping[str, str], latents: Latents) -> ClassNames:
        """A conditioner for the saved class names."""
        return self.build([str(c) for c in json.loads(assets["classes"])])
