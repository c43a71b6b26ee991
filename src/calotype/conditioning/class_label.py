"""Class names as a one-token context.

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix E.2: an embedding of the class is the only token that
cross-attention reads. One row more than there are classes stands for "no class".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from calotype.condition import Condition, Routes
from calotype.conditioning.conditioner import Conditioner, Corpus, check_drop, conditioners, device_of
from calotype.errors import UnknownName, UserError
from calotype.nn.sizes import WIDEST, check_sizes


class ClassLabel(Conditioner):
    """ "label" (B,) long, or class names under "label", -> tokens (B, 1, width)."""

    reads: ClassVar[tuple[str, ...]] = ("label",)

    def __init__(self, classes: Sequence[str], width: int, drop: float) -> None:
        super().__init__(drop)
        self.classes = tuple(classes)
        self.embedding = nn.Embedding(len(self.classes) + 1, width)
        nn.init.normal_(self.embedding.weight)  # as large as normalised word tokens, so that it is seen beside them

    def routes(self) -> Routes:
        """One token."""
        return Routes(tokens=self.embedding.embedding_dim)

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
        """Labels that are negative ("no class") are null."""
        labels = [len(self.classes) if label == -1 else self.index(label) for label in _listed(batch["label"])]
        ids = torch.tensor(labels, device=device_of(self))
        return Condition(tokens=self.embedding(ids)[:, None])

    def null(self, n: int) -> Condition:
        """The extra row."""
        ids = torch.full((n,), len(self.classes), device=device_of(self))
        return Condition(tokens=self.embedding(ids)[:, None])

    def assets(self) -> Mapping[str, str]:
        """The class names."""
        return {"classes": json.dumps(self.classes)}


def _listed(labels: Any) -> list[int | str]:
    return labels.tolist() if isinstance(labels, torch.Tensor) else list(labels)


@conditioners.register("class_label")
@dataclass(frozen=True)
class ClassLabelConfig:
    """Class names, as one token: config of `ClassLabel`.

    Args:
        width: token width, the same for every conditioner of a model.
        drop: probability of dropping the class alone.
    """

    width: int = 256
    drop: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(width=(self.width, WIDEST))
        check_drop(self.drop)

    def lacks(self, corpus: Corpus) -> str:
        """Classes, where there are none."""
        return "" if corpus.classes else "classes"

    def fit(self, corpus: Corpus) -> ClassLabel:
        """A conditioner for the classes of the data."""
        if not corpus.classes:
            raise UserError(
                "the data has no classes, but the recipe conditions on them; put the images in one folder per class, "
                "add a 'label' to metadata.jsonl, or train without: conditioners.class=null"
            )
        return ClassLabel(corpus.classes, self.width, self.drop)

    def load(self, assets: Mapping[str, str]) -> ClassLabel:
        """A conditioner for the saved class names."""
        return ClassLabel([str(c) for c in json.loads(assets["classes"])], self.width, self.drop)
