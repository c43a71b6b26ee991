"""From a user's wish to a `Condition`.

A conditioner reads named entries of a batch and fills routes of the network:

    caption, label         what a picture shows, in words or as a class
    layout                 boxes with classes (`calotype.layout`)
    box_map                (B, H, W) uint8: the layout, painted (`Layout.painted`); 255 = no box
    label_map              (B, H, W) uint8: the area that every pixel belongs to, 255 = none
    low_resolution         (B, 3, h, w) in [-1, 1]: the picture, smaller and worse
    image, hole            (B, 3, H, W) in [-1, 1] and (B, 1, H, W) bool, TRUE IN THE HOLE: a picture to be completed
    conditioning_image     (B, 3, H, W) in [-1, 1]: another picture that this one is made from
    reference              (B, 3, s, s) in [-1, 1]: a picture whose content is wished for, wherever it is in it

It also knows its *null* condition: what the network sees when the wish was dropped, which is what classifier-free
guidance contrasts with. `Conditioners` joins several; a wish that is not given is null. Some are not `guided`: without
their wish there is no task (an inpainting model without a picture to complete), so it is never dropped, guidance sees
it on both sides, and it has to be given.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from calotype.condition import Condition, Routes
from calotype.errors import UserError
from calotype.registry import Registry, to_plain
from calotype.types import Image, Latent


class Conditioner(nn.Module, ABC):
    """One kind of wish. Subclasses are final.

    Args:
        drop: probability with which a training sample's wish is replaced by null, independently of the others.
        guided: whether guidance strengthens the wish; otherwise it is always there, and never dropped.
    """

    reads: tuple[str, ...]
    """The batch entries it needs."""

    learned: tuple[str, ...] = ()
    """The assets that were made from a data set's wishes (a tokenizer). A run keeps them when it goes on, whatever its
    data say by then; the others say what numbers and weights mean, and may not change."""

    def __init__(self, drop: float, guided: bool = True) -> None:
        super().__init__()
        self.drop, self.guided = drop, guided

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

    @property
    def names(self) -> Sequence[str]:
        """The classes that numbers in its wishes stand for (of objects in boxes, of areas in label maps)."""
        return ()

    def check_asked(self, wishes: Mapping[str, Sequence[Any]]) -> None:
        """Raise `UserError` for a person's wish of which a part would be lost, as it is with a data set's."""

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

    @property
    def areas(self) -> Sequence[str]:
        """Classes of the pixels of label maps; none where there are no label maps."""
        ...

    @property
    def entries(self) -> Collection[str]:
        """The entries that batches can have."""
        ...

    @property
    def shrinks(self) -> int:
        """How many times smaller than pictures their low-resolution versions are; 1 where there are none."""
        ...

    def captions(self) -> Sequence[str]:
        """Every caption."""
        ...


class Latents(Protocol):
    """The space that pictures are denoised in; an autoencoder is one."""

    factor: int
    channels: int

    def encode(self, image: Image) -> Latent:
        """(B, 3, H, W) in [-1, 1] -> (B, channels, H / factor, W / factor), without noise."""
        ...


@runtime_checkable
class ConditionerConfig(Protocol):
    """What a conditioner is built from; a registered frozen dataclass."""

    @property
    def guided(self) -> bool:
        """See `Conditioner`."""
        ...

    @property
    def essential(self) -> bool:
        """Whether a recipe is about this wish, and is not to be trained on data without; words and classes are not."""
        ...

    @property
    def remedy(self) -> str:
        """How data would come to have what it lacks, for a person: "put a text file beside every picture"."""
        ...

    def lacks(self, corpus: Corpus) -> str:
        """What the data would need to have for this conditioner ("captions"); "" if it has it."""
        ...

    def fit(self, corpus: Corpus, latents: Latents) -> Conditioner:
        """A fresh conditioner for these latents and for data (vocabulary, class names) that lacks nothing."""
        ...

    def load(self, assets: Mapping[str, str], latents: Latents) -> Conditioner:
        """The conditioner whose `assets` were saved, for the latents that it was made for."""
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
    def fit(
        cls, configs: Mapping[str, ConditionerConfig], corpus: Corpus, latents: Latents, drop: float = 0.1
    ) -> Conditioners:
        """Fresh conditioners for this data and these latents.

        Raises:
            UserError: data that lacks what one of them reads, or does not fit the config.
        """
        for name, config in configs.items():
            missing = config.lacks(corpus)
            if missing:
                raise UserError(
                    f"the data has no {missing}, but the recipe conditions on them; {config.remedy}, or train without: "
                    f"conditioners.{name}=null"
                )
        return cls({name: c.fit(corpus, latents) for name, c in configs.items()}, configs, drop)

    @classmethod
    def load(
        cls,
        configs: Mapping[str, ConditionerConfig],
        assets: Mapping[str, str],
        latents: Latents,
        drop: float,
    ) -> Conditioners:
        """Those whose `assets` were saved, to be filled with the saved weights; raises what their `load` does."""
        own = {
            name: {k.removeprefix(f"{name}."): v for k, v in assets.items() if k.startswith(f"{name}.")}
            for name in configs
        }
        return cls({name: c.load(own[name], latents) for name, c in configs.items()}, configs, drop)

    def _each(self) -> list[tuple[str, Conditioner]]:
        return [(name, m) for name, m in self.members.items() if isinstance(m, Conditioner)]

    @property
    def reads(self) -> tuple[str, ...]:
        """Every batch entry that some member reads."""
        return tuple(dict.fromkeys(key for _, m in self._each() for key in m.reads))

    @property
    def guided(self) -> tuple[Conditioner, ...]:
        """The members whose wishes guidance can strengthen."""
        return tuple(m for _, m in self._each() if m.guided)

    @property
    def names(self) -> dict[str, Sequence[str]]:
        """Entry -> the classes that numbers in it stand for, where there are any."""
        found = {key: m.names for _, m in self._each() for key in m.reads if m.names}
        return {"layout": found["box_map"], **found} if "box_map" in found else found  # one is made of the other

    @property
    def knows_null(self) -> bool:
        """Whether training has shown what the network sees where nothing is wished for."""
        own = [member.drop for member in self.guided]
        return self.drop > 0 or min(own, default=1.0) > 0

    @property
    def needs(self) -> tuple[str, ...]:
        """The batch entries that have to be given: those of members that are not guided."""
        return tuple(dict.fromkeys(key for _, m in self._each() if not m.guided for key in m.reads))

    def routes(self) -> Routes:
        """The members' routes together; raises `UserError` if they do not fit together."""
        try:
            return Routes.merge([m.routes() for _, m in self._each()])
        except ValueError as error:
            raise UserError(f"{error}; change the width of one (conditioners.NAME.width) or leave it out") from error

    def forward(self, batch: Mapping[str, Any], n: int) -> Condition:
        """The condition of n samples; a guided member whose entries are absent from the batch contributes its null."""
        return Condition.merge([self._one(m, batch, n) for _, m in self._each()])

    def _one(self, member: Conditioner, batch: Mapping[str, Any], n: int) -> Condition:
        given = all(key in batch for key in member.reads)
        return member(batch) if given or not member.guided else member.null(1).expand(n)

    def dropped(self, batch: Mapping[str, Any], keep: Mapping[str, Tensor], n: int) -> Condition:
        """Like `forward`, with each guided member's rows replaced by null where keep[name] (n,) is False."""
        conditions = []
        for name, member in self._each():
            condition = self._one(member, batch, n)
            if member.guided:
                condition = condition.where(keep[name], member.null(1).expand(n).to_like(condition))
            conditions.append(condition)
        return Condition.merge(conditions)

    def both(self, batch: Mapping[str, Any], n: int) -> tuple[Condition, Condition]:
        """`forward` and `null`, with what they share computed once."""
        conditions = [(self._one(m, batch, n), m) for _, m in self._each()]
        nulls = [m.null(1).expand(n) if m.guided else condition for condition, m in conditions]
        return Condition.merge([condition for condition, _ in conditions]), Condition.merge(nulls)

    def keep(self, joint: Tensor, own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Which wishes survive: uniform numbers (n,) against the joint and each guided member's own probability."""
        return {name: (joint >= self.drop) & (own[name] >= m.drop) for name, m in self._each() if m.guided}

    def null(self, n: int, batch: Mapping[str, Any] | None = None) -> Condition:
        """n times the condition in which every wish is null that guidance can strengthen.

        Args:
            batch: has the entries of the others.
        """
        given = batch or {}
        return Condition.merge([m.null(1).expand(n) if m.guided else m(given) for _, m in self._each()])

    def check(self, wishes: Mapping[str, Sequence[Any]]) -> None:
        """Raise `UserError` if a wish is of a kind that this model was not trained with, or one is missing that it
        cannot do without."""
        for key in wishes:
            if key not in self.reads:
                takes = ", ".join(repr(k) for k in self.reads) or "no condition at all"
                raise UserError(f"this model was not trained with {key!r}; it takes {takes}, so leave the wish out")
        for _, member in self._each():
            lacking = [key for key in member.reads if key not in wishes]
            if 0 < len(lacking) < len(member.reads):
                raise UserError(
                    f"this model takes {' and '.join(map(repr, member.reads))} together; add {' and '.join(lacking)}"
                )
        missing = [key for key in self.needs if key not in wishes]
        if missing:
            raise UserError(
                f"this model always had {' and '.join(map(repr, missing))} in training and cannot do without; add "
                f"{'them' if len(missing) > 1 else 'it'}"
            )

    def check_asked(self, wishes: Mapping[str, Sequence[Any]]) -> None:
        """Raise `UserError` for a person's wish that a member cannot take whole, or that `check` refuses."""
        self.check(wishes)
        for _, member in self._each():
            if all(key in wishes for key in member.reads):
                member.check_asked(wishes)

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

    def fixed(self) -> dict[str, str]:
        """The assets that were not learned from wishes, and which members there are."""
        learned = {f"{name}.{key}" for name, m in self._each() for key in m.learned}
        return {"conditions": ", ".join(self.members)} | {k: v for k, v in self.assets().items() if k not in learned}


def check_drop(drop: float, guided: bool = True) -> None:
    """Raise `ValueError` unless this is a probability of dropping a wish, and 0 for one that is never dropped."""
    if not 0.0 <= drop <= 1.0:
        raise ValueError(f"drop must lie in [0, 1], got {drop}")
    if drop and not guided:
        raise ValueError(f"drop = {drop} drops what is never dropped; take guided=true with it, or drop=0")


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters live."""
    return next(module.parameters()).device
