"""What every conditioner does by being registered, and what several of them are together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from tests.condition_toys import BATCH, CAPTIONS, EVERYTHING, SIDE, TOYS, Silent, Squares, Words, draw
from torch import Tensor, nn

from calotype.condition import Condition
from calotype.conditioning.class_label import ClassLabelConfig
from calotype.conditioning.conditioner import Conditioner, Conditioners, conditioners
from calotype.conditioning.conditioning_image import ConditioningImageConfig
from calotype.conditioning.low_resolution import LowResolutionConfig
from calotype.conditioning.masked_image import MaskedImageConfig
from calotype.conditioning.semantic_map import SemanticMapConfig
from calotype.conditioning.text import words_of
from calotype.errors import UserError
from calotype.nn.unet import UNetConfig
from calotype.registry import from_plain, to_plain
from calotype.rng import Draws

ROUTES = ("tokens", "mask", "spatial", "vector")


def build() -> Conditioners:
    torch.manual_seed(0)
    configs = {"caption": TOYS["text"](), "category": TOYS["class_label"]()}
    return Conditioners.fit(configs, Words(), Squares(), drop=0.25)


def fitted(name: str) -> Conditioner:
    torch.manual_seed(0)
    return TOYS[name]().fit(Words(), Squares()).eval()


def same(a: Condition, b: Condition, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Raise unless two conditions say the same; what is the same everywhere may or may not be spread."""
    for route in ROUTES:
        x, y = getattr(a, route), getattr(b, route)
        assert (x is None) == (y is None), route
        if x is not None:
            x, y = torch.broadcast_tensors(x, y)
            torch.testing.assert_close(x, y, rtol=rtol, atol=atol)


def rows(batch: Mapping[str, Any], i: int) -> dict[str, Any]:
    return {k: v[i : i + 1] for k, v in batch.items()}


# --- each of them -----------------------------------------------------------------------------------------------------


def test_every_member_is_tested_here() -> None:
    assert {*conditioners} == {*TOYS}


every = pytest.mark.parametrize("name", TOYS)


@every
def test_comes_back_from_a_file(name: str) -> None:
    config = TOYS[name]()
    assert from_plain(to_plain(config)) == config


@every
def test_explains_data_without_its_wish(name: str) -> None:
    config = TOYS[name]()
    assert config.lacks(Words()) == "" and config.lacks(Silent())
    with pytest.raises(UserError, match=f"^the data has no {config.lacks(Silent())}, but the recipe conditions") as e:
        Conditioners.fit({"wish": config}, Silent(), Squares())
    assert str(e.value).endswith(f"{config.remedy}, or train without: conditioners.wish=null")
    assert config.guided == fitted(name).guided


@every
def test_fills_the_routes_that_it_declares(name: str) -> None:
    member = fitted(name)
    assert member.null(3).routes == member.routes() == member(EVERYTHING).routes
    for condition, n in ((member.null(3), 3), (member(EVERYTHING), 4)):
        assert all(getattr(condition, r) is None or len(getattr(condition, r)) == n for r in ROUTES)
    assert all(key in EVERYTHING for key in member.reads)


@every
def test_null_is_the_same_n_times(name: str) -> None:
    member = fitted(name)
    same(member.null(3), member.null(1).expand(3), rtol=1e-5, atol=1e-6)


@every
def test_says_the_same_of_a_tensor_and_of_a_list(name: str) -> None:
    member = fitted(name)
    same(member({k: list(v) for k, v in EVERYTHING.items()}), member(EVERYTHING))


@every
def test_a_row_depends_on_no_other(name: str) -> None:
    member = fitted(name)
    whole = member(EVERYTHING)
    for i in range(4):
        same(member(rows(EVERYTHING, i)), whole[i : i + 1], rtol=1e-4, atol=1e-5)


@every
def test_hears_its_wish(name: str) -> None:
    member = fitted(name)
    condition, null = member(EVERYTHING), member.null(4)
    for route in ("tokens", "spatial", "vector"):
        said, nothing = getattr(condition, route), getattr(null, route)
        if said is not None:
            assert not torch.equal(said[0], said[1])
            assert all(not torch.equal(said[i], nothing[i].expand_as(said[i])) for i in range(3)), (
                "the 4th has no class"
            )


@every
def test_comes_back_from_weights_and_assets(name: str) -> None:
    member, config = fitted(name), TOYS[name]()
    torch.manual_seed(1)
    latents = Squares()
    latents.load_state_dict(_squares().state_dict())
    with torch.device("meta"):  # as weights are counted before memory is taken
        assert config.load(member.assets(), latents).state_dict().keys() == member.state_dict().keys()
    again = config.load(member.assets(), latents).eval()
    again.load_state_dict(member.state_dict())
    same(again(EVERYTHING), member(EVERYTHING))
    same(again.null(2), member.null(2))
    assert again.names == member.names and again.assets() == member.assets()


def _squares() -> Squares:
    """The first stage that `fitted` gives."""
    torch.manual_seed(0)
    return Squares()


@every
def test_the_first_stage_and_the_feature_network_are_no_part_of_it(name: str) -> None:
    torch.manual_seed(0)
    latents = Squares()
    member = TOYS[name]().fit(Words(), latents)
    own = {id(p) for p in member.parameters()}
    assert not own & {id(p) for p in latents.parameters()} and not any("mix" in key for key in member.state_dict())
    assert {*member.state_dict()} == {key for key, _ in member.named_parameters()}, "nothing frozen is saved"
    condition = member(EVERYTHING)
    total = sum(v.sum() for r in ROUTES if (v := getattr(condition, r)) is not None and v.requires_grad)
    if isinstance(total, Tensor):
        total.backward()
    assert all(p.grad is None for p in latents.parameters())


@every
def test_works_in_a_training_steps_precision(name: str) -> None:
    member = fitted(name)
    with torch.autocast("cpu", torch.bfloat16):
        low = member(EVERYTHING)
    same(low.to(torch.empty(0)), member(EVERYTHING).to(torch.empty(0)), rtol=0.1, atol=0.1)


@every
def test_a_guided_member_is_dropped_row_by_row_and_others_never(name: str) -> None:
    c = Conditioners({name: fitted(name)}, {name: TOYS[name]()}, drop=0.5)
    draws = Draws(0, 0, range(4000))
    keep = c.keep(draws.uniform("drop"), {name: draws.uniform(name)})
    guided = c.members[name].guided
    assert (name in keep) == guided and bool(c.guided) == guided and bool(c.needs) == (not guided)
    full, null = c(EVERYTHING, 4), c.null(4, EVERYTHING)
    chosen = torch.tensor([True, False, True, False])
    dropped = c.dropped(EVERYTHING, {name: chosen}, 4)
    for i in range(4):
        same(dropped[i : i + 1], (full if chosen[i] or not guided else null)[i : i + 1], rtol=1e-5, atol=1e-6)
    if guided:
        same(null, c.members[name].null(4), rtol=1e-5, atol=1e-6)
        same(c({}, 4), null, rtol=1e-5, atol=1e-6)
    else:
        same(null, full)
        with pytest.raises(UserError, match="cannot do without"):
            c.check({})


GUIDED = [name for name in TOYS if "guided" in {f.name for f in fields(conditioners[name])}]
"""Those that may be guided or not."""


@pytest.mark.parametrize("name", GUIDED)
@pytest.mark.parametrize("guided", [True, False])
def test_whether_guidance_strengthens_it_is_a_choice(name: str, guided: bool) -> None:
    member = replace(TOYS[name](), guided=guided).fit(Words(), Squares())  # type: ignore[type-var]
    assert member.guided == guided
    assert Conditioners({name: member}, {}).needs == (() if guided else member.reads)


# --- all of them together ---------------------------------------------------------------------------------------------


def everything(guided: bool) -> Conditioners:
    torch.manual_seed(0)
    configs = {k: replace(v(), guided=guided) if k in GUIDED else v() for k, v in TOYS.items()}  # type: ignore[type-var]
    return Conditioners.fit({f"the_{k}": v for k, v in configs.items()}, Words(), Squares(), drop=0.25)


@pytest.mark.parametrize("guided", [True, False])
def test_all_of_them_condition_one_network(guided: bool) -> None:
    """Forward and backward with some wishes dropped, then both sides of classifier-free guidance in one call."""
    c = everything(guided)
    routes = c.routes()
    assert (routes.tokens, routes.vector) == (16, 8 + 6 + 5) and routes.spatial == 2 + 3 + 3 + 5 + 4
    network = UNetConfig(
        4 + routes.spatial,
        4,
        8,
        (1, 2),
        blocks=1,
        attention=(False, True),
        head_width=8,
        context_width=routes.tokens,
        vector_width=routes.vector,
    ).build()
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.3)
    z, time = draw(4, 4, SIDE // 4, SIDE // 4), torch.tensor([3.0, 200.0, 500.0, 900.0])
    keep = {name: torch.arange(4) % (2 + k % 2) > 0 for k, name in enumerate(c.members)}
    network(z, time, c.dropped(EVERYTHING, keep, 4)).square().mean().backward()
    assert [k for k, p in c.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())] == []

    with torch.no_grad():
        cond, null = c(EVERYTHING, 4), c.null(4, EVERYTHING)
        both = network(torch.cat([z, z]), torch.cat([time, time]), null.cat(cond))
        torch.testing.assert_close(both[4:], network(z, time, cond), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(both[:4], network(z, time, null), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(both[:4], both[4:])
        alone = network(z[:1], time[:1], c(rows(EVERYTHING, 0), 1))
        torch.testing.assert_close(alone, both[4:5], rtol=1e-4, atol=1e-5)


def test_no_wish_at_all_is_null_and_maps_that_say_nothing_take_no_room() -> None:
    c = everything(guided=True)
    c.check({})
    same(c({}, 2), c.null(2), rtol=1e-5, atol=1e-6)
    assert c.null(2).spatial.shape[2:] == (1, 1)


def test_routes_join_and_shapes_follow() -> None:
    c = build()
    condition = c(BATCH, 4)
    assert c.routes().tokens == 16 and c.reads == ("caption", "label")
    assert condition.tokens.shape == (4, 13, 16) and condition.mask.shape == (4, 13)
    assert condition.routes == c.routes()
    assert c.names == {"label": ("People", "Smileys")}


def test_a_missing_wish_is_null_and_an_unknown_one_is_refused() -> None:
    c = build()
    only_text = c({"caption": CAPTIONS}, 4)
    torch.testing.assert_close(only_text.tokens[:, 12:], c.null(4).tokens[:, 12:])
    torch.testing.assert_close(c({}, 2).tokens, c.null(2).tokens)
    with pytest.raises(UserError, match="not trained with 'boxes'; it takes 'caption', 'label'"):
        c.check({"boxes": []})


def test_a_wish_that_is_always_there_has_to_be_given() -> None:
    configs = {"hole": MaskedImageConfig(), "map": SemanticMapConfig(), "class": ClassLabelConfig(16)}
    c = Conditioners.fit(configs, Words(), Squares())
    assert c.needs == ("image", "hole", "label_map")
    with pytest.raises(UserError, match="takes 'image' and 'hole' together; add hole"):
        c.check({"image": [], "label_map": []})
    with pytest.raises(UserError, match="'image' and 'hole' in training and cannot do without; add them"):
        c.check({"label_map": []})
    c.check({"image": [], "hole": [], "label_map": []})


def test_maps_of_two_sizes_are_no_condition() -> None:
    c = Conditioners.fit(
        {"map": SemanticMapConfig(), "drawing": ConditioningImageConfig()}, Words(), Squares(), drop=0.0
    )
    with pytest.raises(ValueError, match="one size"):
        c(EVERYTHING | {"label_map": torch.zeros(4, 2 * SIDE, 2 * SIDE, dtype=torch.uint8)}, 4)


def test_dropped_rows_equal_null_rows_and_the_others_are_untouched() -> None:
    c = build()
    keep = {"caption": torch.tensor([True, False, True, False]), "category": torch.tensor([True, True, False, False])}
    full, null, dropped = c(BATCH, 4), c.null(4), c.dropped(BATCH, keep, 4)
    for rows_of, name in ((slice(0, 12), "caption"), (slice(12, 13), "category")):
        for i in range(4):
            source = full if keep[name][i] else null
            torch.testing.assert_close(dropped.tokens[i, rows_of], source.tokens[i, rows_of])
            assert torch.equal(dropped.mask[i, rows_of], source.mask[i, rows_of])


def test_joint_dropping_has_its_probability_and_is_per_sample() -> None:
    c = build()
    draws = Draws(0, 0, range(4000))
    keep = c.keep(draws.uniform("drop"), {n: draws.uniform(n) for n in c.members})
    assert torch.equal(keep["caption"], keep["category"])
    assert abs(1 - float(keep["caption"].float().mean()) - 0.25) < 0.03


def test_assets_bring_back_the_same_conditioner() -> None:
    c = build()
    again = Conditioners.load(c.configs, c.assets(), Squares(), c.drop)
    again.load_state_dict(c.state_dict())
    assert torch.equal(again(BATCH, 4).tokens, c(BATCH, 4).tokens)
    asked = {"caption": ["a red unicorn", "Heart-shaped unicorns, 3 of them"]}
    assert again.unheard(asked) == c.unheard(asked) != ()
    assert again.assets() == c.assets()


def test_what_was_learned_is_told_from_what_must_not_change() -> None:
    c = build()
    fixed = c.fixed()
    assert fixed.pop("conditions") == ", ".join(c.members)
    assert {*c.assets()} - {*fixed} == {"caption.tokenizer", "caption.words"} and fixed.items() <= c.assets().items()


def test_unconditional_model_has_an_empty_condition() -> None:
    c = Conditioners({}, {})
    assert c({}, 2).routes == c.routes() and c.null(2).tokens is None


# --- captions ---------------------------------------------------------------------------------------------------------


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


def test_a_persons_caption_is_not_cut_without_a_word() -> None:
    c = build()
    c.check_asked({"caption": CAPTIONS})
    with pytest.raises(UserError, match=r"longer than the 12 word pieces that this model reads; end it after '.*heart"):
        c.check_asked({"caption": ["heart " * 500]})


def test_words_that_no_caption_had_are_found() -> None:
    c = build()
    known = {word for caption in Words().captions() for word in words_of(caption)}
    assert known and c.unheard({"caption": [" ".join(sorted(known)).upper()]}) == ()
    assert c.unheard({"caption": ["unicorn", "xylophone unicorn"]}) == ("unicorn", "xylophone")
    assert c.unheard({}) == ()


def test_both_is_the_condition_and_null() -> None:
    conditioner = Conditioners.fit({name: TOYS[name]() for name in ("text", "masked_image")}, Words(), Squares())
    cond, null = conditioner.both(EVERYTHING, 4)
    for got, wanted in ((cond, conditioner(EVERYTHING, 4)), (null, conditioner.null(4, EVERYTHING))):
        assert torch.equal(got.tokens, wanted.tokens) and torch.equal(got.spatial, wanted.spatial)
    assert cond.spatial is not None and torch.equal(cond.spatial, null.spatial), "a hole is no matter of guidance"


def test_what_is_read_together_is_given_together() -> None:
    guided = Conditioners.fit({"masked": MaskedImageConfig(guided=True)}, Words(), Squares())
    with pytest.raises(UserError, match="takes 'image' and 'hole' together; add hole"):
        guided.check({"image": EVERYTHING["image"]})
    guided.check({})


@pytest.mark.parametrize("config", [SemanticMapConfig, MaskedImageConfig, LowResolutionConfig, ConditioningImageConfig])
def test_what_is_never_dropped_has_no_probability_of_it(config: type) -> None:
    with pytest.raises(ValueError, match=r"drops what is never dropped; take guided=true"):
        config(drop=0.1)
    assert config(drop=0.1, guided=True).drop == 0.1
