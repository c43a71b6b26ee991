"""A classifier of noisy latents for the second stage of small pictures."""

from __future__ import annotations

from calotype.nn.noisy_classifier import NoisyClassifierConfig
from calotype.nn.unet import UNetConfig
from calotype.recipes import recipe
from calotype.runs import ClassifierRun, DataConfig
from calotype.training.optim import Cosine, OptimizerConfig
from calotype.training.trainer import TrainerConfig


@recipe("small-classifier", kind="classifier", default=True)
def small_classifier() -> ClassifierRun:
    """A half UNet of 2 million parameters on 8 x 8 latents, a minute or two on two CPU cores.

    Architecture, weight decay (0.05) and the noise that pictures are shown with are those of ADM's classifiers
    (https://arxiv.org/abs/2105.05233, table 13), the widths 64 and 128 instead of 128 to 512. On small sets a
    classifier learns its pictures by heart long before a denoiser does, and then its gradient says nothing about new
    ones: hence dropout, a short run and averaged weights. Guide with it by `calotype sample RUN --class NAME
    --classifier runs/small-classifier --classifier-scale 1`.
    """
    return ClassifierRun(
        data=DataConfig(side=64, flip=True, balance=0.5, held_out=0.1),
        network=NoisyClassifierConfig(
            half=UNetConfig(channels=64, multipliers=(1, 2), blocks=1, attention=(True, True), dropout=0.1)
        ),
        optimizer=OptimizerConfig(lr=3e-4, weight_decay=0.05, warmup_steps=40, decay=Cosine(0.02)),
        trainer=TrainerConfig(
            steps=800, batch_size=64, ema_decay=0.99, log_every=20, save_every=400, preview_every=0, keep_last=2
        ),
    )
