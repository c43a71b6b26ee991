"""Guidance: a condition, made louder.

A guidance turns a denoiser and two conditions into a plain function (x_t, t) -> x_0. Predictions of x_0, eps and v are
linear in one another at fixed x_t, so what is said here about x_0 holds for all of them. What is done, in this order:

    1  extrapolate      x_worse + scale (x_better - x_worse)          extrapolation.py
    2  rescale          bring the standard deviation back
    3  interval         where log-SNR lies outside, x_better instead
    4  threshold        bring pixels back into range                  threshold.py

What changes a finished function (x_t, t) -> x_0, by gradients or known pixels, is in `calotype.diffusion.wrappers` and
comes after these: first gradients, then `keep_known`, whose pixels nothing may change any more.
"""

from calotype.diffusion.guidance.base import Guidance, Guided, adjusted, guidances
from calotype.diffusion.guidance.classifier_free import ClassifierFree
from calotype.diffusion.guidance.extrapolation import Extrapolation
from calotype.diffusion.guidance.threshold import DynamicThreshold
from calotype.diffusion.guidance.two_networks import Autoguidance, ForeignNull
from calotype.diffusion.guidance.unguided import Unguided

__all__ = [
    "Autoguidance",
    "ClassifierFree",
    "DynamicThreshold",
    "Extrapolation",
    "ForeignNull",
    "Guidance",
    "Guided",
    "Unguided",
    "adjusted",
    "guidances",
]
