"""Data that has every wish, a first stage of one layer, and every conditioner at toy size."""

from collections.abc import Callable, Collection, Sequence

import torch
from tests.encoder_toys import LENGTH, encoder
from torch import Tensor, nn
from torch.nn import functional as F

from calotype.conditioning.box_map import BoxMapConfig
from calotype.conditioning.boxes import BoxesConfig
from calotype.conditioning.class_label import ClassLabelConfig
from calotype.conditioning.class_vector import ClassVectorConfig
from calotype.conditioning.conditioner import ConditionerConfig
from calotype.conditioning.conditioning_image import ConditioningImageConfig
from calotype.conditioning.frozen_text import FrozenTextConfig
from calotype.conditioning.image_embedding import ImageEmbeddingConfig
from calotype.conditioning.layout import LayoutConfig
from calotype.conditioning.low_resolution import LowResolutionConfig
from calotype.conditioning.masked_image import MaskedImageConfig
from calotype.conditioning.semantic_map import SemanticMapConfig
from calotype.conditioning.text import TextConfig
from calotype.layout import Box, Layout

CAPTIONS = ["a red heart", "a smiling face", "a police officer with dark skin", "Ünïcode ☂ caption"]


class Words:
    """A corpus with everything that can be wished for."""

    classes: Sequence[str] = ("People", "Smileys")
    objects: Sequence[str] = ("hat", "shoe")
    areas: Sequence[str] = ("sky", "sea", "sand")
    entries: Collection[str] = {
        *("caption", "label", "layout", "label_map", "image", "hole"),
        *("low_resolution", "noise_level", "conditioning_image", "reference"),
    }

    shrinks = 4

    def captions(self) -> Sequence[str]:
        return CAPTIONS


class Silent:
    """A corpus that says nothing."""

    classes: Sequence[str] = ()
    objects: Sequence[str] = ()
    areas: Sequence[str] = ()
    entries: Collection[str] = ()
    shrinks = 1

    def captions(self) -> Sequence[str]:
        return ["", ""]


class Squares(nn.Module):
    """A first stage: the mean over factor x factor pixels, mixed into other channels by weights."""

    def __init__(self, factor: int = 4, channels: int = 4) -> None:
        super().__init__()
        self.factor, self.channels = factor, channels
        self.mix = nn.Conv2d(3, channels, 1)

    def encode(self, image: Tensor) -> Tensor:
        mixed: Tensor = self.mix(F.avg_pool2d(image, self.factor))
        return mixed


SIDE = 16


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Uniform in [-1, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


BATCH = {"caption": CAPTIONS, "label": torch.tensor([0, 1, 0, -1])}
EVERYTHING = BATCH | {
    "layout": [Layout((Box(k % 2, 0.0, 0.0, 0.5, 0.25 * (k + 1)),)) for k in range(4)],
    "label_map": ((draw(4, SIDE, SIDE, seed=1) + 1) * 1.5).to(torch.uint8).clamp(max=2),
    "box_map": (draw(4, SIDE, SIDE, seed=7) + 1).to(torch.uint8).clamp(max=1),
    "low_resolution": draw(4, 3, SIDE // 4, SIDE // 4, seed=2),
    "noise_level": torch.tensor([0.0, 0.25, 0.5, 1.0]),
    "image": draw(4, 3, SIDE, SIDE, seed=3),
    "hole": draw(4, 1, SIDE, SIDE, seed=4) > 0.5,
    "conditioning_image": draw(4, 3, SIDE, SIDE, seed=5),
    "reference": draw(4, 3, 20, 20, seed=6),
}
"""A batch of four for every registered conditioner."""

TOYS: dict[str, Callable[[], ConditionerConfig]] = {
    "text": lambda: TextConfig(width=16, depth=1, heads=2, length=12, vocabulary=400),
    "frozen_text": lambda: FrozenTextConfig(encoder=str(encoder("bert")), length=LENGTH, width=16),
    "box_map": lambda: BoxMapConfig(channels=2),
    "boxes": lambda: BoxesConfig(width=16, objects=3, frequencies=4),
    "class_label": lambda: ClassLabelConfig(width=16),
    "class_vector": lambda: ClassVectorConfig(width=8),
    "layout": lambda: LayoutConfig(width=16, depth=1, heads=2, objects=2, vocabulary=120),
    "semantic_map": SemanticMapConfig,
    "low_resolution": lambda: LowResolutionConfig(noise=True, width=6),
    "masked_image": MaskedImageConfig,
    "conditioning_image": ConditioningImageConfig,
    "image_embedding": lambda: ImageEmbeddingConfig(tokens=2, width=16, vector=5),
}
"""By registered name; token widths agree, so that all of them fit into one model."""
