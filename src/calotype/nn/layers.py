"""The pieces that every network shares: normalisation, residual blocks, resampling."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def group_norm(channels: int, eps: float) -> nn.GroupNorm:
    """GroupNorm with 32 groups, as in every released model; narrower layers take groups of at least four channels."""
    groups = min(32, max(1, channels // 4))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=eps)


def zero(module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> nn.Conv2d | nn.ConvTranspose2d | nn.Linear:
    """The same layer with all weights zero: a residual branch that starts as the identity."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


def halve(x: Tensor) -> Tensor:
    """The mean of every 2 x 2 positions: (B, C, H, W) -> (B, C, H/2, W/2)."""
    return F.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    """Every position four times: (B, C, H, W) -> (B, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class ResBlock(nn.Module):
    """skip(x) + conv(silu(norm(conv(silu(norm(x))) + emb)))

    With `scale_shift` the embedding modulates the second norm instead of being added before it, (scale, shift) = emb:

        skip(x) + conv(silu(norm(conv(silu(norm(x)))) (1 + scale) + shift))

    which is the adaptive group norm of Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, section 3.1, with the
    1 that their code adds. With `resample` the block changes the size of maps: R(silu(norm(x))) goes into the first
    convolution, and R(x) into the skip.

    Args:
        incoming, channels: widths; a 1x1 convolution carries the skip if they differ.
        embedding: width of the time embedding, or None for autoencoders.
        eps: of GroupNorm: 1e-6 in autoencoders, 1e-5 in the UNet.
        dropout: before the second convolution.
        zero_init: start as the identity (the UNet does), or as R.
        scale_shift: how the embedding enters.
        resample: R, `halve` or `double`; None = the maps keep their size.

    Raises:
        ValueError: scale and shift, but nothing that they could come from.
    """

    def __init__(
        self,
        incoming: int,
        channels: int,
        *,
        embedding: int | None = None,
        eps: float = 1e-6,
        dropout: float = 0.0,
        zero_init: bool = False,
        scale_shift: bool = False,
        resample: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if scale_shift and embedding is None:
            raise ValueError("scale and shift are made of an embedding, and this block has none")
        self.scale_shift, self.resample = scale_shift, resample
        self.norm1 = group_norm(incoming, eps)
        self.conv1 = nn.Conv2d(incoming, channels, 3, padding=1)
        self.embed = None if embedding is None else nn.Linear(embedding, (1 + scale_shift) * channels)
        self.norm2 = group_norm(channels, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        if zero_init:
            zero(self.conv2)
        self.skip = nn.Identity() if incoming == channels else nn.Conv2d(incoming, channels, 1)

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """x (B, incoming, H, W), emb (B, embedding) already through SiLU -> (B, channels, H, W); H and W resampled."""
        h = F.silu(self.norm1(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv1(h)
        if self.embed is not None and emb is not None:
            said = self.embed(emb)[:, :, None, None]
            if self.scale_shift:
                scale, shift = said.chunk(2, 1)
                h = self.norm2(h) * (1 + scale) + shift
            else:
                h = self.norm2(h + said)
        else:
            h = self.norm2(h)
        out: Tensor = self.skip(x) + self.conv2(self.dropout(F.silu(h)))
        return out


class Downsample(nn.Module):
    """Stride-2 3x3 convolution. `asymmetric` pads right and bottom only, as autoencoders do: symmetric padding there
    would shift the picture by half a pixel against released weights."""

    def __init__(self, channels: int, *, asymmetric: bool) -> None:
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2), whatever the time is that a resampling `ResBlock` would be told."""
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)
        return out


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W), whatever the time is that a resampling `ResBlock` would be told."""
        out: Tensor = self.conv(double(x))
        return out


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """[cos(t f_k), sin(t f_k)] with f_k = exp(-ln(10000) k / (width / 2)): t (B,) -> (B, width), float32.

    Rombach et al. 2022's order, cosine first."""
    k = torch.arange(width // 2, device=t.device, dtype=torch.float32)
    angles = t.float()[:, None] * torch.exp(-9.210340371976184 * k / (width // 2))
    return F.pad(torch.cat([angles.cos(), angles.sin()], 1), (0, width % 2))
