"""Class names channel by channel: a vector that joins the time embedding.

    emb = MLP(time) + MLP(row)          network.vector_mlp=true
    emb = MLP(time) + row               network.vector_mlp=false, rows as wide as the time's embedding

The second is Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233: with `network.scale_shift=true` the sum scales
and shifts the channels of every residual block, their adaptive group norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from calotype.condition import Condition, Routes
from calotype.conditioning.class_names import ClassNames, ClassNamesConfig
from calotype.conditioning.conditioner import conditioners


class ClassVector(ClassNames):
    """ "label" (B,) long, or class names under "label", -> vector (B, width)."""

    def routes(self) -> Routes:
        """One vector."""
        return Routes(vector=self.embedding.embedding_dim)

    def condition(self, rows: Tensor) -> Condition:
        """A row is the vector."""
        return Condition(vector=rows)


@conditioners.register("class_vector")
@dataclass(frozen=True)
class ClassVectorConfig(ClassNamesConfig):
    """Class names, as a vector that joins the time embedding: config of `ClassVector`.

    Args:
        width: of the vector; four times `network.time_width` where `network.vector_mlp=false`.
        drop: probability of dropping the class alone.
    """

    def build(self, classes: Sequence[str]) -> ClassVector:
        """A fresh conditioner for these classes."""
        return ClassVector(classes, self.width, self.drop)
