"""The 5/3 wavelet (LeGall, JPEG 2000): pictures as sub-bands on channels, exactly invertible.

Along one side, by lifting (Sweldens 1996; LeGall & Tabatabai 1988; ISO/IEC 15444-1, annex F, without its rounding):

    d_k = x_{2k+1} - (x_{2k} + x_{2k+2}) / 2        detail: what the neighbours' mean does not say
    s_k = x_{2k}   + (d_{k-1} + d_k) / 4            coarse: the same mean brightness as x

Borders are mirrored about their outermost sample, which is not repeated: x_{-1} = x_1, x_N = x_{N-2}. The inverse runs
the two lines backwards with the opposite signs.

The transform is linear but not orthonormal, so white noise has another variance in every band (1.5 in d, 0.72 in s,
away from borders) and neighbours are correlated. Diffusion therefore stays in pixel space, and the wavelet lives inside
the network: see `stem`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """The last side of x (..., N), N even -> (s, d), each (..., N / 2)."""
    even, odd = x[..., ::2], x[..., 1::2]
    d = odd - (even + _following(even)) / 2
    return even + (_preceding(d) + d) / 4, d


def join(s: Tensor, d: Tensor) -> Tensor:
    """The inverse of `split`: s and d (..., N / 2) -> x (..., N)."""
    even = s - (_preceding(d) + d) / 4
    odd = d + (even + _following(even)) / 2
    return torch.stack([even, odd], -1).flatten(-2)


def _following(even: Tensor) -> Tensor:
    """x_{2k+2}; the last one is the mirrored x_N = x_{N-2}."""
    return torch.cat([even[..., 1:], even[..., -1:]], -1)


def _preceding(d: Tensor) -> Tensor:
    """d_{k-1}; the first one is the mirrored d_{-1} = d_0."""
    return torch.cat([d[..., :1], d[..., :-1]], -1)


def analyse(x: Tensor, levels: int = 1) -> Tensor:
    """Sub-bands on channels.

    Args:
        x: (B, C, H, W); H and W are multiples of 2^levels.
        levels: how often the coarse band is split again; the finer details are then laid out over channels.

    Returns:
        (B, 4^levels C, H / 2^levels, W / 2^levels). One level: LL, LH, HL, HH, each of C channels; letters say coarse
        (L) or detail (H) along height, then width. More levels: those of LL first, then LH, HL, HH of this one with
        each square of 2^(levels - 1) positions on channels, as `pixel_unshuffle` orders them.

    Raises:
        ValueError: a side that cannot be halved that often.
    """
    if x.shape[-1] % 2**levels or x.shape[-2] % 2**levels:
        raise ValueError(f"sides must be multiples of {2**levels}, got {tuple(x.shape[-2:])}")
    left, right = split(x)
    (ll, hl), (lh, hh) = (_along_height(part) for part in (left, right))
    details = torch.cat([lh, hl, hh], 1)
    if levels == 1:
        return torch.cat([ll, details], 1)
    return torch.cat([analyse(ll, levels - 1), F.pixel_unshuffle(details, 2 ** (levels - 1))], 1)


def synthesise(bands: Tensor, levels: int = 1) -> Tensor:
    """The inverse of `analyse`: (B, 4^levels C, h, w) -> (B, C, 2^levels h, 2^levels w).

    Raises:
        ValueError: a number of channels that 4^levels does not divide.
    """
    if bands.shape[1] % 4**levels:
        raise ValueError(f"{levels} levels of sub-bands need a multiple of {4**levels} channels, got {bands.shape[1]}")
    channels = bands.shape[1] // 4
    coarse, details = bands[:, :channels], bands[:, channels:]
    if levels > 1:
        coarse, details = synthesise(coarse, levels - 1), F.pixel_shuffle(details, 2 ** (levels - 1))
    lh, hl, hh = details.chunk(3, 1)
    left, right = (join(s.mT, d.mT).mT for s, d in ((coarse, hl), (lh, hh)))
    return join(left, right)


def _along_height(x: Tensor) -> tuple[Tensor, Tensor]:
    s, d = split(x.mT)
    return s.mT, d.mT


class Analysis(nn.Module):
    """`analyse` as a layer without weights, in float32 (float64 if the input is).

    Args:
        gain: what the detail bands are multiplied by.
    """

    def __init__(self, levels: int, gain: float = 1.0) -> None:
        super().__init__()
        self.levels, self.gain = levels, gain

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4^levels C, H / 2^levels, W / 2^levels)."""
        bands, coarse = analyse(_wide(x), self.levels), x.shape[1]
        return torch.cat([bands[:, :coarse], self.gain * bands[:, coarse:]], 1)


class Synthesis(nn.Module):
    """`synthesise` as a layer without weights, in float32 (float64 if the input is): lifting in half precision would
    round once per step."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, bands: Tensor) -> Tensor:
        """(B, 4^levels C, h, w) -> (B, C, 2^levels h, 2^levels w)."""
        return synthesise(_wide(bands), self.levels)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
