"""What samples are compared with: alike choices of real pictures, and numbers whose value is known."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from calotype.autoencoder.base import PixelSpace
from calotype.autoencoder.latent_space import LatentSpace
from calotype.data.folder import open_source
from calotype.data.loader import pictures
from calotype.data.subset import Subset
from calotype.diffusion.classifier import Classifier
from calotype.diffusion.schedule import Schedule
from calotype.generation.classifier import LatentClassifier
from calotype.studies.yardstick import DRAWS, Yardstick, alike

TRAINING, HELD_OUT = open_source("embedded:fashion/train"), open_source("embedded:fashion/val")
FEW = Subset(HELD_OUT, range(0, 400, 25), "16 held-out garments")


def a_judge(answers: Tensor) -> LatentClassifier:
    """One that takes every batch of 16 for these classes, and is certain to be asked without noise."""

    def network(x: Tensor, time: Tensor) -> Tensor:
        assert (time == 0).all()
        return torch.nn.functional.one_hot(answers, 10).double()

    space = LatentSpace.of(PixelSpace())
    return LatentClassifier(Classifier(network, Schedule()), HELD_OUT.classes, space)


@pytest.fixture(scope="module")
def yardstick() -> Yardstick:
    wrong = torch.tensor(FEW.labels())
    wrong[:4] = (wrong[:4] + 1) % 10
    return Yardstick.of(FEW, TRAINING, 32, a_judge(wrong), PixelSpace())


def test_choices_are_alike_and_disjoint() -> None:
    labels = FEW.labels()
    chosen = [alike(TRAINING, labels, k) for k in range(3)]
    keys = [choice.key(i) for choice in chosen for i in range(len(choice))]
    assert len(keys) == len(set(keys)) == 3 * len(FEW)
    for choice in chosen:
        assert Counter(choice.labels()) == Counter(labels)


def test_a_class_that_is_too_small_is_told() -> None:
    with pytest.raises(ValueError, match=r"has not 2 times 700 pictures of class 3"):
        alike(TRAINING, [3] * 700, 1)


class Soft(PixelSpace):
    """A first stage that brings back soft pictures."""

    def decode(self, z: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(z, 5, 1, 2)


def test_real_pictures_pass_the_first_stage_before_anything_is_compared(yardstick: Yardstick) -> None:
    """What is as soft as the decoder makes everything is like the real ones, the sharp ones are not."""
    x = torch.cat([batch["image"] for batch in pictures(FEW, 32)])
    soft = Yardstick.of(FEW, TRAINING, 32, yardstick.judge, Soft())
    assert soft.measure(Soft().decode(x)).frechet == pytest.approx(0, abs=1e-6)
    assert soft.measure(x).frechet > 1


def test_held_out_pictures_are_like_themselves(yardstick: Yardstick) -> None:
    x = torch.cat([batch["image"] for batch in pictures(FEW, 32)])
    found = yardstick.measure(x)
    assert found.n == 16 and found.frechet == pytest.approx(0, abs=1e-6)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.accuracy == 12 / 16
    flat = yardstick.measure(torch.linspace(-1, 1, 16)[:, None, None, None].expand(16, 3, 32, 32).contiguous())
    assert flat.frechet > 5 * max(r.frechet for r in yardstick.real) and flat.recall == 0


def test_real_pictures_are_measured_as_samples_are(yardstick: Yardstick) -> None:
    assert len(yardstick.real) == DRAWS and len({r.frechet for r in yardstick.real}) == DRAWS
    second = torch.cat([batch["image"] for batch in pictures(alike(TRAINING, FEW.labels(), 1), 32)])
    assert yardstick.measure(second) == yardstick.real[1]
    assert {r.accuracy for r in yardstick.real} == {12 / 16}, "on the held-out ones"
