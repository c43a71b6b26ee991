"""The trainings of Rombach et al. 2022, tables 12 to 15, at full size: for accelerators, and for weeks.

One recipe per row, by the name of its network in `calotype.nn.published`. Table 15's last four columns come as released
where the released config says something else than the paper.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from calotype.conditioning.class_label import ClassLabelConfig
from calotype.conditioning.conditioner import ConditionerConfig
from calotype.conditioning.layout import LayoutConfig
from calotype.conditioning.low_resolution import LowResolutionConfig
from calotype.conditioning.masked_image import LDM_INPAINTING
from calotype.conditioning.semantic_map import SemanticMapConfig
from calotype.conditioning.text import TextConfig
from calotype.data.degradations import Bicubic, BSRLight
from calotype.data.masks import Mixed
from calotype.diffusion.curves import ScaledLinear
from calotype.diffusion.grids import UniformGrid
from calotype.diffusion.guidance import ClassifierFree, Guidance, Unguided
from calotype.diffusion.objective import Objective
from calotype.diffusion.parameterization import Epsilon
from calotype.diffusion.samplers import DDIM
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.weighting import UniformEpsilon
from calotype.generation.generate import Plan
from calotype.nn.published import PUBLISHED, PUBLISHED_TAU
from calotype.recipes.published import for_days, named
from calotype.runs import DataConfig, DiffusionRun
from calotype.training.optim import OptimizerConfig

ALL = (
    "The network predicts noise, on the plain squared error, with averaged weights; AdamW at its usual settings, "
    "gradients as long as they are. As everywhere here, latents have zero mean and unit variance in every channel, "
    "where the paper scales those of kl-f8 alone, by one number. Pictures are mirrored at random, scaled by Lanczos, "
    "and cut in the middle where latents are computed in advance; all of them are then held in memory."
)
"""What holds for every row."""


PICTURES = DataConfig(side=256, held_out=0.0)
"""What they are brought to."""


@dataclass(frozen=True)
class Row:
    """A column of the paper's tables.

    Args:
        what: data, size and condition.
        table: its number.
        millions: of the network's parameters.
        network: its name in `PUBLISHED`.
        first_stage: what its latents come from.
        batch, steps, lr, betas: as printed, or in the released config.
        found: what the paper reports of it, and what is different here.
        warmup: steps.
        conditioners: what it is told.
        drop: how often it is told nothing.
        guidance: of previews.
        data: crops, and what is made of pictures to condition on.
    """

    what: str
    table: int
    millions: int
    network: str
    first_stage: str
    batch: int
    steps: int
    lr: float
    found: str
    betas: tuple[float, float] = (0.0015, 0.0195)
    warmup: int = 0
    conditioners: Mapping[str, ConditionerConfig] = field(default_factory=dict)
    drop: float = 0.0
    guidance: Guidance = field(default_factory=Unguided)
    data: DataConfig = PICTURES

    @property
    def text(self) -> str:
        """The recipe's docstring."""
        numbers = (
            f"Rombach et al. 2022, https://arxiv.org/abs/2112.10752, table {self.table}: {self.batch} pictures per "
            f"step, {self.steps:,} steps, learning rate {self.lr:g}, betas from {self.betas[0]:g} to "
            f"{self.betas[1]:g} with equal steps of their roots. First stage: {self.first_stage}. {self.found}"
        )
        summary = f"{self.what} (LDM, table {self.table}): {self.millions} M parameters, for accelerators."
        return "\n\n".join([summary, *(textwrap.fill(part, 120) for part in (numbers, ALL))])

    def build(self) -> DiffusionRun:
        """The run's config."""
        return DiffusionRun(
            data=self.data,
            autoencoder="pixels" if self.first_stage == PIXELS else "",
            conditioners=dict(self.conditioners),
            drop=self.drop,
            network=PUBLISHED[self.network],
            schedule=Schedule(ScaledLinear(*self.betas)),
            parameterization=Epsilon(),
            objective=Objective(UniformEpsilon()),
            optimizer=OptimizerConfig(lr=self.lr, weight_decay=0.01, warmup_steps=self.warmup, clip_norm=None),
            trainer=for_days(self.steps, self.batch, ema_decay=0.9999),
            preview=Plan(sampler=DDIM(), grid=UniformGrid(), guidance=self.guidance, steps=50),
        )


PIXELS = "none, the pixels themselves"
VQ_F4 = "vq-f4, 64 x 64 x 3"
VQ_F4_NOATTN = "vq-f4-noattn, 64 x 64 x 3"
VQ_F8 = "vq-f8, 32 x 32 x 4"
KL_F8 = "kl-f8, 32 x 32 x 4"
FIRST_STAGES = {
    1: PIXELS,
    2: "of factor 2, 128 x 128 x 2, 2048 codes, never released",
    4: VQ_F4,
    8: VQ_F8,
    16: "vq-f16, 16 x 16 x 8",
    32: "of factor 32, 8 x 8 x 32, 16384 codes, never released",
}
"""By factor; names are those of `calotype.autoencoder.released`."""

CLASS = {"class": ClassLabelConfig(width=512)}
TAU = PUBLISHED_TAU["ldm-text"]

DOUBTFUL_RATE = (
    "The printed learning rate, 1e-6, is that of one picture in the released config, where other rows print it times "
    "the batch; so it is here."
)
L1 = "Theirs was trained on the absolute error."


def _layouts(depth: int) -> dict[str, ConditionerConfig]:
    return {"layout": LayoutConfig(width=512, depth=depth, heads=8, objects=30, vocabulary=8192)}


HOLES = replace(PICTURES, mask=Mixed())
BETAS = (0.0015, 0.0205)
"""Of the rows that are conditioned on layouts, label maps and pictures with holes."""

ROWS = {
    "ldm-celebahq": Row(
        "CelebA-HQ at 256 x 256",
        table=12,
        millions=274,
        network="ldm-celebahq",
        first_stage=VQ_F4,
        batch=48,
        steps=410_000,
        lr=9.6e-5,
        found="FID 5.11 with 500 steps of DDIM; 14.4 V100-days.",
    ),
    "ldm-ffhq": Row(
        "FFHQ at 256 x 256",
        table=12,
        millions=274,
        network="ldm-ffhq",
        first_stage=VQ_F4,
        batch=42,
        steps=635_000,
        lr=8.4e-5,
        found="FID 4.98 with 200 steps of DDIM; 26 V100-days.",
    ),
    "ldm-churches": Row(
        "LSUN churches at 256 x 256",
        table=12,
        millions=295,
        network="ldm-churches",
        first_stage=KL_F8,
        batch=96,
        steps=500_000,
        lr=5.0e-5,
        found="FID 4.02 with 200 steps of DDIM; 18 V100-days. Theirs was trained on the absolute error.",
        betas=(0.0015, 0.0155),
        warmup=10_000,
    ),
    "ldm-bedrooms": Row(
        "LSUN bedrooms at 256 x 256",
        table=12,
        millions=274,
        network="ldm-bedrooms",
        first_stage=VQ_F4,
        batch=48,
        steps=1_900_000,
        lr=9.6e-5,
        found="FID 2.95 with 200 steps of DDIM; 60 V100-days.",
    ),
    "ldm-imagenet": Row(
        "ImageNet at 256 x 256 by class",
        table=15,
        millions=401,
        network="ldm-imagenet-f4",
        first_stage=VQ_F4,
        batch=1200,
        steps=178_000,
        lr=1.0e-4,
        found="FID 10.56, with guidance of 1.5 it is 3.60, with 250 steps of DDIM; 271 V100-days. How often the class "
        "was dropped is not printed; here it is 10 %.",
        conditioners=CLASS,
        drop=0.1,
        guidance=ClassifierFree(1.5),
    ),
    "ldm-text": Row(
        "Captioned pictures at 256 x 256",
        table=15,
        millions=872,
        network="ldm-text",
        first_stage=KL_F8,
        batch=680,
        steps=390_000,
        lr=1.0e-4,
        found="The transformer that reads captions has 543 M parameters more. FID 23.31 on COCO, with guidance of 1.5 "
        "it is 12.63, with 250 steps of DDIM. Theirs read BERT's word pieces, and padding like words; ours are learned "
        "from the captions, and padding is not read. How often captions were dropped is not printed; here it is 10 %.",
        betas=(0.00085, 0.012),
        conditioners={
            "caption": TextConfig(
                width=TAU.width,
                depth=TAU.depth,
                heads=TAU.heads,
                head_width=TAU.head_width,
                length=TAU.length,
                vocabulary=TAU.vocabulary,
            )
        },
        drop=0.1,
        guidance=ClassifierFree(1.5),
    ),
    "ldm-layout-openimages": Row(
        "OpenImages at 256 x 256 by layout",
        table=15,
        millions=246,
        network="ldm-layout-openimages",
        first_stage=VQ_F4,
        batch=24,
        steps=4_400_000,
        lr=4.8e-5,
        found=f"The transformer that reads layouts has 55 M parameters more. FID 32.02. {L1}",
        betas=BETAS,
        conditioners=_layouts(16),
    ),
    "ldm-layout-coco": Row(
        "COCO at 256 x 256 by layout",
        table=15,
        millions=312,
        network="ldm-layout-coco",
        first_stage=VQ_F8,
        batch=48,
        steps=170_000,
        lr=4.8e-5,
        found="How deep the transformer that reads layouts was is not printed; with 8 layers it has 29 M parameters, "
        "with an output layer that nothing reads 34 M, which comes closest to the printed 345 M of both. No config was "
        f"released; betas are those of the other layouts. FID 42.06 with 100 steps of DDIM. {L1}",
        betas=BETAS,
        conditioners=_layouts(8),
    ),
    "ldm-semantic": Row(
        "Landscapes at 256 x 256 by label map",
        table=15,
        millions=215,
        network="ldm-semantic",
        first_stage=VQ_F4,
        batch=48,
        steps=360_000,
        lr=4.8e-5,
        found="The table says vq-f8, text and released config vq-f4. Fit for larger pictures than it was trained on, "
        f"for it knows what is where. {L1}",
        betas=BETAS,
        conditioners={"map": SemanticMapConfig(channels=3)},
    ),
    "ldm-super-resolution": Row(
        "ImageNet from 64 x 64 to 256 x 256",
        table=15,
        millions=114,
        network="ldm-super-resolution",
        first_stage=VQ_F4,
        batch=64,
        steps=860_000,
        lr=6.4e-5,
        found="The printed 169 M are network and first stage. FID 2.8 against the validation set, 4.8 against the "
        "training set, PSNR 24.4, SSIM 0.69 with 100 steps of DDIM: regression has better PSNR and worse FID.",
        betas=(0.0015, 0.0155),
        conditioners={"low": LowResolutionConfig(times=4)},
        data=replace(PICTURES, zoom=0.5, degradation=Bicubic()),
    ),
    "ldm-super-resolution-bsr": Row(
        "Fourfold super-resolution of bad pictures",
        table=15,
        millions=114,
        network="ldm-super-resolution",
        first_stage=VQ_F4,
        batch=64,
        steps=860_000,
        lr=6.4e-5,
        found="The released model: that of the table, with blur, noise and JPEG in the small pictures, on OpenImages. "
        "How long it was trained is not printed; here it is as long as the other.",
        betas=(0.0015, 0.0155),
        conditioners={"low": LowResolutionConfig(times=4)},
        data=replace(PICTURES, zoom=0.5, degradation=BSRLight()),
    ),
    "ldm-inpainting": Row(
        "Places at 256 x 256 with holes",
        table=15,
        millions=215,
        network="ldm-inpainting",
        first_stage=VQ_F4,
        batch=128,
        steps=360_000,
        lr=128 * 1.0e-6,
        found=f"{DOUBTFUL_RATE} FID 2.15 with test masks of every size at 512 x 512, 2.37 with a first stage without "
        "attention.",
        betas=BETAS,
        conditioners={"masked": LDM_INPAINTING},
        data=HOLES,
    ),
    "ldm-inpainting-big": Row(
        "Places at 256 x 256 with holes, the larger network",
        table=15,
        millions=387,
        network="ldm-inpainting-big",
        first_stage=VQ_F4_NOATTN,
        batch=128,
        steps=360_000,
        lr=128 * 1.0e-6,
        found="The released model; batch and steps were not published and are those of the smaller one. "
        f"{DOUBTFUL_RATE} FID 2.40 with test masks of every size at 512 x 512, after half an epoch at that size 1.50; "
        f"LaMa has 2.23. {L1}",
        betas=BETAS,
        conditioners={"masked": LDM_INPAINTING},
        data=HOLES,
    ),
    **{
        f"ldm-imagenet-f{f}": Row(
            f"ImageNet by class, first stage of factor {f}",
            table=13,
            millions=millions,
            network=f"ldm-imagenet-f{f}",
            first_stage=FIRST_STAGES[f],
            batch=batch,
            steps=2_000_000,
            lr=lr,
            found="One of six that had the same compute; factors 4 to 16 were best, and 1 was 38 behind 8 in FID.",
            conditioners=CLASS,
        )
        for f, millions, batch, lr in (
            (1, 397, 7, 4.9e-5),
            (2, 391, 9, 6.3e-5),
            (4, 401, 40, 8.0e-5),
            (8, 395, 64, 6.4e-5),
            (16, 395, 112, 4.5e-5),
            (32, 395, 112, 4.5e-5),
        )
    },
    **{
        f"ldm-celebahq-f{f}": Row(
            f"CelebA-HQ, first stage of factor {f}",
            table=14,
            millions=millions,
            network=f"ldm-celebahq-f{f}",
            first_stage=FIRST_STAGES[f],
            batch=batch,
            steps=500_000,
            lr=lr,
            found="One of six that had as many steps; faces bear a factor of 8 or 16.",
        )
        for f, millions, batch, lr in (
            (1, 270, 9, 9.0e-5),
            (2, 265, 11, 1.1e-4),
            (4, 274, 48, 9.6e-5),
            (8, 258, 96, 9.6e-5),
            (16, 258, 128, 1.3e-4),
            (32, 258, 128, 1.3e-4),
        )
    },
}


for _name, _row in ROWS.items():
    named(_name, "diffusion", _row.build, _row.text)
