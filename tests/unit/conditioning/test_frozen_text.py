"""Captions through a frozen encoder: kept states, null, dropping, and a model folder without the encoder in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.condition_toys import Silent, Squares, Words
from tests.encoder_toys import KINDS, LENGTH, SEEN, WIDTH, encoder, write
from torch import Tensor, nn

from calotype.autoencoder.base import PixelSpace
from calotype.condition import Condition
from calotype.conditioning.conditioner import Conditioners
from calotype.conditioning.frozen_text import FrozenText, FrozenTextConfig, Kept
from calotype.diffusion.denoiser import Denoiser
from calotype.diffusion.parameterization import Velocity
from calotype.diffusion.schedule import Schedule
from calotype.errors import CorruptFile, UserError
from calotype.files import read_tensors, write_tensors
from calotype.generation.generate import Plan, images
from calotype.model import LatentDiffusion
from calotype.nn.unet import UNetConfig


def build(kind: str = "bert", seed: int = 0, **options: int | str | bool) -> FrozenText:
    torch.manual_seed(seed)
    fields = {"encoder": str(encoder(kind)), "length": LENGTH} | options
    return FrozenTextConfig(**fields).fit(Words(), Squares())  # type: ignore[arg-type]


def same(a: Condition, b: Condition) -> None:
    assert torch.equal(a.tokens, b.tokens) and torch.equal(a.mask, b.mask)


class Calls:
    """Counts how often an encoder runs."""

    def __init__(self, text: FrozenText) -> None:
        self.n = 0
        text.encoder.model.register_forward_hook(self)

    def __call__(self, module: nn.Module, given: object, result: object) -> None:
        self.n += 1


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_the_encoders_states_with_its_mask(kind: str) -> None:
    text = build(kind)
    condition = text({"caption": SEEN})
    assert condition.tokens.shape == (4, LENGTH, WIDTH) and condition.routes == text.routes()
    assert condition.tokens.dtype == torch.float32
    states = text.encoder.states(SEEN, torch.device("cpu"))
    for row, mask, want in zip(condition.tokens, condition.mask, states, strict=True):
        assert torch.equal(row[: len(want)], want.float())
        assert mask[: len(want)].all() and not mask[len(want) :].any()
    assert condition.mask.all() == (kind == "clip")


def test_a_projection_is_trained_and_the_encoder_is_not() -> None:
    text = build(width=10)
    assert {*text.state_dict()} == {"projection.0.weight", "projection.1.weight", "projection.1.bias"}
    assert [p.shape[-1] for p in text.parameters()] == [WIDTH, 10, 10]
    condition = text({"caption": SEEN})
    assert condition.tokens.shape[-1] == text.routes().tokens == 10
    heard: Tensor = condition.tokens[condition.mask]
    torch.testing.assert_close(heard.square().mean(-1), torch.ones(len(heard)), rtol=1e-2, atol=1e-2)
    (heard**3).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in text.parameters())
    text.train()
    assert not text.encoder.model.training and not any(p.requires_grad for p in text.encoder.model.parameters())


def test_without_a_projection_nothing_is_trained_or_saved(tmp_path: Path) -> None:
    text = build()
    assert not text.state_dict() and not [*text.parameters()]
    assert not text({"caption": SEEN}).tokens.requires_grad
    write_tensors(tmp_path / "conditioner.safetensors", text.state_dict())
    assert read_tensors(tmp_path / "conditioner.safetensors") == {}


def test_captions_that_were_met_are_not_encoded_again() -> None:
    text, fresh = build(width=8), build(width=8)
    calls = Calls(text)
    first, met = text({"caption": [*SEEN, *SEEN]}), calls.n
    second = text({"caption": [*SEEN, *SEEN]})
    assert met == 1 == calls.n and len(text.kept) == len(SEEN)
    same(first, second)
    same(first[:4], first[4:])
    mixed = text({"caption": [SEEN[2], "a new heart"]})
    assert calls.n == met + 1
    same(mixed[:1], first[2:3])
    same(fresh({"caption": ["a new heart", SEEN[2]]})[:1], mixed[1:])
    text.null(3)
    text.null(1)
    assert calls.n == met + 2, "the empty caption is kept as well"


def test_memory_is_bounded_and_what_was_asked_for_longest_ago_goes_first() -> None:
    kept, row = Kept(3 * 20), torch.zeros(10, dtype=torch.float16)
    for text in "abc":
        kept.put(text, row.clone())
    assert kept.get("a") is not None
    kept.put("d", row.clone())
    assert [kept.get(t) is not None for t in "abcd"] == [True, False, True, True] and kept.bytes == 60
    kept.put("e", torch.zeros(100))
    assert len(kept) == 0 == kept.bytes, "what is larger than all the room is not kept"
    text = build(cache=0)
    calls = Calls(text)
    same(text({"caption": SEEN}), text({"caption": SEEN}))
    assert calls.n == 2 and text.kept.bytes == 0


def test_what_is_kept_holds_no_more_memory_than_it_says() -> None:
    text = build()
    text({"caption": SEEN})
    states = [text.kept.get(caption) for caption in SEEN]
    assert all(s is not None and s.untyped_storage().nbytes() == s.nbytes for s in states)
    assert text.kept.bytes == sum(s.nbytes for s in states if s is not None)


def test_null_is_the_empty_caption() -> None:
    text = build(width=8)
    same(text.null(3), text({"caption": ["", "", ""]}))
    assert text.null(1).mask.sum() == 1, "its end"
    assert build("clip").null(2).mask.all()


def test_dropped_rows_are_null_and_the_others_are_not_touched() -> None:
    text = build(width=8, drop=0.5)
    c = Conditioners({"caption": text}, {}, drop=0.1)
    full, keep = c({"caption": SEEN}, 4), torch.tensor([True, False, True, False])
    dropped = c.dropped({"caption": SEEN}, {"caption": keep}, 4)
    same(dropped[keep], full[keep])
    same(dropped[~keep], c.null(2))
    assert c.keep(torch.full((1,), 0.3), {"caption": torch.full((1,), 0.4)}) == {"caption": torch.tensor([False])}


def test_loaded_is_the_same_and_another_encoder_is_refused(tmp_path: Path) -> None:
    folder = write("bert", tmp_path / "encoder")
    config = FrozenTextConfig(str(folder), LENGTH, width=8)
    text = config.fit(Words(), Squares())
    again = config.load(text.assets(), Squares())
    again.load_state_dict(text.state_dict())
    same(again({"caption": SEEN}), text({"caption": SEEN}))

    write("bert", folder, seed=1)
    with pytest.raises(CorruptFile, match=r"the weights of the text encoder .* are not what .* put that encoder back"):
        config.load(text.assets(), Squares())
    write("bert", folder)
    assert config.load(text.assets(), Squares()).assets() == text.assets()
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"Lowercase"', '"NFC"'))
    with pytest.raises(CorruptFile, match="the tokenizer of the text encoder"):
        config.load(text.assets(), Squares())


def test_a_run_is_bound_to_its_encoder(tmp_path: Path) -> None:
    """By the hashes among what must not change when a run goes on."""
    config = FrozenTextConfig(str(write("bert", tmp_path / "encoder")), LENGTH, width=8)
    before = Conditioners.fit({"caption": config}, Words(), Squares()).fixed()
    write("bert", tmp_path / "encoder", seed=1)
    after = Conditioners.fit({"caption": config}, Words(), Squares()).fixed()
    assert before.keys() == after.keys() and before != after


def test_a_model_folder_names_the_encoder_and_does_not_hold_it(tmp_path: Path) -> None:
    folder = write("t5", tmp_path / "encoder")
    config = FrozenTextConfig(str(folder), LENGTH, width=8)
    conditioner = Conditioners.fit({"caption": config}, Words(), PixelSpace())
    network = UNetConfig(3, 3, 8, (1,), blocks=1, attention=(True,), head_width=8, context_width=8).build()
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.3)  # a fresh network says the same to everything
    model = LatentDiffusion(PixelSpace(), Denoiser(network, Schedule(), Velocity()), conditioner, side=8).eval()
    model.save(tmp_path / "model")
    assert {*read_tensors(tmp_path / "model" / "conditioner.safetensors")} == {
        "members.caption.projection.0.weight",
        "members.caption.projection.1.weight",
        "members.caption.projection.1.bias",
    }
    again, plan = LatentDiffusion.load(tmp_path / "model"), Plan(steps=2)
    draw = [images(m, {"caption": SEEN[:2]}, plan, n=2, seed=0) for m in (model, again)]
    assert torch.equal(*draw) and not torch.equal(draw[0], images(again, {}, plan, n=2, seed=0))
    write("t5", folder, seed=1)
    with pytest.raises(CorruptFile, match=r"^the weights of the text encoder .* put that encoder back$"):
        LatentDiffusion.load(tmp_path / "model")


def test_a_persons_caption_is_not_cut_in_silence() -> None:
    text = build(length=6)
    text.check_asked({"caption": ["a red heart", ""]})
    with pytest.raises(UserError, match="longer than the 6 word pieces that this model reads; end it after 'a red hea"):
        text.check_asked({"caption": ["a red heart", "a red heart " * 9]})
    assert text({"caption": ["a red heart " * 9]}).mask.all(), "a data set's is"


@pytest.mark.parametrize("wrong", [{"length": 0}, {"width": 0}, {"cache": -1}, {"drop": 2.0}])
def test_sizes_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        FrozenTextConfig(**wrong)  # type: ignore[arg-type]


def test_data_without_captions_need_no_encoder() -> None:
    config = FrozenTextConfig("nowhere")
    assert config.lacks(Silent()) == "captions" and config.lacks(Words()) == ""
    with pytest.raises(UserError, match="the data has no captions"):
        Conditioners.fit({"caption": config}, Silent(), Squares())
