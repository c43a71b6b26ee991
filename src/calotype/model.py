"""The whole model: autoencoder + denoiser + conditioner, and its folder.

    MODEL/config.json                what it is: every component by registered name, plus notes
    MODEL/autoencoder.safetensors    with the statistics of its latents
    MODEL/denoiser.safetensors
    MODEL/conditioner.safetensors
    MODEL/assets.json                tokenizer, class names
    MODEL/manifest.json              size and SHA-256 of every file, written last

A folder holds safetensors and JSON only; loading one runs no code from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from calotype.autoencoder.base import Autoencoder, AutoencoderConfig, PixelSpace
from calotype.autoencoder.latent_space import LatentSpace, weights_hash
from calotype.autoencoder.tiling import Bounded
from calotype.condition import Condition
from calotype.conditioning.conditioner import Conditioners
from calotype.diffusion.clock import Clock
from calotype.diffusion.denoiser import Denoiser
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.variance import FixedSmall
from calotype.errors import CorruptFile, Unavailable, UserError
from calotype.files import (
    commit_directory,
    load_state,
    read_json,
    read_tensors,
    verify_directory,
    write_json,
    write_tensors,
)
from calotype.nn.network import Network, NetworkConfig
from calotype.registry import from_plain, to_plain
from calotype.types import Image, Latent

M = TypeVar("M", bound=nn.Module)

FORMAT = 2
"""Version of the folder's layout; a reader refuses any other. 2 records which latents the denoiser has learned."""

LARGEST = 4096
"""Pixels of the side of a model's pictures."""


@dataclass
class LatentDiffusion:
    """Everything needed to sample.

    Args:
        autoencoder: images <-> normalised latents.
        denoiser: E[z_0 | z_t, c].
        conditioner: wishes -> c.
        side: image side in pixels that it was trained at.
        notes: free JSON for people: data, steps, scores.
        trained_with: the latents that the denoiser has learned; None = those of `autoencoder`.
    """

    autoencoder: Autoencoder
    denoiser: Denoiser
    conditioner: Conditioners
    side: int = 64
    notes: dict[str, Any] = field(default_factory=dict)
    trained_with: LatentSpace | None = None

    def condition(self, wishes: Mapping[str, Sequence[Any]], n: int) -> Condition:
        """The condition of n samples; raises `UserError` for a wish that the model does not take, or lacks."""
        self.conditioner.check(wishes)
        condition: Condition = self.conditioner(wishes, n)
        return condition

    def conditions(self, wishes: Mapping[str, Sequence[Any]], n: int) -> tuple[Condition, Condition]:
        """`condition` and `null` of the same wishes, with what they share computed once."""
        self.conditioner.check(wishes)
        return self.conditioner.both(wishes, n)

    def null(self, n: int, wishes: Mapping[str, Sequence[Any]] | None = None) -> Condition:
        """The condition without any wish but those that the model cannot do without, which `wishes` must have."""
        given = wishes or {}
        self.conditioner.check({key: given[key] for key in given if key in self.conditioner.needs})
        return self.conditioner.null(n, given)

    def decode(self, z: Latent) -> Image:
        """The picture of a latent."""
        return self.autoencoder.decode(z)

    @cached_property
    def space(self) -> LatentSpace:
        """The latents that the denoiser has learned; fixed when it is first asked for."""
        return LatentSpace.of(self.autoencoder) if self.trained_with is None else self.trained_with

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The parts that have weights, by file name."""
        return {"autoencoder": self.autoencoder, "denoiser": self.denoiser, "conditioner": self.conditioner}

    def eval(self) -> LatentDiffusion:
        """Every part in evaluation mode."""
        for module in self.modules.values():
            module.eval()
        return self

    def to(self, device: torch.device | str) -> LatentDiffusion:
        """Every part on a device."""
        for module in self.modules.values():
            module.to(device)
        return self

    def save(self, path: Path) -> None:
        """Write the folder, atomically.

        Raises:
            UserError: the autoencoder is not the one that the denoiser was trained with.
            DiskFull: no room.
        """
        self.space.check(self.autoencoder, str(path))
        plain = {
            "format": FORMAT,
            "kind": "latent-diffusion",
            "side": self.side,
            "latents": to_plain(self.space),
            "autoencoder": _autoencoder_plain(self.autoencoder),
            "denoiser": _denoiser_plain(self.denoiser),
            "conditioner": self.conditioner.plain(),
            "notes": self.notes,
        }
        with commit_directory(path) as folder:
            write_json(folder / "config.json", plain)
            write_json(folder / "assets.json", self.conditioner.assets())
            for name, module in self.modules.items():
                write_tensors(folder / f"{name}.safetensors", module.state_dict())

    @classmethod
    def load(cls, path: Path | str) -> LatentDiffusion:
        """Read a folder that `save` wrote.

        Raises:
            UserError: no such folder, another kind of model, weights that do not fit the config, another autoencoder
                than the one that the denoiser was trained with.
            CorruptFile: the content disagrees with the manifest.
        """
        path = Path(path)
        config = read_config(path, "latent-diffusion")
        assets = read_json(path / "assets.json")
        with described(path):
            autoencoder = filled(
                lambda: _build_autoencoder(config["autoencoder"]), path / "autoencoder.safetensors"
            ).eval()
            model = cls(
                autoencoder,
                filled(
                    lambda: _build_denoiser(config["denoiser"]),
                    path / "denoiser.safetensors",
                    lambda: _build_network(config["denoiser"]),
                ),
                filled(
                    lambda: _build_conditioner(config["conditioner"], assets, autoencoder),
                    path / "conditioner.safetensors",
                ),
                int(config["side"]),
                dict(config["notes"]),
                from_plain(config["latents"], LatentSpace, "latents"),
            )
            if config["denoiser"]["network"]["out_channels"] != model.space.channels * model.denoiser.variance.outputs:
                raise ValueError(f"the denoiser does not make the {model.space.channels} channels that `latents` says")
            if not 1 <= model.side <= LARGEST:
                raise ValueError(f"side must lie in 1 ... {LARGEST} pixels, got {model.side}")
            model.autoencoder.latent_shape(model.side, model.side)
        model.space.check(model.autoencoder, str(path))
        return model.eval()


def save_autoencoder(autoencoder: Autoencoder, path: Path, side: int, notes: Mapping[str, Any]) -> None:
    """Write an autoencoder's folder, atomically: config.json, autoencoder.safetensors, manifest.json."""
    plain = {
        "format": FORMAT,
        "kind": "autoencoder",
        "side": side,
        "autoencoder": _autoencoder_plain(autoencoder),
        "notes": dict(notes),
    }
    with commit_directory(path) as folder:
        write_json(folder / "config.json", plain)
        write_tensors(folder / "autoencoder.safetensors", autoencoder.state_dict())


def load_autoencoder(path: Path | str) -> Autoencoder:
    """The autoencoder of an autoencoder's folder or of a whole model's folder, in evaluation mode."""
    path = Path(path)
    config = read_config(path, "autoencoder", "latent-diffusion")
    with described(path):
        return filled(lambda: _build_autoencoder(config["autoencoder"]), path / "autoencoder.safetensors").eval()


def model_folder(run: Path) -> Path:
    """The model folder of a run directory, or the folder itself; raises `UserError` if there is none."""
    for candidate in (run / "model", run):
        if (candidate / "config.json").is_file() and (candidate / "manifest.json").is_file():
            return candidate
    if not run.exists():
        raise UserError(f"there is no {run}; name a run directory (runs/demo) or a model folder in it")
    raise UserError(
        f"{run} holds no finished model (no model/manifest.json); if it is a training run, run the same training "
        "command again to finish it"
    )


def read_config(path: Path, *kinds: str) -> dict[str, Any]:
    """The config.json of a verified folder of one of these kinds; raises `UserError` or `CorruptFile`."""
    verify_directory(path)
    config = read_json(path / "config.json")
    if not isinstance(config, dict) or "kind" not in config:
        raise CorruptFile(f"{path / 'config.json'} is not a Calotype model config; copy the model folder again")
    if config["kind"] not in kinds:
        raise UserError(
            f"{path} holds a model of kind {config['kind']!r}, but {' or '.join(map(repr, kinds))} is needed"
        )
    if config.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {config.get('format')}, this version reads {FORMAT}; "
            "train it again, or install the Calotype that wrote it"
        )
    return config


@contextlib.contextmanager
def described(path: Path) -> Iterator[None]:
    """Raise `CorruptFile` for texts of a model folder that describe no model: whole, but not written by us."""
    try:
        yield
    except (CorruptFile, Unavailable):
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        what = f"the key {error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".?")
        raise CorruptFile(f"{path} does not describe a model: {what}; copy it again, or train it anew") from error


def filled(build: Callable[[], M], file: Path, sketch: Callable[[], nn.Module] | None = None) -> M:
    """The module that `build` makes, with the weights of a file.

    Args:
        sketch: makes what needs the memory; `build` by default. Its weights are counted before memory is taken, so that
            a config cannot ask for more than the file holds.
    """
    tensors = read_tensors(file)
    try:
        with torch.device("meta"):
            wanted = sum(value.numel() for value in (sketch or build)().state_dict().values())
    except RuntimeError as error:  # torch's word for a size below zero
        raise CorruptFile(f"{file} belongs to a network that cannot be built: {error}; copy it again") from error
    if wanted > sum(value.numel() for value in tensors.values()):
        raise CorruptFile(
            f"{file} holds fewer weights than the {wanted:,} that its config.json asks for; copy it again"
        )
    module = build()
    load_state(module, tensors, str(file))
    return module


def _autoencoder_plain(autoencoder: Autoencoder) -> Any:
    return to_plain(autoencoder.config)


def _denoiser_plain(denoiser: Denoiser) -> dict[str, Any]:
    if not isinstance(denoiser.network, Network):
        raise UserError(f"a {type(denoiser.network).__name__} has no config to save; build the network from one")
    parts = {
        "network": denoiser.network.config,
        "schedule": denoiser.schedule,
        "parameterization": denoiser.parameterization,
        "clock": denoiser.clock,
        "variance": denoiser.variance,
    }
    return {name: to_plain(part) for name, part in parts.items()}


def _build_denoiser(plain: Mapping[str, Any]) -> Denoiser:
    return Denoiser(
        _build_network(plain),
        from_plain(plain["schedule"], Schedule, "denoiser.schedule"),
        from_plain(plain["parameterization"], None, "denoiser.parameterization"),
        from_plain(plain["clock"], Clock, "denoiser.clock"),
        # folders written before variances could be learned do not name one
        from_plain(plain["variance"], None, "denoiser.variance") if "variance" in plain else FixedSmall(),
    )


def _build_network(plain: Mapping[str, Any]) -> Network:
    config: NetworkConfig = from_plain(plain["network"], NetworkConfig, "denoiser.network")
    return config.build()


def _build_conditioner(plain: Mapping[str, Any], assets: Mapping[str, str], autoencoder: Autoencoder) -> Conditioners:
    configs = {k: from_plain(v, None, f"conditioner.{k}") for k, v in plain["members"].items()}
    # wishes that are pictures are encoded too, and are as large as what is sampled
    return Conditioners.load(configs, assets, Bounded(autoencoder), float(plain["drop"]))


def _build_autoencoder(plain: Any) -> Autoencoder:
    config: AutoencoderConfig = from_plain(plain, None, "autoencoder")
    return config.build()


__all__ = ["LatentDiffusion", "PixelSpace", "load_autoencoder", "model_folder", "save_autoencoder", "weights_hash"]
