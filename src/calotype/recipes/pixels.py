"""Diffusion without a first stage: emoji at 64 x 64, pixel by pixel."""

from __future__ import annotations

from calotype.conditioning.class_label import ClassLabelConfig
from calotype.conditioning.text import TextConfig
from calotype.diffusion.curves import Cosine as CosineCurve
from calotype.diffusion.curves import Shifted
from calotype.diffusion.guidance import ClassifierFree
from calotype.diffusion.objective import Objective
from calotype.diffusion.parameterization import Velocity
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.weighting import UniformEpsilon
from calotype.generation.generate import Plan
from calotype.nn.stem import Wavelet
from calotype.nn.uvit import UViTConfig
from calotype.recipes import recipe
from calotype.runs import DataConfig, DiffusionRun
from calotype.training.optim import Cosine, OptimizerConfig
from calotype.training.trainer import TrainerConfig


@recipe("pixel-emoji", kind="diffusion")
def pixel_emoji() -> DiffusionRun:
    """A caption- and class-conditional U-ViT of 5 million parameters on pixels, without an autoencoder.

    After Hoogeboom et al. 2023, https://arxiv.org/abs/2301.11093 (simple diffusion): a network that predicts velocity,
    trained on the error of eps, on the cosine schedule shifted for the pictures' size. The paper's reference is
    64 x 64, so here the shift is zero; with data.side=128 say schedule.curve.shift=-1.386, that is 2 log(64 / 128).

    Maps of 64 x 64 are what a CPU cannot afford. Two levels of the 5/3 wavelet make them 16 x 16 before the first
    convolution, and nearly all weights are in the transformer at 8 x 8. The network's training step then takes 11 ms of
    one core per picture, as much as that of the latent UNet of `emoji-diffusion`; one level of the wavelet takes 20 ms
    at half the width, and a UNet of 64 channels on all 64 x 64 pixels 85 ms. So 3000 steps should take some ten to
    twenty minutes on two CPU cores. Patches of 4 x 4 pixels cost as much as the wavelet, but learn more slowly: after
    150 steps the loss was 0.38 against 0.22 (without conditions, one seed).

    Pixels take far more pictures than latents do: after 1,800 steps of 32 without conditions samples have shape and
    colour, but are coarse with left-over noise (docs/gallery, "Where the bits go", is that model). 3,000 steps on a CPU
    show that the chain works; for pictures to keep, take trainer.steps=100000 and an accelerator.

    There is no dropout, which the paper needs at low resolutions for runs of hundreds of epochs: network.dropout=0.2
    network.dropout_from=8 puts it into the transformer alone. The error is the plain one, for the multi-scale one helps
    above 256 x 256 only. Conditions and the start of branches are those of `emoji-diffusion`.
    """
    return DiffusionRun(
        data=DataConfig(side=64, flip=False, balance=0.5, held_out=0.0),
        autoencoder="pixels",
        conditioners={
            "caption": TextConfig(width=192, depth=2, heads=6, length=20, vocabulary=1500, drop=0.05),
            "class": ClassLabelConfig(width=192, drop=0.3),
        },
        drop=0.1,
        network=UViTConfig(channels=96, multipliers=(1, 2), blocks=(1, 4), zero_init=False, stem=Wavelet(levels=2)),
        schedule=Schedule(Shifted.by_side(CosineCurve(), side=64, reference=64)),
        parameterization=Velocity(),
        objective=Objective(UniformEpsilon()),
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.999), weight_decay=0.01, warmup_steps=40, decay=Cosine(0.02)),
        trainer=TrainerConfig(
            steps=3000, batch_size=32, ema_decay=0.995, log_every=20, save_every=1000, preview_every=1000, keep_last=2
        ),
        preview=Plan(guidance=ClassifierFree(3.0), steps=20),
    )
