"""A judge of what is where: a network that says of every pixel which area it belongs to.

It learns from real pictures, some of which have passed the first stage of the models that it is to judge: a decoder's
softness is no matter of obedience. What a judge says is compared with what it says about real pictures, for it errs.

    OUT/judge/model/config.json               network, areas
    OUT/judge/model/segmenter.safetensors
    OUT/judge/model/manifest.json
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.autoencoder.base import Autoencoder
from calotype.autoencoder.latent_space import weights_hash
from calotype.console import console
from calotype.data.companions import LabelMaps
from calotype.data.folder import open_source
from calotype.data.loader import Loader, pictures
from calotype.data.source import Source
from calotype.errors import UserError
from calotype.files import commit_directory, write_json, write_tensors
from calotype.jobs.report import few
from calotype.jobs.train import open_autoencoder
from calotype.layout import UNLABELLED
from calotype.model import FORMAT, described, filled, read_config
from calotype.nn.segmentation import SegmentationConfig, SegmentationNetwork
from calotype.registry import from_plain, to_plain
from calotype.rng import Draws
from calotype.runs import DataConfig
from calotype.runtime import best_device
from calotype.tasks.base import Loss, Progress, Task
from calotype.training.optim import Cosine, OptimizerConfig
from calotype.training.run import RunDirectory
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.types import Batch, Image

KIND = "segmenter"

COUNTED = 512
"""Pictures that tell how large the areas are."""


QUICK = OptimizerConfig(lr=2e-3, betas=(0.9, 0.99), weight_decay=0.02, warmup_steps=40, decay=Cosine(0.02))


@dataclass(frozen=True)
class SegmenterRun:
    """How a judge is trained.

    Args:
        data: pictures with label maps.
        autoencoder: a run directory of the first stage whose pictures it is to judge.
        network: its areas are filled in.
        soft: share of the pictures that pass the autoencoder first.
        jitter: how far contrast, brightness and the channels' brightness are drawn from where they are. Pictures that
            are to be judged need not have the colours of those that were learned.
        balance: areas weigh as much as 1 / size^balance; 0 = every pixel counts alike, and most are background.

    Raises:
        ValueError: a share or an exponent outside [0, 1].
    """

    data: DataConfig = field(default_factory=DataConfig)
    autoencoder: str = ""
    network: SegmentationConfig = field(default_factory=SegmentationConfig)
    soft: float = 0.5
    jitter: float = 0.25
    balance: float = 0.5
    optimizer: OptimizerConfig = QUICK
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        for name in ("soft", "jitter", "balance"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")


@dataclass
class Segmenter:
    """(pictures) -> the area of every pixel.

    Args:
        network: from pictures to a logit for every area.
        areas: their names.
    """

    network: SegmentationNetwork
    areas: tuple[str, ...]

    @cached_property
    def sha256(self) -> str:
        """A short hash of its weights: the identity of the judge, for what was measured by it."""
        return weights_hash(self.network)

    def logits(self, images: Image) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, areas, H, W)."""
        logits: Tensor = self.network(images)
        return logits

    @torch.no_grad()
    def maps(self, images: Image) -> Tensor:
        """Any number of pictures (n, 3, H, W) in [-1, 1] -> label maps (n, H, W) uint8 on the CPU."""
        device = next(self.network.parameters()).device
        found = [self.logits(x.to(device)).argmax(1).to(torch.uint8).cpu() for x in torch.split(images, 64)]
        return torch.cat(found)

    def save(self, path: Path) -> None:
        """Write the folder, atomically; raises `DiskFull`."""
        plain = {
            "format": FORMAT,
            "kind": KIND,
            "network": to_plain(self.network.config),
            "areas": [*self.areas],
        }
        with commit_directory(path) as folder:
            write_json(folder / "config.json", plain)
            write_tensors(folder / "segmenter.safetensors", self.network.state_dict())

    @classmethod
    def load(cls, path: Path) -> Segmenter:
        """Read a folder that `save` wrote.

        Raises:
            UserError: no such folder, or another kind of model.
            CorruptFile: the content disagrees with the manifest, or describes no judge.
        """
        config = read_config(path, KIND)
        with described(path):
            network: SegmentationConfig = from_plain(config["network"], SegmentationConfig, "network")
            areas = tuple(str(area) for area in config["areas"])
            if len(areas) != network.areas:
                raise ValueError(f"{len(areas)} names for {network.areas} areas")
            built = filled(network.build, path / "segmenter.safetensors").eval().requires_grad_(False)
            return cls(built.to(best_device()), areas)


class Segment(Task):
    """Train a judge: cross entropy per pixel. Pixels without a label do not count.

    Args:
        judge: its network learns.
        autoencoder: what some pictures pass; it stays as it is.
        weights: (areas,), what a pixel of each counts.
        config: shares.
    """

    phases: ClassVar[tuple[str, ...]] = ("segment",)
    ema: ClassVar[tuple[str, ...]] = ("segment",)

    def __init__(self, judge: Segmenter, autoencoder: Autoencoder, weights: Tensor, config: SegmenterRun) -> None:
        super().__init__()
        self.network, self.config = judge.network, config
        self._logits = judge.logits
        self.autoencoder: Autoencoder = autoencoder.eval().requires_grad_(False)
        self.register_buffer("weights", weights)

    def trainable(self, phase: str) -> SegmentationNetwork:
        """The network."""
        return self.network

    def losses(self, batch: Batch, progress: Progress, draws: Draws) -> Iterator[Loss]:
        """Nats per pixel, weighted. Metrics: "accuracy", the share of pixels that are right."""
        device = next(self.network.parameters()).device
        x = self._coloured(batch["image"].to(device), draws)
        soft = (draws.uniform("soft") < self.config.soft).to(device)
        if soft.any():
            with torch.no_grad():
                passed = self.autoencoder.decode(self.autoencoder.encode(x[soft])).clamp(-1, 1)
            x = x.masked_scatter(soft[:, None, None, None], passed.to(x))
        logits, y = self._logits(x).float(), batch["label_map"].long().to(device)
        assert isinstance(self.weights, Tensor)
        nats = F.cross_entropy(logits, y, self.weights, ignore_index=UNLABELLED)
        known = y != UNLABELLED
        right = (logits.detach().argmax(1) == y) & known
        yield Loss("segment", nats, {"accuracy": right.sum() / known.sum().clamp(min=1)})

    def _coloured(self, x: Image, draws: Draws) -> Image:
        """Contrast, brightness and tint drawn anew for every picture."""
        u = self.config.jitter * (2 * draws.uniform("jitter", 5).to(x) - 1)
        gain, shift, tint = u[:, 0], u[:, 1], 0.5 * u[:, 2:]
        return (x * (1 + gain)[:, None, None, None] + (shift[:, None] + tint)[..., None, None]).clamp(-1, 1)

    def preview(self, batch: Batch, draws: Draws) -> Mapping[str, Tensor]:
        """None: a judge makes no pictures."""
        return {}


def train_segmenter(config: SegmenterRun, out: Path) -> Segmenter:
    """Train the judge, or go on with it, and write RUN/model; one that has finished is only loaded.

    Raises:
        UserError: data without label maps, no such autoencoder, another run in the folder, ...
    """
    training, autoencoder = open_source(config.data.source), open_autoencoder(config.autoencoder).to(best_device())
    if not training.areas:
        raise UserError(f"{training.name} has no label maps that a judge could learn from; name data that has")
    torch.manual_seed(config.trainer.seed)
    judge = Segmenter(replace(config.network, areas=len(training.areas)).build(), training.areas)
    with RunDirectory(out, to_plain(config), {"autoencoder": weights_hash(autoencoder)}) as run:
        loader = Loader(
            training, config.data.side, config.trainer.batch_size, config.trainer.seed, config.data.augment,
            companions={"label_map": LabelMaps()},
        )  # fmt: skip
        console().print(f"judge: {len(training)} pictures of {training.name}, {len(training.areas)} areas")
        weights = _weights(training, config)
        task = Segment(judge, autoencoder, weights, config)
        trainer = Trainer(task, {"segment": config.optimizer}, loader.batches, run, config.trainer)
        trainer.fit()
        with trainer.averaged():
            judge.save(run.model)
    return Segmenter.load(run.model)


def _weights(source: Source, config: SegmenterRun) -> Tensor:
    """(areas,): 1 / size^balance, one in the mean over pixels."""
    batches = pictures(few(source, COUNTED), config.data.side, companions={"label_map": LabelMaps()})
    count = sum((torch.bincount(b["label_map"].flatten().int(), minlength=256) for b in batches), torch.zeros(256))
    size = count[: len(source.areas)].clamp(min=1) / count[: len(source.areas)].sum().clamp(min=1)
    weights = size**-config.balance
    return (weights / (weights * size).sum()).float()
