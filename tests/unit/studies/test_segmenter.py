"""The judge: how it learns, and that it comes back."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from calotype.autoencoder.base import PixelSpace
from calotype.errors import UserError
from calotype.jobs.train import PIXELS
from calotype.nn.segmentation import SegmentationConfig
from calotype.rng import Draws
from calotype.runs import DataConfig
from calotype.studies.segmenter import Segment, Segmenter, SegmenterRun, train_segmenter
from calotype.tasks.base import Progress
from calotype.training.trainer import TrainerConfig

QUIET = TrainerConfig(steps=2, batch_size=4, preview_every=0, tensorboard=False, measure=False)
SCENES = DataConfig("embedded:scenes/val", 64, crop=False, held_out=0.0)
RUN = SegmenterRun(SCENES, PIXELS, SegmentationConfig(width=8), trainer=QUIET)


def a_judge() -> Segmenter:
    judge = Segmenter(SegmentationConfig(areas=3, width=8).build().eval(), ("paper", "ball", "car"))
    with torch.no_grad():
        judge.network.out.weight.normal_()
    return judge


def test_it_comes_back_from_its_folder(tmp_path: Path) -> None:
    judge = a_judge()
    judge.save(tmp_path / "model")
    again = Segmenter.load(tmp_path / "model")
    x = torch.rand(5, 3, 32, 32) * 2 - 1
    assert torch.equal(judge.maps(x), again.maps(x))
    assert (again.maps(x).dtype, again.maps(x).shape) == (torch.uint8, (5, 32, 32))
    assert (again.sha256, again.areas) == (judge.sha256, judge.areas)


def test_a_finished_one_is_not_trained_again(tmp_path: Path) -> None:
    first, second = train_segmenter(RUN, tmp_path), train_segmenter(RUN, tmp_path)
    assert first.sha256 == second.sha256 and len(first.areas) == 11
    with pytest.raises(UserError, match=r"soft: was 0\.5, now 0\.25"):
        train_segmenter(replace(RUN, soft=0.25), tmp_path)


def test_it_cannot_learn_without_label_maps(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no label maps"):
        train_segmenter(replace(RUN, data=replace(SCENES, source="embedded:fluent/val")), tmp_path)


class Grey(PixelSpace):
    """A first stage that brings back grey paper."""

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(z)


@pytest.mark.parametrize(("soft", "grey"), [(0.0, 0), (1.0, 8)])
def test_some_pictures_pass_the_first_stage(soft: float, grey: int) -> None:
    judge, shown = a_judge(), []
    judge.network.register_forward_pre_hook(lambda _, args: shown.append(args[0]))
    task = Segment(judge, Grey(), torch.ones(3), replace(RUN, soft=soft, jitter=0.0))
    x = torch.rand(8, 3, 32, 32) + 0.001
    batch = {"image": x, "label_map": torch.full((8, 32, 32), 255, dtype=torch.uint8), "index": torch.arange(8)}
    batch["label_map"][0] = 1
    (loss,) = task.losses(batch, Progress(0, 1), Draws.of(0, 0, batch))
    assert int((shown[0] == 0).flatten(1).all(1).sum()) == grey
    assert loss.value.isfinite() and set(loss.metrics) == {"accuracy"}
    if not soft:
        assert torch.equal(shown[0], x.clamp(-1, 1))


@pytest.mark.parametrize("wrong", [{"soft": 1.5}, {"jitter": -0.1}, {"balance": 2.0}])
def test_shares_are_shares(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        SegmenterRun(**wrong)
