"""Pictures larger than the network can take, or memory can hold, by overlapping windows.

    x_0(x_t) = sum_k W_k x_0(x_t in window k),    sum_k W_k = 1 everywhere,    W_k(i, j) = a_k(i) b_k(j)

Bar-Tal et al. 2023 (MultiDiffusion), https://arxiv.org/abs/2302.08113, average what a step of each window arrives at.
A step is linear in the prediction, so to average predictions is the same where it adds no noise; where it does, the
whole gets one draw of the right variance, which the mean of several draws has not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from calotype.condition import Condition
from calotype.diffusion.denoiser import BoundDenoiser, ConditionalDenoise
from calotype.diffusion.schedule import Schedule, wide
from calotype.diffusion.variance import Prediction, Variance
from calotype.errors import UserError
from calotype.types import Latent, Time


@dataclass(frozen=True, eq=False)
class Windowed(ConditionalDenoise):
    """A denoiser that sees a sample through windows of the size that it was trained for, and blends what it says.

    For guidance, wrappers and samplers it is a denoiser, and their work is done on the whole: one standard deviation to
    rescale by, one quantile to clip at, one known part, one noise. Guidance within windows would give each its own, and
    so each its own contrast; what is linear, extrapolation, is the same either way.

    The network sees `batch` windows at most, whatever the size of the sample. Besides them there are a few tensors of
    the sample's size; with gradients, also all that the network keeps for them. A sample that is no larger than a
    window goes to the denoiser as it is, to the last bit.

    Nothing a network says in one window can depend on another but through x_t, step by step. So this suits what is
    decided locally: super-resolution, inpainting, semantic maps, textures. Tokens and vectors say the same in every
    window: a caption is drawn in each of them, and boxes lie in each window as they were to lie in the picture.

    Args:
        denoiser: of the windows.
        size: of a window in positions of x_t, (height, width) or both; best that of training. A smaller sample is a
            smaller window.
        stride: from a window to the next, at most `size`, along height and width or both; half the size if None. The
            less, the smoother and the more to compute. The last window of each axis is moved inwards to fit.
        batch: windows per call of the network, those of all samples counted; changes speed and memory alone.

    Raises:
        UserError: size, stride or batch below 1, or windows that leave gaps; when called, a spatial condition that is
            neither as large as x_t nor the same everywhere.
    """

    denoiser: ConditionalDenoise
    size: int | tuple[int, int]
    stride: int | tuple[int, int] | None = None
    batch: int = 16

    def __post_init__(self) -> None:
        if self.batch < 1 or not all(1 <= stride <= size for size, stride in self._axes):
            raise UserError(
                f"windows need a batch of at least 1 and a stride from 1 to their size, got batch {self.batch}, stride "
                f"{self.stride} and size {self.size}; half the size is a good stride"
            )

    @property
    def _axes(self) -> list[tuple[int, int]]:
        """Size and stride along height and width."""
        sizes = (self.size, self.size) if isinstance(self.size, int) else self.size
        halves = (max(1, sizes[0] // 2), max(1, sizes[1] // 2))
        strides = halves if self.stride is None else self.stride
        return [*zip(sizes, (strides, strides) if isinstance(strides, int) else strides, strict=True)]

    @property
    def schedule(self) -> Schedule:
        """That of the denoiser inside."""
        return self.denoiser.schedule

    @property
    def variance(self) -> Variance:
        """That of the denoiser inside."""
        return self.denoiser.variance

    def __call__(self, x_t: Latent, t: Time, cond: Condition) -> Latent:
        """E[x_0 | x_t, cond], shaped like x_t, in float32 (float64 if x_t is); t (B,) in [0, 1]."""
        return self.predict(x_t, t, cond).x_0

    def bind(self, cond: Condition) -> BoundDenoiser:
        """(x_t, t) -> E[x_0 | x_t, cond]."""
        return BoundDenoiser(self, cond)

    def predict(self, x_t: Latent, t: Time, cond: Condition) -> Prediction:
        """E[x_0 | x_t, cond] and v, blended: of variances, the logarithms."""
        if all(length <= size for length, (size, _) in zip(x_t.shape[2:], self._axes, strict=True)):
            return self.denoiser.predict(x_t, t, cond)
        outputs = self.variance.outputs
        whole = x_t.new_zeros(len(x_t), outputs * x_t.shape[1], *x_t.shape[2:], dtype=wide(x_t))
        local, everywhere = _parted(cond, x_t)
        stretches = (stretched(n, *axis) for n, axis in zip(x_t.shape[2:], self._axes, strict=True))
        rows, columns = ([(place, weight.to(whole)) for place, weight in axis] for axis in stretches)
        windows = [*product(range(len(x_t)), rows, columns)]
        for first in range(0, len(windows), self.batch):
            some = windows[first : first + self.batch]
            places = [(i, slice(None), down, across) for i, (down, _), (across, _) in some]
            samples = torch.tensor([i for i, *_ in some])
            told = everywhere[samples]
            if local is not None:
                told = replace(told, spatial=torch.stack([local[place] for place in places]))
            x_0, v = self.denoiser.predict(torch.stack([x_t[place] for place in places]), t[samples], told)
            said = x_0 if v is None else torch.cat([x_0, v], 1)
            for place, (_, (_, a), (_, b)), values in zip(places, some, said, strict=True):
                whole[place] += a[:, None] * b * values
        return Prediction(*whole.chunk(outputs, 1))


def stretched(length: int, size: int, stride: int) -> list[tuple[slice, Tensor]]:
    """Where along an axis of so many positions its windows lie, and what each counts there, float64 (size,).

    They begin every `stride` positions, the last where it ends with the axis; one alone is cut to it. A window counts
    as sin^2, from almost nothing at its ends to 1 in its middle, divided by the sum of all: nothing jumps where windows
    end, whatever the stride, and where there is one alone, as at the ends of the axis, it counts 1. (MultiDiffusion
    counts all windows alike, CompVis' `split_input_params` by a clipped distance to the window's end.)
    """
    size = min(size, length)
    places = [slice(start, start + size) for start in (*range(0, length - size, stride), length - size)]
    bump = (math.pi * (torch.arange(size, dtype=torch.float64) + 0.5) / size).sin() ** 2
    total = torch.zeros(length, dtype=torch.float64)
    for place in places:
        total[place] += bump
    return [(place, bump / total[place]) for place in places]


def _parted(cond: Condition, x_t: Latent) -> tuple[Tensor | None, Condition]:
    """The spatial condition where it differs from place to place, and what is the same in every window."""
    if cond.spatial is None or cond.spatial.shape[2:] == (1, 1):
        return None, cond
    if cond.spatial.shape[2:] != x_t.shape[2:]:
        raise UserError(
            f"a spatial condition is cut like the sample, {tuple(x_t.shape[2:])} positions, or is the same everywhere, "
            f"(1, 1); got {tuple(cond.spatial.shape[2:])}: give the conditioner wishes of the picture's size"
        )
    return cond.spatial, replace(cond, spatial=None)
