"""What turns one function (x_t, t) -> x_0 into another: a classifier, any energy, known pixels, a larger size.

They compose with each other and with any guidance, by being called one around the other, and with every sampler:

    denoise = ClassifierFree(3.0)(denoiser, cond, null)
    denoise = energy(denoise, schedule, likeness(picture, model.decode, std=0.1))
    denoise = keep_known(denoise, x_0, mask)

A learned variance passes through all of them.
"""

from calotype.diffusion.wrappers.classifier import LogProb, classifier
from calotype.diffusion.wrappers.energy import Score, closeness, energy, likeness, posterior_std
from calotype.diffusion.wrappers.inpainting import keep_known, keep_known_renoised, latent_mask, paste
from calotype.diffusion.wrappers.upsampling import shrunk, upsample

__all__ = [
    "LogProb",
    "Score",
    "classifier",
    "closeness",
    "energy",
    "keep_known",
    "keep_known_renoised",
    "latent_mask",
    "likeness",
    "paste",
    "posterior_std",
    "shrunk",
    "upsample",
]
