"""Captions through a small transformer that is trained with the model.

    caption --tokenizer--> ids (B, L) --transformer--> tokens (B, L, width)

The tokenizer is a byte-pair encoding learned from the data's own captions (`tokenizers` library), so no vocabulary has
to be downloaded and rare words cost little. Padding is masked. The empty caption, which is one end-of-text token, is
null. Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix E.2 (their BERT-style encoder tau).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from calotype.condition import Condition, Routes
from calotype.conditioning.conditioner import Conditioner, Corpus, Latents, check_drop, conditioners, device_of
from calotype.errors import CorruptFile, UserError
from calotype.nn.text_transformer import TextTransformer, TextTransformerConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, END = "[pad]", "[end]"


def learn_tokenizer(captions: Sequence[str], vocabulary: int) -> Tokenizer:
    """A lower-casing byte-level BPE over these captions, at most `vocabulary` pieces; a caption ends with `[end]`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, end)])
    return tokenizer


CAPTIONS = "put a text file beside every picture (cat.png, cat.txt), or name captions in metadata.jsonl"
"""How data comes to have captions."""

MOST_WORDS = 50_000
"""Distinct words that a model remembers having met; sets with more know nearly every word anyway."""


def words_of(caption: str) -> list[str]:
    """The words of a caption, lower case, in order."""
    return re.findall(r"[^\W\d_]+", caption.lower())


class Text(Conditioner):
    """ "caption", a list of B strings, -> tokens (B, L, width) with a mask.

    Args:
        config: sizes.
        tokenizer: learned from the data's captions.
        words: every word of theirs; empty = not remembered.
    """

    reads = ("caption",)
    learned = ("tokenizer", "words")

    def __init__(self, config: TextConfig, tokenizer: Tokenizer, words: Collection[str]) -> None:
        super().__init__(config.drop)
        self.tokenizer, self.words = tokenizer, frozenset(words)
        tokenizer.enable_truncation(config.length)
        tokenizer.enable_padding(pad_id=tokenizer.token_to_id(PAD), pad_token=PAD, length=config.length)
        self.transformer = TextTransformer(config.transformer(tokenizer.get_vocab_size()))

    def routes(self) -> Routes:
        """Word pieces."""
        return Routes(tokens=self.transformer.config.width)

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (B, L) and mask (B, L), True = a real token; captions longer than L pieces are cut."""
        encoded = self.tokenizer.encode_batch([str(c) for c in captions])
        device = device_of(self)
        ids = torch.tensor([e.ids for e in encoded], device=device)
        mask = torch.tensor([e.attention_mask for e in encoded], device=device, dtype=torch.bool)
        return ids, mask

    def forward(self, batch: Mapping[str, Any]) -> Condition:
        """Token states of the captions."""
        ids, mask = self.tokenize(batch["caption"])
        return Condition(tokens=self.transformer(ids, mask), mask=mask)

    def null(self, n: int) -> Condition:
        """The empty caption, encoded once."""
        empty: Condition = self({"caption": [""]})
        return empty.expand(n)

    def unheard(self, wishes: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
        """Words that were in no caption: their pieces are known, what they mean is not."""
        if not self.words:
            return ()
        asked = [word for caption in wishes["caption"] for word in words_of(str(caption))]
        return tuple(dict.fromkeys(word for word in asked if word not in self.words))

    def check_asked(self, wishes: Mapping[str, Sequence[Any]]) -> None:
        """Raises `UserError` for a caption that would be cut."""
        for caption in wishes["caption"]:
            [encoded] = self.tokenizer.encode_batch([str(caption)])
            if encoded.overflowing:
                kept = self.tokenizer.decode(encoded.ids).strip()
                raise UserError(
                    f"a caption is longer than the {len(encoded.ids)} word pieces that this model reads; end it after "
                    f"{kept[-60:]!r}"
                )

    def assets(self) -> Mapping[str, str]:
        """The tokenizer, in the `tokenizers` library's JSON, and the words."""
        return {"tokenizer": self.tokenizer.to_str(), "words": " ".join(sorted(self.words))}


@conditioners.register("text")
@dataclass(frozen=True)
class TextConfig:
    """Captions, as tokens of a text transformer that is trained along: config of `Text`.

    Args:
        width: token width, the same for every conditioner of a model.
        depth: transformer layers.
        heads: attention heads per layer.
        length: word pieces per caption; longer captions are cut.
        vocabulary: upper limit of the number of word pieces learned.
        drop: probability of dropping the caption alone.
        head_width: channels of a head; None = width / heads.
    """

    width: int = 256
    depth: int = 2
    heads: int = 4
    length: int = 32
    vocabulary: int = 2048
    drop: float = 0.0
    head_width: int | None = None
    guided: ClassVar[bool] = True
    essential: ClassVar[bool] = False
    remedy: ClassVar[str] = CAPTIONS

    def __post_init__(self) -> None:
        self.transformer(self.vocabulary)  # which checks the sizes
        check_drop(self.drop)

    def transformer(self, vocabulary: int) -> TextTransformerConfig:
        """The transformer over this many word pieces."""
        return TextTransformerConfig(vocabulary, self.length, self.width, self.depth, self.heads, self.head_width)

    def lacks(self, corpus: Corpus) -> str:
        """Captions, where there are none."""
        return "" if any(corpus.captions()) else "captions"

    def fit(self, corpus: Corpus, latents: Latents) -> Text:
        """A tokenizer and a fresh transformer for the data's captions."""
        captions = [c for c in corpus.captions() if c]
        words = {word for caption in captions for word in words_of(caption)}
        return Text(self, learn_tokenizer(captions, self.vocabulary), words if len(words) <= MOST_WORDS else ())

    def load(self, assets: Mapping[str, str], latents: Latents) -> Text:
        """The saved tokenizer with a fresh transformer, to be filled with the saved weights."""
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(assets["tokenizer"])
        except Exception as error:  # the library raises bare Exception
            raise CorruptFile(f"the model's tokenizer cannot be read ({error}); copy the model folder again") from error
        return Text(self, tokenizer, assets["words"].split())
