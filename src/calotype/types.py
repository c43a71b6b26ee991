"""The words of the signatures.

Time runs from 0 (clean) to 1 (noise) everywhere. Images are NCHW floats in [-1, 1]. Latents are NCHW floats with about
zero mean and unit variance (see `autoencoder.LatentStats`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor

Image: TypeAlias = Float[Tensor, "batch channels height width"]
Latent: TypeAlias = Float[Tensor, "batch channels height width"]
Time: TypeAlias = Float[Tensor, " batch"]

Denoise: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> E[x_0 | x_t]: the meeting point of the library."""

Noise: TypeAlias = Callable[[Tensor], Tensor]
"""x -> fresh N(0, 1) noise like x; sample i draws from its own generator."""

Batch: TypeAlias = Mapping[str, Any]
"""What a data source yields: "index" (B,) long, "epoch" (B,) long, "image" (B, 3, H, W), "caption" list[str], ..."""

Metrics: TypeAlias = Mapping[str, float | Tensor]
"""Scalars to log; tensors are read (and synchronised) only when a line is written."""
