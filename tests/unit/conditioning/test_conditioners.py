"""Wishes become conditions: vocabulary, null rows, per-sample dropping, missing and unknown wishes."""

from collections.abc import Sequence

import pytest
import torch

from calotype.conditioning.class_label import ClassLabelConfig
from calotype.conditioning.conditioner import Conditioners, conditioners
from calotype.conditioning.text import TextConfig, words_of
from calotype.errors import UserError
from calotype.layout import Box, Layout
from calotype.rng import Draws

CAPTIONS = ["a red heart", "a smiling face", "a police officer with dark skin", "Ünïcode ☂ caption"]


class Words:
    """A corpus with captions and classes."""

    classes: Sequence[str] = ("People", "Smileys")
    objects: Sequence[str] = ("hat", "shoe")

    def captions(self) -> Sequence[str]:
        return CAPTIONS


class Silent:
    """A corpus that says nothing."""

    classes: Sequence[str] = ()
    objects: Sequence[str] = ()

    def captions(self) -> Sequence[str]:
        return ["", ""]


def build() -> Conditioners:
    torch.manual_seed(0)
    configs = {
        "caption": TextConfig(width=16, depth=1, heads=2, length=12, vocabulary=400),
        "category": ClassLabelConfig(width=16),
    }
    return Conditioners.fit(configs, Words(), drop=0.25)


BATCH = {"caption": CAPTIONS, "label": torch.tensor([0, 1, 0, -1])}
EVERYTHING = BATCH | {"layout": [Layout((Box(1, 0.0, 0.0, 0.5, 0.5),))] * 4}
"""A batch for every registered conditioner."""


def test_routes_join_and_shapes_follow() -> None:
    c = build()
    condition = c(BATCH, 4)
    assert c.routes().tokens == 16 and c.reads == ("caption", "label")
    assert condition.tokens.shape == (4, 13, 16) and condition.mask.shape == (4, 13)
    assert condition.routes == c.routes()


def test_a_missing_wish_is_null_and_an_unknown_one_is_refused() -> None:
    c = build()
    only_text = c({"caption": CAPTIONS}, 4)
    torch.testing.assert_close(only_text.tokens[:, 12:], c.null(4).tokens[:, 12:])
    torch.testing.assert_close(c({}, 2).tokens, c.null(2).tokens)
    with pytest.raises(UserError, match="not trained with 'boxes'; it takes 'caption', 'label'"):
        c.check({"boxes": []})


def test_dropped_rows_equal_null_rows_and_the_others_are_untouched() -> None:
    c = build()
    keep = {"caption": torch.tensor([True, False, True, False]), "category": torch.tensor([True, True, False, False])}
    full, null, dropped = c(BATCH, 4), c.null(4), c.dropped(BATCH, keep, 4)
    for rows, name in ((slice(0, 12), "caption"), (slice(12, 13), "category")):
        for i in range(4):
            source = full if keep[name][i] else null
            torch.testing.assert_close(dropped.tokens[i, rows], source.tokens[i, rows])
            assert torch.equal(dropped.mask[i, rows], source.mask[i, rows])


def test_joint_dropping_has_its_probability_and_is_per_sample() -> None:
    c = build()
    draws = Draws(0, 0, range(4000))
    keep = c.keep(draws.uniform("drop"), {n: draws.uniform(n) for n in c.members})
    assert torch.equal(keep["caption"], keep["category"])
    assert abs(1 - float(keep["caption"].float().mean()) - 0.25) < 0.03


def test_negative_label_is_null_and_names_work_like_numbers() -> None:
    c = build()
    member = c.members["category"]
    torch.testing.assert_close(member({"label": torch.tensor([-1])}).tokens, member.null(1).tokens)
    torch.testing.assert_close(member({"label": ["smileys"]}).tokens, member({"label": [1]}).tokens)
    with pytest.raises(UserError, match=r"unknown class 'Smilies'; did you mean 'Smileys'"):
        member({"label": ["Smilies"]})
    with pytest.raises(UserError, match="out of range"):
        member({"label": [7]})


def test_padding_does_not_reach_the_tokens() -> None:
    """A caption's states are the same whether its neighbour in the batch is long or short."""
    text = build().members["caption"]
    alone, together = text({"caption": [CAPTIONS[0]]}), text({"caption": CAPTIONS})
    length = int(alone.mask.sum())
    torch.testing.assert_close(alone.tokens[0, :length], together.tokens[0, :length], rtol=1e-4, atol=1e-5)


def test_tokenizer_is_lossless_and_cuts_long_captions() -> None:
    text = build().members["caption"]
    ids, mask = text.tokenize(["A Red HEART", "heart " * 500, ""])
    assert ids.shape == (3, 12)
    assert text.tokenizer.decode(ids[0][mask[0]].tolist()).strip() == "a red heart"
    assert mask.sum(1).tolist()[1:] == [12, 1]


def test_assets_bring_back_the_same_conditioner() -> None:
    c = build()
    assets = c.assets()
    members = {n: config.load(Conditioners.assets_of(n, assets)) for n, config in c.configs.items()}
    again = Conditioners(members, c.configs, c.drop)
    again.load_state_dict(c.state_dict())
    assert torch.equal(again(BATCH, 4).tokens, c(BATCH, 4).tokens)
    asked = {"caption": ["a red unicorn", "Heart-shaped unicorns, 3 of them"]}
    assert again.unheard(asked) == c.unheard(asked) != ()


def test_words_that_no_caption_had_are_found() -> None:
    c = build()
    known = {word for caption in Words().captions() for word in words_of(caption)}
    assert known and c.unheard({"caption": [" ".join(sorted(known)).upper()]}) == ()
    assert c.unheard({"caption": ["unicorn", "xylophone unicorn"]}) == ("unicorn", "xylophone")
    assert c.unheard({}) == ()


@pytest.mark.parametrize("name", list(conditioners))
def test_every_conditioner_explains_data_without_its_wish(name: str) -> None:
    with pytest.raises(UserError, match="the data has no"):
        conditioners.create(name).fit(Silent())


@pytest.mark.parametrize("name", list(conditioners))
def test_every_conditioner_fills_the_routes_it_declares(name: str) -> None:
    member = conditioners.create(name).fit(Words())
    assert member.null(3).routes == member.routes()
    assert member(EVERYTHING).routes == member.routes()
    assert all(key in EVERYTHING for key in member.reads)


def test_unconditional_model_has_an_empty_condition() -> None:
    c = Conditioners({}, {})
    assert c({}, 2).routes == c.routes() and c.null(2).tokens is None
