"""Class names as a one-token context.

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix E.2: an embedding of the class is the only token that
cross-attention reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from calotype.condition import Condition, Routes
from calotype.conditioning.class_names import ClassNames, ClassNamesConfig
from calotype.conditioning.conditioner import conditioners


class ClassLabel(ClassNames):
    """ "label" (B,) long, or class names under "label", -> tokens (B, 1, width)."""

    def routes(self) -> Routes:
        """One token."""
        return Routes(tokens=self.embedding.embedding_dim)

    def condition(self, rows: Tensor) -> Condition:
        """A row is a token."""
        return Condition(tokens=rows[:, None])


@conditioners.register("class_label")
@dataclass(frozen=True)
class ClassLabelConfig(ClassNamesConfig):
    """Class names, as one token: config of `ClassLabel`.

    Args:
        width: token width, the same for every conditioner of a model.
        drop: probability of dropping the class alone.
    """

    def build(self, classes: Sequence[str]) -> ClassLabel:
        """A fresh conditioner for these classes."""
        return ClassLabel(classes, self.width, self.drop)
