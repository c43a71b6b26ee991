"""How noisy it is at which time: strictly decreasing maps t -> log-SNR.

    logsnr(t) = 2 log(alpha(t) / sigma(t)),    t in [0, 1],    0 clean, 1 noise

log-SNR may be infinite at the ends (+inf: no noise at all; -inf: nothing but noise). Everything downstream uses ratios
of alpha and sigma and stays finite there. A curve computes in the dtype it is given; `Schedule` gives it float64.

    cosine           Cosine                                                    cosine.py
    tables           Linear, ScaledLinear, Sqrt, BetaSigmoid, CosineTable, Betas    betas.py, tabulated.py
    by abar(t)       AbarLinear, AbarSigmoid, VPSDE                            abar.py
    by a density     LogLinear, Flow, Laplace, LogNormal                       density.py
    of a curve       Shifted, Interpolated, Clamped, ZeroTerminal              shifted.py, clamped.py, zero_terminal.py

Every module in this package is imported, and so registered, when a curve is looked up.
"""

from calotype.diffusion.curves.abar import VPSDE, AbarLinear, AbarSigmoid
from calotype.diffusion.curves.base import Curve, CurveOver, curves
from calotype.diffusion.curves.betas import Betas, BetaSigmoid, CosineTable, Linear, ScaledLinear, Sqrt
from calotype.diffusion.curves.clamped import Clamped
from calotype.diffusion.curves.cosine import Cosine
from calotype.diffusion.curves.density import Flow, Laplace, LogLinear, LogNormal
from calotype.diffusion.curves.shifted import Interpolated, Shifted
from calotype.diffusion.curves.tabulated import Tabulated
from calotype.diffusion.curves.zero_terminal import ZeroTerminal

__all__ = [
    "VPSDE",
    "AbarLinear",
    "AbarSigmoid",
    "BetaSigmoid",
    "Betas",
    "Clamped",
    "Cosine",
    "CosineTable",
    "Curve",
    "CurveOver",
    "Flow",
    "Interpolated",
    "Laplace",
    "Linear",
    "LogLinear",
    "LogNormal",
    "ScaledLinear",
    "Shifted",
    "Sqrt",
    "Tabulated",
    "ZeroTerminal",
    "curves",
]
