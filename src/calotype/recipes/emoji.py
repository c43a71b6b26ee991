"""The demo's recipes: emoji at 64 x 64 on two CPU cores, ten minutes for both stages together."""

from __future__ import annotations

from calotype.autoencoder.bottleneck.gaussian import GaussianConfig
from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.conditioning.class_label import ClassLabelConfig
from calotype.conditioning.text import TextConfig
from calotype.diffusion.guidance import ClassifierFree
from calotype.generation.generate import Plan
from calotype.nn.discriminator import PatchDiscriminatorConfig
from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.nn.unet import UNetConfig
from calotype.recipes import recipe
from calotype.runs import AutoencoderRun, DataConfig, DiffusionRun
from calotype.tasks.reconstruct import ReconstructionLoss
from calotype.training.optim import Cosine, OptimizerConfig
from calotype.training.trainer import TrainerConfig


@recipe("emoji-autoencoder", kind="autoencoder", default=True)
def emoji_autoencoder() -> AutoencoderRun:
    """Eightfold compression of 64 x 64 pictures to 8 x 8 x 8, about four minutes on two CPU cores.

    Architecture and losses are those of LDM's kl-f8 (https://arxiv.org/abs/2112.10752, appendix E.1 and G), the widths
    16, 32, 64, 128 instead of 128, 256, 512, 512. With factor 4 the pictures come back sharper, but in the minutes that
    are left the second stage then learns blobs. In a short run steps decide, not pictures: batches of 8, a high
    learning rate with cosine decay, averaged weights. The squared error keeps rare colours right, which the median that
    the absolute error looks for gives up. The discriminator is a small one (34-pixel patches) that starts when there is
    something worth criticising. Smileys are one picture in eleven and come three times as often.
    """
    return AutoencoderRun(
        data=DataConfig(side=64, balance=0.5, held_out=0.05),
        autoencoder=LatentAutoencoderConfig(
            channels=8,
            network=EncoderDecoderConfig(channels=16, multipliers=(1, 2, 4, 8), blocks=1, z_channels=8),
            bottleneck=GaussianConfig(weight=1e-6),
        ),
        discriminator=PatchDiscriminatorConfig(channels=32, layers=2),
        loss=ReconstructionLoss(perceptual=1.0, l2=2.0, weight=0.5, start=0.75, warmup=0.05),
        optimizer=OptimizerConfig(lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4, warmup_steps=50, decay=Cosine(0.02)),
        critic=OptimizerConfig(lr=4e-4, betas=(0.5, 0.99), weight_decay=1e-4, warmup_steps=50, decay=Cosine(0.02)),
        trainer=TrainerConfig(
            steps=1650, batch_size=8, ema_decay=0.995, log_every=20, save_every=500, preview_every=850, keep_last=2
        ),
    )


@recipe("emoji-diffusion", kind="diffusion", default=True)
def emoji_diffusion() -> DiffusionRun:
    """A caption- and class-conditional latent UNet of 4 million parameters, about five minutes on two CPU cores.

    Velocity prediction on the cosine schedule (Salimans & Ho 2022, https://arxiv.org/abs/2202.00512), wishes dropped
    with 10 % for classifier-free guidance (https://arxiv.org/abs/2207.12598), heads of 32 channels, averaged weights.
    The network is narrow on purpose: in equal time 64 channels reached a loss of 0.36, 96 channels 0.41, 128 channels
    0.46, because each step takes less of it. So shallow a network learns faster if its branches do not start at zero.
    Pictures are not mirrored, which halves what there is to learn.
    """
    return DiffusionRun(
        data=DataConfig(side=64, flip=False, balance=0.5, held_out=0.0),
        conditioners={
            "caption": TextConfig(width=192, depth=2, heads=6, length=20, vocabulary=1500, drop=0.05),
            "class": ClassLabelConfig(width=192, drop=0.3),
        },
        drop=0.1,
        network=UNetConfig(
            channels=64, multipliers=(1, 2), blocks=1, attention=(True, True), head_width=32, zero_init=False
        ),
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.999), weight_decay=0.01, warmup_steps=40, decay=Cosine(0.02)),
        trainer=TrainerConfig(
            steps=2000, batch_size=32, ema_decay=0.99, log_every=20, save_every=700, preview_every=700, keep_last=2
        ),
        preview=Plan(guidance=ClassifierFree(3.0), steps=20),
    )
