"""From a user's wish to a `Condition`.

A conditioner reads named entries of a batch ("caption", "class") and fills routes of the network. It also knows its
*null* condition: what the network sees when the wish was dropped, which is what classifier-free guidance contrasts
with. `Conditioners` joins several; a wish that is not given is null.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from calotype.condition import Condition, Routes
from calotype.errors import UserError
from calotype.registry import Registry, to_plain


class Conditioner(nn.Module, ABC):
    """One kind of wish. Subclasses are final.

    Args:
        drop: probability with which a training sample's wish is replaced by null, independently of the others.
    """

    reads: ClassVar[tuple[str, ...]]
    """The batch entries it needs."""

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    @abstractmethod
    def routes(self) -> Routes:
        """The widths it fills; the network is built from them."""

    @abstractmethod
    def forward(self, batch: Mapping[str, Any]) -> Condition:
        """The condition of a batch; raises `UserError` for a wish it does not know."""

    @abstractmethod
    def null(self, n: int) -> Condition:
        """n times the condition that says nothing."""

    def unheard(self, wishes: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
        """What in these wishes it can read but never met in training, each once; for a person to be told."""
        return ()

    def assets(self) -> Mapping[str, str]:
        """Texts that are needed beside the weights to build it again (a tokenizer), by name."""
        return {}


class Corpus(Protocol):
    """What a conditioner may learn from before training: the wishes of a data set."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names; label i is classes[i]."""
        ...

    @property
    def objects(self) -> Sequence[str]:
        """Classes of the objects in boxes; none where there are no boxes."""
        ...

    def captions(self) -> Sequence[str]:
        """Every caption."""
        ...


@runtime_checkable
class ConditionerConfig(Protocol):
    """What a conditioner is built from; a registered frozen dataclass."""

    def lacks(self, corpus: Corpus) -> str:
        """What the data would need to have for this conditioner ("captions"); "" if it has it."""
        ...

    def fit(self, corpus: Corpus) -> Conditioner:
        """A fresh conditioner for this data (vocabulary, class names)."""
        ...

    def load(self, assets: Mapping[str, str]) -> Conditioner:
        """The conditioner whose `assets` were saved."""
        ...


conditioners: Registry[ConditionerConfig] = Registry("conditioner", "calotype.conditioning")


class Conditioners(nn.Module):
    """Several conditioners as one, by name.

    Args:
        members: name -> conditioner. Empty for an unconditional model.
        configs: name -> the config each was built from.
        drop: probability with which *all* wishes of a sample are dropped together. Guidance contrasts with the
            all-null condition, which independent dropping alone would hardly ever show to the network.
    """

    def __init__(
        self, members: Mapping[str, Conditioner], configs: Mapping[str, ConditionerConfig], drop: float = 0.1
    ) -> None:
        super().__init__()
        for name in members:
            if not name.isidentifier() or name in dir(nn.ModuleDict):
                raise UserError(f"{name!r} cannot name a conditioner; take a word of letters, such as 'caption'")
        self.members = nn.ModuleDict(members)
        self.configs, self.drop = dict(configs), drop

    @classmethod
    def fit(cls, configs: Mapping[str, ConditionerConfig], corpus: Corpus, drop: float = 0.1) -> Conditioners:
        """Fresh conditioners for this data."""
        return cls({name: c.fit(corpus) for name, c in configs.items()}, configs, drop)

    def _each(self) -> list[tuple[str, Conditioner]]:
        return [(name, m) for name, m in self.members.items() if isinstance(m, Conditioner)]

    @property
    def reads(self) -> tuple[str, ...]:
        """Every batch entry that some member reads."""
        return tuple(dict.fromkeys(key for _, m in self._each() for key in m.reads))

    @property
    def drops(self) -> tuple[float, ...]:
        """Each member's own probability of being dropped."""
        return tuple(m.drop for _, m in self._each())

    def routes(self) -> Routes:
        """The members' routes together; raises `UserError` if they do not fit together."""
        try:
            return Routes.merge([m.routes() for _, m in self._each()])
        except ValueError as error:
            raise UserError(f"{error}; change the width of one (conditioners.NAME.width) or leave it out") from error

    def forward(self, batch: Mapping[str, Any], n: int) -> Condition:
        """The condition of n samples; a member whose entries are absent from the batch contributes its null.

        Raises:
            UserError: the batch holds a wish that no member reads.
        """
        return Condition.merge([self._one(m, batch, n) for _, m in self._each()])

    def _one(self, member: Conditioner, batch: Mapping[str, Any], n: int) -> Condition:
        return member(batch) if all(k in batch for k in member.reads) else member.null(1).expand(n)

    def dropped(self, batch: Mapping[str, Any], keep: Mapping[str, Tensor], n: int) -> Condition:
        """Like `forward`, with each member's rows replaced by null where keep[name] (n,) is False."""
        conditions = []
        for name, member in self._each():
            condition = self._one(member, batch, n)
            conditions.append(condition.where(keep[name], member.null(1).expand(n).to_like(condition)))
        return Condition.merge(conditions)

    def keep(self, joint: Tensor, own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Which wishes survive: uniform numbers (n,) against the joint and each member's own probability."""
        return {name: (joint >= self.drop) & (own[name] >= m.drop) for name, m in self._each()}

    def null(self, n: int) -> Condition:
        """n times the condition in which every wish is null."""
        return Condition.merge([m.null(n) for _, m in self._each()])

    def check(self, wishes: Mapping[str, Sequence[Any]]) -> None:
        """Raise `UserError` if a wish is of a kind that this model was not trained with."""
        for key in wishes:
            if key not in self.reads:
                takes = ", ".join(repr(k) for k in self.reads) or "no condition at all"
                raise UserError(f"this model was not trained with {key!r}; it takes {takes}, so leave the wish out")

    def unheard(self, wishes: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
        """What in these wishes no picture of the training set was described by."""
        return tuple(
            dict.fromkeys(w for _, m in self._each() if all(k in wishes for k in m.reads) for w in m.unheard(wishes))
        )

    def plain(self) -> dict[str, Any]:
        """JSON form: configs and the joint dropping probability."""
        return {"members": {k: to_plain(v) for k, v in self.configs.items()}, "drop": self.drop}

    def assets(self) -> dict[str, str]:
        """The members' assets under "member.asset"."""
        return {f"{name}.{key}": text for name, m in self._each() for key, text in m.assets().items()}

    @staticmethod
    def assets_of(name: str, assets: Mapping[str, str]) -> dict[str, str]:
        """The assets of one member, out of what `assets` returned."""
        return {k.removeprefix(f"{name}."): v for k, v in assets.items() if k.startswith(f"{name}.")}


def check_drop(drop: float) -> None:
    """Raise `ValueError` unless this is a probability of dropping a wish."""
    if not 0.0 <= drop <= 1.0:
        raise ValueError(f"drop must lie in [0, 1], got {drop}")


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters live."""
    return next(module.parameters()).device
