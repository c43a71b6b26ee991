"""A trained classifier of noisy latents, and its folder.

    FOLDER/config.json               network, schedule, classes, and which latents it has learned
    FOLDER/classifier.safetensors
    FOLDER/manifest.json

It guides a model by `steer`; `check` says first whether both speak of the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from calotype.autoencoder.latent_space import LatentSpace
from calotype.diffusion.classifier import Classifier
from calotype.diffusion.clock import Clock
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.wrappers import classifier as guided_by
from calotype.errors import UnknownName, UserError
from calotype.files import commit_directory, write_json, write_tensors
from calotype.generation.generate import Steer
from calotype.model import FORMAT, LatentDiffusion, described, filled, read_config
from calotype.nn.noisy_classifier import NoisyClassifier, NoisyClassifierConfig
from calotype.registry import from_plain, to_plain
from calotype.types import Denoise

KIND = "noisy-classifier"


@dataclass
class LatentClassifier:
    """log p(class | z_t, t), with the names of the classes.

    Args:
        classifier: the network and its schedule.
        classes: their names; logit i is of classes[i].
        space: the latents that it has learned.
        notes: free JSON for people: data, steps, scores.
    """

    classifier: Classifier
    classes: tuple[str, ...]
    space: LatentSpace
    notes: dict[str, Any] = field(default_factory=dict)

    def index(self, name: str) -> int:
        """The number of a class, whatever its case; raises `UnknownName`."""
        lowered = [c.casefold() for c in self.classes]
        if name.casefold() not in lowered:
            raise UnknownName("class of the classifier", name, self.classes)
        return lowered.index(name.casefold())

    def check(self, model: LatentDiffusion, where: str) -> None:
        """Raise `UserError` unless this classifier, named `where`, has learned the noisy latents of `model`."""
        remedy = "train one for this model: calotype train classifier --for RUN"
        if self.space != model.space:
            raise UserError(
                f"the classifier {where} was trained on the latents of autoencoder {self.space.autoencoder}, the model "
                f"makes those of {model.space.autoencoder}; {remedy}"
            )
        if self.classifier.schedule != model.denoiser.schedule:
            raise UserError(
                f"the classifier {where} was trained with {self.classifier.schedule}, the model with "
                f"{model.denoiser.schedule}; {remedy}"
            )

    def steer(self, names: Sequence[str], scale: float) -> Steer:
        """Guidance of sample i towards the class names[i]; raises `UserError` for a name or scale it cannot use."""
        y = torch.tensor([self.index(name) for name in names])

        def steer(denoise: Denoise, rows: slice) -> Denoise:
            return guided_by(denoise, self.classifier.schedule, self.classifier.log_prob(y[rows]), scale)

        return steer

    def to(self, device: torch.device | str) -> LatentClassifier:
        """On a device."""
        self.classifier.to(device)
        return self

    def save(self, path: Path) -> None:
        """Write the folder, atomically; raises `DiskFull`."""
        network = self.classifier.network
        if not isinstance(network, NoisyClassifier):
            raise UserError(f"a {type(network).__name__} has no config to save; build the network from one")
        plain = {
            "format": FORMAT,
            "kind": KIND,
            "latents": to_plain(self.space),
            "network": to_plain(network.config),
            "schedule": to_plain(self.classifier.schedule),
            "clock": to_plain(self.classifier.clock),
            "classes": [*self.classes],
            "notes": self.notes,
        }
        with commit_directory(path) as folder:
            write_json(folder / "config.json", plain)
            write_tensors(folder / "classifier.safetensors", self.classifier.state_dict())

    @classmethod
    def load(cls, path: Path | str) -> LatentClassifier:
        """Read a folder that `save` wrote.

        Raises:
            UserError: no such folder, or another kind of model.
            CorruptFile: the content disagrees with the manifest, or describes no classifier.
        """
        path = Path(path)
        config = read_config(path, KIND)
        with described(path):
            file = path / "classifier.safetensors"
            classifier = filled(lambda: _build(config), file, lambda: _build_network(config)).eval()
            classes = tuple(str(c) for c in config["classes"])
            if len(classes) != config["network"]["classes"]:
                raise ValueError(f"{len(classes)} names for {config['network']['classes']} classes")
            space = from_plain(config["latents"], LatentSpace, "latents")
            return cls(classifier.requires_grad_(False), classes, space, dict(config["notes"]))


def _build(plain: Mapping[str, Any]) -> Classifier:
    return Classifier(
        _build_network(plain),
        from_plain(plain["schedule"], Schedule, "schedule"),
        from_plain(plain["clock"], Clock, "clock"),
    )


def _build_network(plain: Mapping[str, Any]) -> NoisyClassifier:
    network: NoisyClassifierConfig = from_plain(plain["network"], NoisyClassifierConfig, "network")
    return network.build()
