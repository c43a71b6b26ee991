"""What a training run consists of: the typed configs behind recipes, `--config` files and dotted overrides.

`calotype recipes NAME` prints one; every key can be overridden by its dotted name (`optimizer.lr=1e-4`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.autoencoder.statistics import PerChannel, Statistics
from calotype.conditioning.conditioner import ConditionerConfig
from calotype.data.companions import Offer, companions_of
from calotype.data.degradations.base import Degradation
from calotype.data.masks.base import MaskGenerator
from calotype.data.source import Source
from calotype.data.view import Augment
from calotype.diffusion.objective import Objective
from calotype.diffusion.parameterization import Parameterization, Velocity
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.times import TimeSampler, UniformTimes
from calotype.diffusion.variance import FixedSmall, Variance
from calotype.diffusion.weighting import UniformVelocity
from calotype.generation.generate import Plan
from calotype.losses.perceptual import Lite0Perceptual, PerceptualConfig
from calotype.nn.discriminator import PatchDiscriminatorConfig
from calotype.nn.network import NetworkConfig
from calotype.nn.noisy_classifier import NoisyClassifierConfig
from calotype.nn.unet import UNetConfig
from calotype.tasks.reconstruct import ReconstructionLoss
from calotype.training.optim import OptimizerConfig
from calotype.training.trainer import TrainerConfig


@dataclass(frozen=True)
class DataConfig:
    """Which pictures, and how they are brought to one size.

    Args:
        source: a folder, or "embedded:NAME"; `--data` sets it.
        side: pixels; every picture is scaled to its short side and cropped to a square.
        flip: mirror half of the pictures (in training).
        crop: crop at a random place (in training) instead of the centre. Latents that are computed in advance, as those
            of a second stage are where `zoom` is 1, are of the centre.
        balance: 0 = pictures come equally often; 1 = classes do; between, rare classes come more often than their size
            says. Only where there are classes.
        held_out: share of the pictures that is not trained on, but measured on.
        zoom: side of the smallest square that is cut, as a share of the short side; below 1, squares of every size
            down to it are (0.5 in the paper's super-resolution), and latents cannot be computed in advance.
        degradation: how low-resolution pictures are made, for a model that undoes it; null = there are none.
        low_resolution_noise: standard deviation of the strongest noise that is laid over those, in [0, 1].
        mask: where pictures have holes, for a model that fills them; null = nowhere.
    """

    source: str = ""
    side: int = 64
    flip: bool = True
    crop: bool = True
    balance: float = 0.0
    held_out: float = 0.05
    zoom: float = 1.0
    degradation: Degradation | None = None
    low_resolution_noise: float = 0.0
    mask: MaskGenerator | None = None

    def __post_init__(self) -> None:
        if not 8 <= self.side <= 4096:
            raise ValueError(f"data.side must lie in 8 ... 4096 pixels, got {self.side}")
        if not 0.0 <= self.balance <= 1.0:
            raise ValueError(f"data.balance must lie in 0 ... 1, got {self.balance}")
        if not 0.0 <= self.held_out <= 0.5:
            raise ValueError(f"data.held_out must lie in 0 ... 0.5, got {self.held_out}")
        if not 0.05 <= self.zoom <= 1.0:
            raise ValueError(f"data.zoom must lie in 0.05 ... 1, got {self.zoom}")
        if not 0.0 <= self.low_resolution_noise <= 1.0:
            raise ValueError(f"data.low_resolution_noise must lie in 0 ... 1, got {self.low_resolution_noise}")
        if self.low_resolution_noise and self.degradation is None:
            raise ValueError(
                "data.low_resolution_noise lies over low-resolution pictures; take data.degradation=bicubic"
            )
        if self.degradation is not None and self.side % self.degradation.factor:
            raise ValueError(
                f"data.side must be a multiple of the degradation's factor {self.degradation.factor}, got {self.side}"
            )

    @property
    def augment(self) -> Augment:
        """What may happen to a picture in training."""
        return Augment(self.crop, self.flip, self.zoom)

    def offer(self, source: Source) -> Offer:
        """What can be wished for with this source."""
        return Offer(source, companions_of(source, self.degradation, self.low_resolution_noise, self.mask))


@dataclass(frozen=True)
class AutoencoderRun:
    """First stage: learn to compress pictures.

    Args:
        perceptual: the perceptual distance of the loss.
        statistics: how the finished autoencoder's latents are brought to unit variance.

    Raises:
        ValueError: networks for other pictures than RGB, pictures smaller than `perceptual` or `discriminator` can look
            at.
    """

    data: DataConfig = field(default_factory=DataConfig)
    autoencoder: LatentAutoencoderConfig = field(default_factory=LatentAutoencoderConfig)
    discriminator: PatchDiscriminatorConfig = field(default_factory=PatchDiscriminatorConfig)
    perceptual: PerceptualConfig = field(default_factory=Lite0Perceptual)
    loss: ReconstructionLoss = field(default_factory=ReconstructionLoss)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    critic: OptimizerConfig = field(default_factory=OptimizerConfig)
    statistics: Statistics = field(default_factory=PerChannel)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        for name, part in (("autoencoder.network", self.autoencoder.network), ("discriminator", self.discriminator)):
            if part.image_channels != 3:
                raise ValueError(f"{name}.image_channels must be 3, as pictures are RGB, got {part.image_channels}")
        if self.data.side < self.perceptual.smallest:
            raise ValueError(
                f"data.side must be at least {self.perceptual.smallest} pixels for the chosen perceptual distance, "
                f"got {self.data.side}"
            )
        if self.data.side < self.discriminator.smallest:
            raise ValueError(
                f"data.side must be at least {self.discriminator.smallest} pixels for a discriminator of "
                f"{self.discriminator.layers} layers, got {self.data.side}; take fewer (discriminator.layers)"
            )


@dataclass(frozen=True)
class DiffusionRun:
    """Second stage: learn to denoise latents.

    Args:
        autoencoder: a run directory of the first stage, or "pixels" to work without compression.
        conditioners: name -> conditioner; empty for an unconditional model.
        drop: probability of dropping all wishes of a sample, for classifier-free guidance.
        network: channel numbers of input, output and conditions are filled in from autoencoder and conditioners.
        variance: of the reverse steps; `LearnedRange` gives the network twice the outputs and the loss a second term.
        preview: how pictures are sampled while training.

    Raises:
        ValueError: drop outside [0, 1).
        UserError: times, a weighting or a variance made for another schedule, previews that it does not allow.
    """

    data: DataConfig = field(default_factory=DataConfig)
    autoencoder: str = ""
    conditioners: dict[str, ConditionerConfig] = field(default_factory=dict)
    drop: float = 0.1
    network: NetworkConfig = field(default_factory=UNetConfig)
    schedule: Schedule = field(default_factory=Schedule)
    parameterization: Parameterization = field(default_factory=Velocity)
    variance: Variance = field(default_factory=FixedSmall)
    objective: Objective = field(default_factory=lambda: Objective(UniformVelocity()))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    preview: Plan = field(default_factory=Plan)

    def __post_init__(self) -> None:
        if not 0.0 <= self.drop < 1.0:
            raise ValueError(f"drop must lie in [0, 1), got {self.drop}")
        self.objective.check(self.schedule)
        self.variance.check(self.schedule)
        self.preview.times(self.schedule, self.variance)


@dataclass(frozen=True)
class ClassifierRun:
    """A classifier of noisy latents, which can guide a second stage of the same autoencoder and schedule.

    Args:
        autoencoder: a run directory of either stage, or "pixels".
        network: its channels and classes are filled in from autoencoder and data.
        schedule, time_sampler: those of the model that it shall guide.

    Raises:
        UserError: times made for another schedule.
    """

    data: DataConfig = field(default_factory=DataConfig)
    autoencoder: str = ""
    network: NoisyClassifierConfig = field(default_factory=NoisyClassifierConfig)
    schedule: Schedule = field(default_factory=Schedule)
    time_sampler: TimeSampler = field(default_factory=UniformTimes)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        self.time_sampler.check(self.schedule)
