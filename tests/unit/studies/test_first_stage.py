"""The study's members and its table; the whole chain of it runs in tests/system."""

import re
from pathlib import Path

import pytest

from calotype.config import resolve
from calotype.errors import UserError
from calotype.studies.base import claim, studies
from calotype.studies.first_stage import CHANNELS, MULTIPLIERS, PUBLISHED, FirstStage


def test_members_differ_in_nothing_but_factor_and_bottleneck() -> None:
    members = list(FirstStage().members())
    assert [(kind, f) for kind, f, _ in members] == [(kind, f) for kind in CHANNELS for f in MULTIPLIERS]
    assert {(kind, f) for kind, f, _ in members} == set(PUBLISHED)
    for kind, factor, run in members:
        assert run.autoencoder.network.factor == factor
        assert run.autoencoder.build().channels == CHANNELS[kind][factor]
    first = members[0][2]
    for _, _, run in members:
        assert (run.data, run.loss, run.optimizer, run.critic, run.trainer) == (
            first.data,
            first.loss,
            first.optimizer,
            first.critic,
            first.trainer,
        )


def test_a_study_is_its_own_description() -> None:
    chosen = resolve(studies.create("first-stage"), None, ["steps=3", "factors=[8]"])
    assert chosen == FirstStage(steps=3, factors=(8,))
    with pytest.raises(ValueError, match=re.escape("some of 2, 4, 8, 16, 32, got [3]")):
        FirstStage(factors=(3,))


def test_published_rows_are_those_of_the_specification() -> None:
    """Monotone where the paper is: each factor of two costs PSNR, and VQ at f = 32 is the worst of all."""
    for kind in CHANNELS:
        values = [PUBLISHED[kind, f].psnr for f in MULTIPLIERS]
        assert values == sorted(values, reverse=True)
    assert max(PUBLISHED.values(), key=lambda p: p.fid) == PUBLISHED["VQ", 32]


@pytest.mark.parametrize("name", [*studies])
def test_every_study_says_what_it_is(name: str, tmp_path: Path) -> None:
    text = studies[name].__doc__ or ""
    assert "https://" in text and "minutes" in text


@pytest.mark.parametrize("wrong", ["steps=0", "codes=0", "seed=-1", "factors=[2, 2]", "factors=[]"])
def test_numbers_that_no_run_accepts_are_refused_at_once(wrong: str) -> None:
    with pytest.raises(UserError, match="must"):
        resolve(studies.create("first-stage"), None, [wrong])


def test_a_folder_belongs_to_a_study_of_one_size(tmp_path: Path) -> None:
    """Its runs would go on to the new number of steps, and the table would say that they had always had it."""
    study = FirstStage(steps=3)
    claim(tmp_path, FirstStage(steps=7))
    claim(tmp_path, study)  # nothing was trained yet
    (tmp_path / "kl-f2" / "checkpoints" / "step-00000003").mkdir(parents=True)
    claim(tmp_path, study)
    claim(tmp_path, FirstStage(steps=3, factors=(2,)), free=("factors",))
    with pytest.raises(UserError, match="steps: was 3, now 5"):
        claim(tmp_path, FirstStage(steps=5, factors=(2,)), free=("factors",))
    with pytest.raises(UserError, match="steps: was 3, now 5"):
        FirstStage(steps=5).run(tmp_path)
