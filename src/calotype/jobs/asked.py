"""What a person asks a model for: words, files of pictures, maps and boxes, and a size; checked and read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calotype.conditioning.box_map import BoxMapConfig
from calotype.conditioning.boxes import BoxesConfig
from calotype.conditioning.class_label import ClassLabelConfig
from calotype.conditioning.conditioner import ConditionerConfig
from calotype.conditioning.conditioning_image import ConditioningImageConfig
from calotype.conditioning.image_embedding import ImageEmbeddingConfig
from calotype.conditioning.layout import LayoutConfig
from calotype.conditioning.low_resolution import LowResolutionConfig
from calotype.conditioning.masked_image import MaskedImageConfig
from calotype.conditioning.semantic_map import SemanticMapConfig
from calotype.conditioning.text import TextConfig
from calotype.data.annotations import read_layouts
from calotype.data.images import WHITE, open_image, square, to_tensor
from calotype.data.label_maps import read_label_map
from calotype.errors import UserError
from calotype.generation.frame import LARGEST_AREA, Frame, check_multiples, times_of
from calotype.generation.request import Request
from calotype.model import LatentDiffusion
from calotype.recipes import recipes
from calotype.rng import generator
from calotype.runs import DiffusionRun

BLACK = (0, 0, 0)

OPTIONS = {
    "caption": "--caption TEXT",
    "label": "--class NAME",
    "layout": "--layout BOXES.json",
    "label_map": "--label-map PNG",
    "low_resolution": "--low-res IMAGE",
    "noise_level": "--noise-level NUMBER",
    "image": "--image IMAGE",
    "hole": "--mask PNG",
    "conditioning_image": "--conditioning-image IMAGE",
    "reference": "--reference IMAGE",
}
"""How each entry is wished for on the command line."""

MADE_OF = {"box_map": "layout"}
"""Entries that are made of another, which is what a person wishes for."""

VERBS: Mapping[str, tuple[str, ...]] = {
    "hole": ("inpaint", "IMAGE", "MASK"),
    "low_resolution": ("upscale", "IMAGE"),
    "label_map": ("synthesize", "LABELMAP"),
    "layout": ("layout", "BOXES.json"),
    "conditioning_image": ("sample", "--conditioning-image", "IMAGE"),
    "reference": ("sample", "--reference", "IMAGE"),
}
"""How models that take these entries are asked: the verb, and what follows the run. Of several the first says more."""

ANYWAY = ("sample", "edit", "inpaint")
"""The verbs that serve every model."""


def _one_of(*kinds: type[ConditionerConfig]) -> Callable[[ConditionerConfig], bool]:
    return lambda config: isinstance(config, kinds)


MAKERS: Mapping[str, Callable[[ConditionerConfig], bool]] = {
    "caption": _one_of(TextConfig),
    "label": _one_of(ClassLabelConfig),
    "layout": _one_of(LayoutConfig, BoxesConfig, BoxMapConfig),
    "label_map": _one_of(SemanticMapConfig),
    "low_resolution": _one_of(LowResolutionConfig),
    "noise_level": lambda config: isinstance(config, LowResolutionConfig) and config.noise,
    "image": _one_of(MaskedImageConfig),
    "hole": _one_of(MaskedImageConfig),
    "conditioning_image": _one_of(ConditioningImageConfig),
    "reference": _one_of(ImageEmbeddingConfig),
}
"""Whether a conditioner makes its model take these entries."""


@dataclass(frozen=True)
class Asked:
    """A person's words and files, not opened yet. Words and layouts are repeated in turn until there are enough.

    Args:
        captions: what to show.
        classes: what to show, by name.
        layout: a JSON file of boxes with classes; see `data.annotations.read_layouts`.
        label_map: a PNG whose values are the numbers of areas.
        low_res: a picture to be made larger.
        noise_level: noise laid over it, in [0, 1], as in training; None = none, for models that are told how much.
        image, mask: a picture to be completed where the mask is white.
        renoised: complete it with fresh noise over the known part, by models that were not trained to.
        conditioning_image: another picture that this one is made from.
        reference: a picture of the content that is wished for.
        start: a picture to begin with in place of noise.
        strength: how far to go from it, in [0, 1].
        height, width: of the picture, where no file says it; both or none.
        classifier: the run of a classifier that pushes towards `classes`, on top of what the model makes of them.
        classifier_scale: how hard.

    Raises:
        UserError: one without the other, or a number out of range.
    """

    captions: Sequence[str] = ()
    classes: Sequence[str] = ()
    layout: Path | None = None
    label_map: Path | None = None
    low_res: Path | None = None
    noise_level: float | None = None
    image: Path | None = None
    mask: Path | None = None
    renoised: bool = False
    conditioning_image: Path | None = None
    reference: Path | None = None
    start: Path | None = None
    strength: float = 0.75
    height: int | None = None
    width: int | None = None
    classifier: Path | None = None
    classifier_scale: float = 1.0

    def __post_init__(self) -> None:
        for one, other in (("height", "width"), ("width", "height"), ("mask", "image")):
            if getattr(self, one) is not None and getattr(self, other) is None:
                raise UserError(f"--{one} needs --{other}; add it")
        if self.image is not None and self.mask is None:
            raise UserError(
                "--image needs --mask, which says where it is to be completed; to begin with a picture instead: "
                "calotype edit RUN IMAGE"
            )
        if self.noise_level is not None and self.low_res is None:
            raise UserError("--noise-level is that of a low-resolution picture; add --low-res")
        for name, value in (("strength", self.strength), ("noise-level", self.noise_level or 0.0)):
            if not 0 <= value <= 1:
                raise UserError(f"--{name} must lie in [0, 1], got {value}")

    def entries(self) -> dict[str, bool]:
        """Every entry, and whether it is wished for."""
        given = (
            *(self.captions, self.classes, self.layout, self.label_map, self.low_res, self.noise_level),
            *(self.image, self.mask, self.conditioning_image, self.reference),
        )
        return {key: value not in (None, (), []) for key, value in zip(OPTIONS, given, strict=True)}

    def note(self) -> dict[str, Any]:
        """Files and numbers that were given, as JSON, for the pictures to remember."""
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        found = {
            k: str(v) if isinstance(v, Path) else v for k, v in changed.items() if k not in ("captions", "classes")
        }
        if self.start is not None:
            found["strength"] = self.strength
        if self.classifier is not None:
            found["classifier_scale"] = self.classifier_scale
        return found


def check_kind(model: LatentDiffusion, asked: Asked) -> None:
    """Raise `UserError` unless the model takes what is asked for, and all that it needs is there; it says which verb
    fits, or which recipe trains a model that does. Any model completes a picture."""
    takes = _wished(model.conditioner.reads)
    anyway = {"image", "hole"} | ({"label"} if asked.classifier is not None else set())
    entries = asked.entries()
    for key, given in entries.items():
        if given and key not in takes and key not in anyway:
            raise UserError(f"this model was not trained with {_option(key)}: {_instead(key, takes)}")
    missing = [key for key in _wished(model.conditioner.needs) if not entries[key] and key != "noise_level"]
    if missing:
        raise UserError(
            f"this model always had {' and '.join(map(_option, missing))} in training and cannot do without; add "
            f"{' '.join(OPTIONS[key] for key in missing)}"
        )


def _wished(entries: Iterable[str]) -> list[str]:
    """Each entry, or the one that it is made of, once."""
    return [*dict.fromkeys(MADE_OF.get(key, key) for key in entries)]


def _option(key: str) -> str:
    return OPTIONS.get(key, repr(key)).split()[0]  # somebody's own conditioner may read what no option gives


def _instead(key: str, takes: Sequence[str]) -> str:
    told = ", ".join(map(_option, takes)) or "no condition at all"
    *fitting, last = dict.fromkeys([*ANYWAY, *(verb for k, (verb, *_) in VERBS.items() if k in takes)])
    verbs = f"{', '.join(fitting)} and {last}"
    return f"it takes {told}, which fits the verbs {verbs}, without {_option(key)}{training(key)}"


def asking(run: Path, conditioners: Iterable[ConditionerConfig]) -> tuple[str, ...]:
    """The words after `calotype` that ask a model with these conditioners for pictures; files are in capitals."""
    configs = [*conditioners]
    fitting = (words for key, words in VERBS.items() if any(map(MAKERS[key], configs)))
    verb, *files = next(fitting, ("sample",))
    return verb, str(run), *files


def training(key: str) -> str:
    """How to train a model that takes an entry, for the end of a sentence; nothing if no recipe does."""
    runs = {recipe.name: recipe.build() for recipe in recipes("diffusion")}
    fitting = {
        name: run
        for name, run in runs.items()
        if isinstance(run, DiffusionRun) and any(map(MAKERS[key], run.conditioners.values()))
    }
    if not fitting:
        return ""
    first, *others = sorted(fitting, key=lambda name: _plainness(name, fitting[name]))[:3]
    more = f" (or {', '.join(others)})" if others else ""
    return f"; one that takes it is trained by `calotype train diffusion --recipe {first}`{more}"


def _plainness(name: str, run: DiffusionRun) -> tuple[int, bool, int, int, str]:
    """Sorts plain recipes first: of small pictures, which a CPU can learn; made for anybody's data; of few conditions;
    with a name of few words, for what varies a recipe adds a word to it."""
    return run.data.side, not name.startswith("small-"), len(run.conditioners), name.count("-"), name


def words_of(asked: Asked, model: LatentDiffusion) -> dict[str, Sequence[Any]]:
    """Captions, class names and layouts by entry, each as often as it was asked for, whatever will become of it.

    Raises:
        UserError: a file of layouts that is none, or that names what the model does not know.
    """
    named: dict[str, Sequence[Any]] = {"caption": asked.captions, "label": asked.classes}
    if asked.layout is not None:
        named["layout"] = read_layouts(_there(asked.layout), model.conditioner.names.get("layout", ()))
    return {key: values for key, values in named.items() if values}


def request_of(asked: Asked, model: LatentDiffusion, words: Mapping[str, Sequence[Any]], n: int, seed: int) -> Request:
    """Open the files and repeat what is asked for until there are n of it.

    Args:
        model: which `check_kind` has accepted.
        words: of `words_of`.

    Raises:
        UserError: a file that cannot be read or is not what it should be, sizes that differ or do not fit.
    """
    once: dict[str, Any] = {}
    sizes: dict[str, tuple[int, int]] = {}
    if asked.label_map is not None:
        areas = len(model.conditioner.names.get("label_map", ()))
        once["label_map"] = torch.from_numpy(read_label_map(_there(asked.label_map), areas))
        sizes["the label map"] = _size(once["label_map"])
    if asked.low_res is not None:
        times = times_of(model)
        small = picture(asked.low_res, LARGEST_AREA // times**2)
        once["low_resolution"] = small
        sizes[f"{times} times the low-resolution picture"] = (times * small.shape[1], times * small.shape[2])
    if asked.image is not None and asked.mask is not None:
        once["image"], once["hole"] = picture(asked.image), hole(asked.mask)
        sizes |= {"the picture": _size(once["image"]), "the mask": _size(once["hole"])}
    if asked.conditioning_image is not None:
        once["conditioning_image"] = picture(asked.conditioning_image)
        sizes["the conditioning image"] = _size(once["conditioning_image"])
    start = None
    if asked.start is not None:
        start = picture(asked.start)
        sizes["the picture to begin with"] = _size(start)
    if asked.reference is not None:
        looked = square(open_image(_there(asked.reference)), model.side)
        once["reference"] = to_tensor(np.asarray(looked))
    height, width = _agreed(asked, model, sizes)
    Frame.of(model, height, width)

    wishes: dict[str, list[Any]] = {key: [value] * n for key, value in once.items()}
    wishes |= {key: list(islice(cycle(values), n)) for key, values in words.items()}
    if asked.low_res is not None and "noise_level" in model.conditioner.reads:
        level = asked.noise_level or 0.0
        wishes["noise_level"] = [level] * n
        wishes["low_resolution"] = [noised(x, level, seed, k) for k, x in enumerate(wishes["low_resolution"])]
    return Request(n, height, width, wishes, start, asked.strength, asked.renoised)


def picture(path: Path, most: int = LARGEST_AREA) -> Tensor:
    """A picture's pixels (3, H, W) in [-1, 1], upright; `generation.images.to_uint8` gives its bytes back."""
    return to_tensor(np.asarray(open_image(_there(path), most)))


def hole(path: Path) -> Tensor:
    """A mask (1, H, W), TRUE IN THE HOLE: where the file is white, or a grey of at least one half.

    Rombach et al. 2022 and Stable Diffusion have it so. Others use transparency or black; the ambiguous is refused.

    Raises:
        UserError: a file that is no picture, depends on what lies behind its transparent parts, or has nothing white.
    """
    grey = [np.asarray(open_image(_there(path), LARGEST_AREA, colour).convert("L")) for colour in (WHITE, BLACK)]
    missing = [values >= 128 for values in grey]
    if (missing[0] != missing[1]).any():
        raise UserError(
            f"{path} is transparent where a mask says what is to be painted: white (paint) or black (keep); "
            "lay it on one of them"
        )
    if not missing[0].any():
        raise UserError(f"{path} has no white pixel, so there is nothing to paint; make white what shall be painted")
    return torch.from_numpy(missing[0])[None]


def noised(x: Tensor, level: float, seed: int, k: int) -> Tensor:
    """A low-resolution picture as training showed it: sqrt(1 - s^2) x + s eps, with noise of its own for sample k."""
    if level == 0:
        return x
    eps = torch.randn(x.shape, generator=generator(seed, "low resolution", k))
    return math.sqrt(1 - level**2) * x + level * eps


def _there(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"there is no file {path}; name one{', not a folder' if path.is_dir() else ''}")
    return path


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def _agreed(asked: Asked, model: LatentDiffusion, sizes: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Height and width: those of the files, else those asked for, else those of training."""
    found = dict(sizes)
    if asked.height is not None and asked.width is not None:
        found["--height and --width"] = (asked.height, asked.width)
    if len(set(found.values())) > 1:
        told = ", ".join(f"{name}: {width} x {height}" for name, (height, width) in found.items())
        raise UserError(f"what is to lie on one another differs in size ({told} pixels); scale it to one size")
    height, width = next(iter(found.values()), (model.side, model.side))
    if not sizes:
        check_multiples(model, height, width)
    return height, width
