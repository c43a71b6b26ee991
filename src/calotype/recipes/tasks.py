"""Second stages for every kind of wish, on 64 x 64 pictures: minutes each on two CPU cores.

They share a first stage, `small-autoencoder-f4`, and one network; what differs is what it is told. All of them can be
tried on `embedded:scenes/train`, whose pictures come with captions, boxes, label maps and drawings.
"""

from __future__ import annotations

from dataclasses import replace

from calotype.autoencoder.bottleneck.gaussian import GaussianConfig
from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.conditioning.box_map import BoxMapConfig
from calotype.conditioning.boxes import BoxesConfig
from calotype.conditioning.class_label import ClassLabelConfig
from calotype.conditioning.conditioner import ConditionerConfig
from calotype.conditioning.conditioning_image import ConditioningImageConfig
from calotype.conditioning.image_embedding import ImageEmbeddingConfig
from calotype.conditioning.low_resolution import LowResolutionConfig
from calotype.conditioning.masked_image import MaskedImageConfig
from calotype.conditioning.semantic_map import SemanticMapConfig
from calotype.conditioning.text import TextConfig
from calotype.data.degradations import Bicubic, BSRLight
from calotype.data.masks import Scaled
from calotype.diffusion.guidance import ClassifierFree
from calotype.generation.generate import Plan
from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.nn.unet import UNetConfig
from calotype.recipes import recipe
from calotype.recipes.small import small_autoencoder
from calotype.runs import AutoencoderRun, DataConfig, DiffusionRun
from calotype.training.optim import Cosine, OptimizerConfig
from calotype.training.trainer import TrainerConfig

WIDTH = 192
"""Of a token."""


DATA = DataConfig(side=64, flip=True, held_out=0.0)
"""Pictures are mirrored with all that belongs to them; where words say what is left and right they must not be."""


@recipe("small-autoencoder-f4", kind="autoencoder")
def small_autoencoder_f4() -> AutoencoderRun:
    """Fourfold compression of 64 x 64 pictures to 16 x 16 x 4, about half an hour on two CPU cores.

    `small-autoencoder` with one level less: pictures come back sharper, for tasks whose conditions say much about every
    place (label maps, low resolution, masks) and so leave the second stage less to learn.
    """
    base = small_autoencoder()
    network = EncoderDecoderConfig(channels=16, multipliers=(1, 2, 6), blocks=1, z_channels=4)
    autoencoder = LatentAutoencoderConfig(channels=4, network=network, bottleneck=GaussianConfig(weight=1e-6))
    return replace(base, autoencoder=autoencoder, trainer=replace(base.trainer, steps=9000))


def _task(
    conditioners: dict[str, ConditionerConfig], *, data: DataConfig = DATA, steps: int = 1200, scale: float = 1.0
) -> DiffusionRun:
    """What the tasks share: velocity prediction on the cosine schedule, and a UNet of 7 million parameters for latents
    of 16 x 16 that attends at 8 x 8 and 4 x 4; so shallow a network learns faster if its branches do not start at zero.
    """
    return DiffusionRun(
        data=data,
        conditioners=conditioners,
        drop=0.1,
        network=UNetConfig(
            channels=64, multipliers=(1, 2, 2), blocks=1, attention=(False, True, True), head_width=32, zero_init=False
        ),
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.999), weight_decay=0.01, warmup_steps=40, decay=Cosine(0.02)),
        trainer=TrainerConfig(
            steps=steps, batch_size=32, ema_decay=0.99, log_every=20, save_every=400, preview_every=600, keep_last=2
        ),
        preview=Plan(guidance=ClassifierFree(scale), steps=20),
    )


@recipe("small-captions", kind="diffusion")
def small_captions() -> DiffusionRun:
    """Words and classes to pictures of 64 x 64, about fifteen minutes on two CPU cores.

    For `small-autoencoder-f4`. Captions go through a transformer that is trained along, as in LDM's text-to-image model
    (https://arxiv.org/abs/2112.10752, appendix E.2), the class is one more token.
    """
    return _task(
        {
            "caption": TextConfig(width=WIDTH, depth=2, heads=6, length=20, vocabulary=1500, drop=0.05),
            "class": ClassLabelConfig(width=WIDTH, drop=0.3),
        },
        data=replace(DATA, flip=False),
        steps=2400,
        scale=3.0,
    )


@recipe("small-layout", kind="diffusion")
def small_layout() -> DiffusionRun:
    """Boxes with classes to pictures of 64 x 64, about eight minutes on two CPU cores.

    For `small-autoencoder-f4` and data with boxes. The task is that of LDM (https://arxiv.org/abs/2112.10752, section
    4.3.1); boxes are told as GLIGEN's tokens, one each, and painted into a map. With tokens alone, those or the
    paper's, a training of minutes learns what is to be in the picture, but not where.
    """
    return _task({"layout": BoxesConfig(width=WIDTH, objects=8), "painted": BoxMapConfig()}, scale=2.0)


@recipe("small-semantic", kind="diffusion")
def small_semantic() -> DiffusionRun:
    """Label maps to pictures of 64 x 64, about twelve minutes on two CPU cores.

    For `small-autoencoder-f4` and data with label maps. LDM's semantic synthesis (https://arxiv.org/abs/2112.10752,
    section 4.3.2): the map is brought to the latents' size and joins them as channels.
    """
    return _task({"map": SemanticMapConfig(channels=8)}, steps=1800)


@recipe("small-inpainting", kind="diffusion")
def small_inpainting() -> DiffusionRun:
    """Pictures of 64 x 64 with holes to whole ones, about twelve minutes on two CPU cores.

    For `small-autoencoder-f4`. LDM's inpainting (https://arxiv.org/abs/2112.10752, section 4.5): latent and hole join
    the noisy latent as channels. Holes are LaMa's for 256 pixels, made for that size and scaled down.
    """
    return _task({"masked": MaskedImageConfig()}, data=replace(DATA, mask=Scaled()), steps=1800)


@recipe("small-super-resolution", kind="diffusion")
def small_super_resolution() -> DiffusionRun:
    """Pictures of 16 x 16 to 64 x 64, about forty minutes on two CPU cores.

    For `small-autoencoder-f4`. LDM-SR (https://arxiv.org/abs/2112.10752, section 4.4): the small picture, made by
    antialiased bicubic shrinking, is as large as the latent and joins it as it is.
    """
    return _task({"low": LowResolutionConfig()}, data=replace(DATA, degradation=Bicubic(4)), steps=6000)


@recipe("small-blind-super-resolution", kind="diffusion")
def small_blind_super_resolution() -> DiffusionRun:
    """Blurred, noisy and compressed pictures of 16 x 16 to 64 x 64, about fifteen minutes on two CPU cores.

    For `small-autoencoder-f4`. LDM-BSR (https://arxiv.org/abs/2112.10752, appendix D.6.1): as `small-super-resolution`,
    with what the real world does to pictures in random order (Zhang et al. 2021, https://arxiv.org/abs/2103.14006).
    """
    return _task({"low": LowResolutionConfig()}, data=replace(DATA, degradation=BSRLight(4)), steps=2400)


@recipe("small-image-to-image", kind="diffusion")
def small_image_to_image() -> DiffusionRun:
    """Other pictures (drawings, depth, ...) to pictures of 64 x 64, about eight minutes on two CPU cores.

    For `small-autoencoder-f4` and data with conditioning images, whose latents join the noisy latent as channels.
    """
    return _task({"drawing": ConditioningImageConfig()})


@recipe("small-variations", kind="diffusion")
def small_variations() -> DiffusionRun:
    """Pictures to others of the same content, 64 x 64, about fifteen minutes on two CPU cores.

    For `small-autoencoder-f4`. The decoder of unCLIP (Ramesh et al. 2022, https://arxiv.org/abs/2204.06125, section
    2.1) with EfficientNet-Lite0 in place of CLIP: four tokens, and a vector that joins the time embedding.
    """
    return _task({"reference": ImageEmbeddingConfig(tokens=4, width=WIDTH, vector=256)}, steps=2400, scale=2.0)
