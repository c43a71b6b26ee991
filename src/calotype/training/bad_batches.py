"""Batches that gave a non-finite loss or gradient, kept for inspection."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from calotype.errors import DiskFull
from calotype.files import write_tensors
from calotype.types import Batch

LIMIT = 10
"""How many a run keeps."""


def keep_bad_batch(folder: Path, batch: Batch, step: int) -> str:
    """Write the batch to folder/step-N.safetensors, everything that is no tensor as JSON in its metadata.

    Returns:
        "; the batch is kept in FILE", or nothing if there are `LIMIT` already or no room.
    """
    folder.mkdir(exist_ok=True)
    if len(list(folder.iterdir())) >= LIMIT:
        return ""
    tensors = {k: v for k, v in batch.items() if isinstance(v, Tensor)}
    texts = {k: json.dumps(v, default=str) for k, v in batch.items() if not isinstance(v, Tensor)}
    file = folder / f"step-{step}.safetensors"
    try:
        write_tensors(file, tensors, texts)
    except DiskFull:
        return ""
    return f"; the batch is kept in {file}"
