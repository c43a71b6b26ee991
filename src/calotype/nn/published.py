"""The denoising networks that were published with latent diffusion, Stable Diffusion 1 and ADM, as configs.

    PUBLISHED["ldm-celebahq"].build()                       # a UNet
    PUBLISHED_TAU["ldm-text"].build()                       # the transformer that the same paper reads captions with

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, tables 12 to 15 and 17, and the configs released with it;
Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, and the flags of its released models. A name is MODEL-DATA or
MODEL-TASK; -fN is a first stage of that factor.

The numbers of parameters in comments are the network's own. The papers' are rounded, and add whatever was trained with
it; those of table 15 even the output layer of the text transformer, which nothing reads, or the first stage, so that
its rows cannot be compared. Where a table and the released config disagree, the config is followed: weights were
trained so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from calotype.nn.text_transformer import TextTransformerConfig
from calotype.nn.unet import AtFactors, UNetConfig


def _alone(incoming: int, out: int, channels: int, multipliers: tuple[int, ...], at: AtFactors) -> UNetConfig:
    """Attention alone, for there are no tokens; heads of 32 channels."""
    return UNetConfig(incoming, out, channels, multipliers, attention=at, plain_attention=True)


def _told(z: int, channels: int, multipliers: tuple[int, ...], at: AtFactors, tokens: int, heads: int) -> UNetConfig:
    """Transformers, which read tokens."""
    return UNetConfig(z, z, channels, multipliers, attention=at, context_width=tokens, heads=heads)


# --- tables 12 and 14: unconditional ----------------------------------------------------------------------------------

_FACES = _alone(3, 3, 224, (1, 2, 3, 4), AtFactors.of_sides(64, 32, 16, 8))

_UNCONDITIONAL = {
    "ldm-celebahq": _FACES,  # 274,056,163
    "ldm-ffhq": _FACES,
    "ldm-bedrooms": _FACES,
    "ldm-churches": replace(  # 294,966,916; the table says heads of 24 channels, the config 8 heads
        _alone(4, 4, 192, (1, 2, 2, 4, 4), AtFactors.of_sides(32, 32, 16, 8, 4)),
        heads=8,
        scale_shift=True,
        resblock_updown=True,
    ),
    # Factors of the first stage compared, table 14.
    "ldm-celebahq-f1": _alone(3, 3, 192, (1, 1, 2, 2, 4, 4), AtFactors.of_sides(256, 32, 16, 8)),  # 270,458,115
    "ldm-celebahq-f2": _alone(2, 2, 192, (1, 2, 2, 4, 4), AtFactors.of_sides(128, 32, 16, 8)),  # 264,510,722
    "ldm-celebahq-f4": _FACES,
    "ldm-celebahq-f8": _alone(4, 4, 256, (1, 2, 4), AtFactors.of_sides(32, 32, 16, 8)),  # 257,733,124
    "ldm-celebahq-f16": _alone(8, 8, 256, (1, 2, 4), AtFactors.of_sides(16, 16, 8, 4)),  # 257,751,560
    "ldm-celebahq-f32": _alone(32, 32, 256, (1, 2, 4), AtFactors.of_sides(8, 8, 4, 2)),  # 257,862,176
}

# --- table 13: classes as one token, factors of the first stage compared ----------------------------------------------

_BY_CLASS = {
    "ldm-imagenet-f1": _told(  # 396,835,971
        3, 192, (1, 1, 2, 2, 4, 4), AtFactors.of_sides(256, 32, 16, 8), tokens=512, heads=1
    ),
    "ldm-imagenet-f2": _told(  # 390,888,578
        2, 192, (1, 2, 2, 4, 4), AtFactors.of_sides(128, 32, 16, 8), tokens=512, heads=1
    ),
    "ldm-imagenet-f4": _told(  # 400,920,579, printed 391 M; in table 15 with 395 M, as released
        3, 192, (1, 2, 3, 5), AtFactors.of_sides(64, 32, 16, 8), tokens=512, heads=1
    ),
    "ldm-imagenet-f8": replace(  # 394,984,196; the table says one head, the config heads of 32 channels
        _told(4, 256, (1, 2, 4), AtFactors.of_sides(32, 32, 16, 8), tokens=512, heads=1), heads=None
    ),
    "ldm-imagenet-f16": _told(8, 256, (1, 2, 4), AtFactors.of_sides(16, 16, 8, 4), tokens=512, heads=1),  # 395,002,632
    "ldm-imagenet-f32": _told(32, 256, (1, 2, 4), AtFactors.of_sides(8, 8, 4, 2), tokens=512, heads=1),  # 395,113,248
}

# --- table 15: every other condition ----------------------------------------------------------------------------------

_TEXT = _told(4, 320, (1, 2, 4, 4), AtFactors.of_sides(32, 32, 16, 8), tokens=1280, heads=8)

_BY_TASK = {
    "ldm-text": _TEXT,  # 872,300,484; with its tau and that one's output layer 1,454,294,526, printed 1.45 B
    "ldm-text-f4": replace(  # 403,623,939; a smaller model released besides
        _BY_CLASS["ldm-imagenet-f4"], context_width=640, heads=None
    ),
    "ldm-layout-openimages": replace(  # 246,277,379; with its tau and that one's output layer 305 M, printed 306 M
        _told(3, 128, (1, 2, 3, 4), AtFactors.of_sides(64, 32, 16, 8), tokens=512, heads=1), depth=3, heads=None
    ),
    "ldm-layout-coco": replace(  # 312,241,540
        _told(4, 192, (1, 2, 4), AtFactors.of_sides(32, 32, 16, 8), tokens=512, heads=1), depth=2, dropout=0.1
    ),
    # Its config asks for attention at factors 16 and 8, but the smallest maps are 8 times smaller than the input.
    "ldm-super-resolution": _alone(6, 3, 160, (1, 2, 2, 4), AtFactors((8,))),  # 113,622,563; with vq-f4 169 M
    # Its config asks for attention at factors 32, 16 and 8, which are sides; the smallest maps are 4 times smaller than
    # the input, and so nothing attends but the middle.
    "ldm-semantic": replace(_alone(6, 3, 128, (1, 4, 8), AtFactors(())), heads=8),  # 215,229,315
    "ldm-inpainting": replace(  # 215,230,467; never released, but its 215 M leave no room for more attention either
        _alone(7, 3, 128, (1, 4, 8), AtFactors(())), heads=8
    ),
    "ldm-inpainting-big": replace(  # 387,245,827; released, and the paper's best
        _alone(7, 3, 256, (1, 2, 3, 4), AtFactors.of_sides(64, 32, 16, 8)), heads=8, resblock_updown=True
    ),
}

# --- Stable Diffusion 1 -----------------------------------------------------------------------------------------------

_STABLE = {
    "stable-diffusion-1": replace(_TEXT, context_width=768),  # 859,520,964
    # 859,535,364: the noisy latent, the mask, the masked picture's latent
    "stable-diffusion-1-inpainting": replace(_TEXT, context_width=768, in_channels=9),
}

# --- ADM: pixels, a learned variance, an embedding per class that is added to the time's ------------------------------


def _adm(side: int, channels: int, multipliers: tuple[int, ...], time: int) -> UNetConfig:
    return UNetConfig(
        3,
        6,
        channels,
        multipliers,
        attention=AtFactors.of_sides(side, 32, 16, 8),
        head_width=64,
        time_width=time,
        vector_width=4 * time,
        vector_mlp=False,
        plain_attention=True,
        scale_shift=True,
        resblock_updown=True,
    )


# The table of 1000 classes, 4 * time_width wide, belongs to the conditioner; the papers count it in.
_ADM = {
    "adm-64": replace(_adm(64, 192, (1, 2, 3, 4), 192), blocks=3, dropout=0.1),  # 295,136,454; with classes 295,904,454
    "adm-128": replace(_adm(128, 256, (1, 1, 2, 3, 4), 256), heads=4),  # 420,505,606; with classes 421,529,606
    "adm-256": _adm(256, 256, (1, 1, 2, 2, 4, 4), 256),  # 552,814,086; with classes 553,838,086
    "adm-256-unconditional": replace(_adm(256, 256, (1, 1, 2, 2, 4, 4), 256), vector_width=None),  # 552,814,086
    # 557,973,638; with classes 558,997,638. Published as 256 channels whose outermost level is half as wide: the time
    # comes as 256 numbers, and the first convolution already makes 128 channels.
    "adm-512": _adm(512, 128, (1, 2, 2, 4, 4, 8, 8), 256),
}

PUBLISHED: Mapping[str, UNetConfig] = MappingProxyType({**_UNCONDITIONAL, **_BY_CLASS, **_BY_TASK, **_STABLE, **_ADM})
"""UNets by name, with the channels of conditions that are stacked on the latent, and the width of tokens."""

# --- table 17: what reads the tokens ----------------------------------------------------------------------------------


def _tau(vocabulary: int, length: int, width: int, depth: int) -> TextTransformerConfig:
    """Eight heads of 64 whatever the width; as published there is no mask, so padding is read like any word."""
    return TextTransformerConfig(
        vocabulary, length, width, depth, heads=8, head_width=64, word_std=0.02, position_std=0.02
    )


PUBLISHED_TAU: Mapping[str, TextTransformerConfig] = MappingProxyType(
    {
        "ldm-text": _tau(30522, 77, 1280, 32),  # 542,895,360; with an output layer that nothing reads 581,994,042
        "ldm-text-f4": _tau(30522, 77, 640, 32),
        "ldm-layout-openimages": _tau(8192, 92, 512, 16),  # 54,656,000; with that layer 58,858,496
    }
)
"""The trained transformers tau that make the tokens of the `PUBLISHED` network of the same name. How deep that of
"ldm-layout-coco" is was not published."""
