"""Pretrained text encoders of two layers with random weights, as folders."""

import atexit
import tempfile
from functools import cache
from pathlib import Path

import torch

from calotype.conditioning.text import learn_tokenizer

SEEN = ["a red heart", "a smiling face", "a police officer with dark skin", "hearts and faces"]
KINDS = ("clip", "t5", "bert")
LENGTH, WIDTH = 24, 16


def write(kind: str, folder: Path, seed: int = 0) -> Path:
    """Write an encoder of this kind with its tokenizer, as `save_pretrained` does."""
    from transformers import (
        BertConfig,
        BertModel,
        CLIPTextConfig,
        CLIPTextModel,
        PreTrainedTokenizerFast,
        T5Config,
        T5EncoderModel,
    )

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learn_tokenizer(SEEN, 300), pad_token="[pad]")
    size = {"vocab_size": len(tokenizer), "num_hidden_layers": 2, "num_attention_heads": 2}
    wide = {"hidden_size": WIDTH, "intermediate_size": 32, "max_position_embeddings": LENGTH}
    end = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        if kind == "clip":
            model = CLIPTextModel(CLIPTextConfig(**size, **wide, **end, initializer_factor=20.0))
        elif kind == "t5":
            model = T5EncoderModel(T5Config(vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=32, num_layers=2))
        else:
            model = BertModel(BertConfig(**size, **wide, initializer_range=0.3))
        for p in model.parameters():
            p.data += 0.02 * torch.randn_like(p)  # norms and biases too
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def encoder(kind: str) -> Path:
    """A folder of this kind, written once; not to be changed."""
    place = tempfile.TemporaryDirectory()
    atexit.register(place.cleanup)
    return write(kind, Path(place.name) / kind)
