"""BSRGAN's degradation."""

from __future__ import annotations

from dataclasses import dataclass, field

from calotype.data.degradations.base import degradations
from calotype.data.degradations.blur import RandomBlur
from calotype.data.degradations.jpeg import RandomJPEG
from calotype.data.degradations.noise import RandomNoise
from calotype.data.degradations.shuffled import Shuffled


@degradations.register("bsr")
@dataclass(frozen=True)
class BSR(Shuffled):
    """Unknown and severe: two wide blurs, much noise and strong compression, in random order (see `Shuffled`).

    Zhang et al. 2021, https://arxiv.org/abs/2103.14006, with the numbers of its code, cszn/BSRGAN. The camera's
    processing (ISP), a network there which the published scripts run without, is left out.

    Differs from LDM's copy where that has bugs: a picture that is not square is not cut by the other side's remainder
    (it has to fit; see `Degradation`), the final size is exact for every factor (there 1 / factor is rounded before it
    multiplies), no size becomes 0, a blur of width 0 gives no NaN.
    """

    factor: int = 4
    blur: RandomBlur = field(
        default=RandomBlur(1.0, long_sizes=tuple(range(7, 26, 2)), round_sizes=tuple(range(7, 26, 2)))
    )
    blurs: int = 2
    resized: float = 0.75
    noise: RandomNoise = field(default=RandomNoise((2, 25)))
    jpeg: RandomJPEG = field(default=RandomJPEG((30, 95)))
