"""The first stages that were published with latent diffusion and VQGAN, at full size: for accelerators, and for days.

One recipe per network in `calotype.autoencoder.released` that was published with its training.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from calotype.autoencoder.bottleneck.vector_quantized import ByGradient, VectorQuantizedConfig
from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.autoencoder.released import RELEASED
from calotype.losses.lpips import Lpips
from calotype.nn.discriminator import PatchDiscriminatorConfig
from calotype.recipes.published import for_days, named
from calotype.runs import AutoencoderRun, DataConfig
from calotype.tasks.onset import AtStep
from calotype.tasks.reconstruct import ReconstructionLoss
from calotype.training.optim import OptimizerConfig

RATE = 4.5e-6
"""Learning rate per picture of a step, of every released config."""

ALL = (
    f"Adam with betas 0.5 and 0.9 for both sides, a learning rate of {RATE:g} times the batch, gradients as long as "
    "they are, weights not averaged; absolute error and LPIPS with VGG16, whose weights are to be put in place by hand "
    "once (`calotype train autoencoder` says where). The batch is that of one accelerator; the papers' trainings had "
    "several, and a learning rate that was as many times as high. Pictures of 256 x 256 are cut out of those whose "
    "short side was 384, here in every size from there to the whole. Latents are brought to zero mean and unit "
    "variance in every channel."
)
"""What holds for every row."""

SWAPPED = (
    "The released codebooks were trained with the weights of the two halves of their loss swapped; here they are "
    "right. autoencoder.bottleneck.learning.legacy=true swaps them."
)
"""What holds for codebooks."""


@dataclass(frozen=True)
class Row:
    """A released config.

    Args:
        what: factor and latents.
        millions: of parameters.
        batch: pictures per step on one accelerator.
        steps: optimizer steps.
        start: step at which the discriminator begins.
        weight: factor of the adaptive weight.
        found: what the papers report.
        layers: of the discriminator.
    """

    what: str
    millions: int
    batch: int
    steps: int
    start: int
    weight: float
    found: str
    layers: int = 3

    def text(self, name: str) -> str:
        """The recipe's docstring."""
        numbers = (
            f"{name} of Rombach et al. 2022, https://arxiv.org/abs/2112.10752, table 8 and its released config: "
            f"{self.batch} pictures per step, {self.steps:,} steps; the discriminator begins at step {self.start:,}. "
            f"{self.found}"
        )
        summary = f"{self.what} (LDM, table 8): {self.millions} M parameters, for accelerators."
        parts = (numbers, ALL, *([SWAPPED] if self._quantised(name) else []))
        return "\n\n".join([summary, *(textwrap.fill(part, 120) for part in parts)])

    def build(self, name: str) -> AutoencoderRun:
        """The run's config."""
        side = OptimizerConfig(RATE * self.batch, betas=(0.5, 0.9), weight_decay=0.0, clip_norm=None, spikes=None)
        return AutoencoderRun(
            data=DataConfig(side=256, zoom=256 / 384, held_out=0.01),
            autoencoder=self.autoencoder(name),
            discriminator=PatchDiscriminatorConfig(layers=self.layers),
            perceptual=Lpips(),
            loss=ReconstructionLoss(weight=self.weight, start=AtStep(self.start), warmup=0.0),
            optimizer=side,
            critic=side,
            trainer=for_days(self.steps, self.batch, ema_decay=0.0),
        )

    def autoencoder(self, name: str) -> LatentAutoencoderConfig:
        """The released one, its codebook's loss put right."""
        config = RELEASED[name]
        if not isinstance(config.bottleneck, VectorQuantizedConfig):
            return config
        return replace(config, bottleneck=replace(config.bottleneck, learning=ByGradient()))

    def _quantised(self, name: str) -> bool:
        return self.autoencoder(name) != RELEASED[name]


def _reported(fid: float, psnr: float, ssim: float) -> str:
    return f"The paper's has R-FID {fid:g}, PSNR {psnr:g} dB and SSIM {ssim:g} on ImageNet's validation pictures."


ROWS: Mapping[str, Row] = {
    "kl-f4": Row("Factor 4 to 64 x 64 x 3", 55, 10, 176_991, 50_001, 0.5, _reported(0.27, 27.53, 0.82)),
    "kl-f8": Row("Factor 8 to 32 x 32 x 4", 84, 4, 246_803, 50_001, 0.5, _reported(0.90, 24.19, 0.69)),
    "kl-f16": Row("Factor 16 to 16 x 16 x 16", 70, 6, 442_998, 50_001, 0.5, _reported(0.87, 24.08, 0.68)),
    "kl-f32": Row("Factor 32 to 8 x 8 x 64", 104, 6, 406_763, 50_001, 0.5, _reported(2.04, 22.27, 0.61)),
    "vq-f4": Row("Factor 4 to 64 x 64 x 3, 8192 codes", 55, 8, 533_066, 0, 0.75, _reported(0.58, 27.43, 0.82)),
    "vq-f4-noattn": Row(
        "Factor 4 to 64 x 64 x 3, 8192 codes, no attention",
        53,
        8,
        658_131,
        11,
        0.75,
        _reported(1.06, 25.21, 0.76) + " Its batch is not known; it is vq-f4's.",
    ),
    "vq-f8": Row(
        "Factor 8 to 32 x 32 x 4, 16384 codes", 68, 10, 971_043, 1, 0.6, _reported(1.14, 23.07, 0.65), layers=2
    ),
    "vq-f8-n256": Row(
        "Factor 8 to 32 x 32 x 4, 256 codes", 68, 10, 1_608_649, 250_001, 0.75, _reported(1.49, 22.35, 0.62)
    ),
    "vq-f16": Row(
        "Factor 16 to 16 x 16 x 8, 16384 codes",
        70,
        14,
        1_101_166,
        250_001,
        0.75,
        _reported(5.15, 20.83, 0.54),
        layers=2,
    ),
}
"""By the name of the network. Of kl-f2, vq-f32 and vqgan-f16 no config or no number of steps is known."""


for _name, _row in ROWS.items():
    named(_name, "autoencoder", partial(_row.build, _name), _row.text(_name))
