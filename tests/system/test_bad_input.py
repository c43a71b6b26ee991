"""Every bad input ends in one sentence and exit code 2: no traceback, nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.generation_toys import saved
from tests.system.conftest import World, tiny_autoencoder, tiny_diffusion

import calotype
from calotype import files
from calotype.cli import main
from calotype.config import to_yaml
from calotype.files import read_tensors, verify_directory, write_tensors
from calotype.registry import to_plain
from calotype.training.run import RunDirectory
from calotype.training.trainer import Trainer

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Line:
    """A command line that must fail in a good way."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *words: object) -> str:
        """The one sentence on stderr."""
        self.capture.readouterr()
        assert main([str(w) for w in words]) == 2
        err = self.capture.readouterr().err
        told = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(told) == 1 and err.endswith(told[0] + "\n"), err
        assert "Traceback" not in err and len(told[0]) > 30
        return told[0]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Line:
    return Line(capsys)


@dataclass(frozen=True)
class Configs:
    """The tiny runs as YAML files, of one step."""

    autoencoder: Path
    diffusion: Path


@pytest.fixture(scope="module")
def configs(world: World, tmp_path_factory: pytest.TempPathFactory) -> Configs:
    folder = tmp_path_factory.mktemp("configs")
    first, second = tiny_autoencoder(world.pictures, 1), tiny_diffusion(world.pictures, str(world.autoencoder), 1)
    (folder / "first.yaml").write_text(to_yaml(first))
    (folder / "second.yaml").write_text(to_yaml(second))
    return Configs(folder / "first.yaml", folder / "second.yaml")


def paint(folder: Path, n: int) -> Path:
    folder.mkdir(parents=True)
    for k in range(n):
        Image.new("RGB", (20, 20), (k * 7, 80, 90)).save(folder / f"{k:02d}.png")
    return folder


def bomb(path: Path, width: int, height: int) -> None:
    """A PNG of a few bytes that claims to be enormous."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


# --- the words themselves ---------------------------------------------------------------------------------------------

WORDS = {
    "smaple x": "no such command 'smaple'. Did you mean 'sample'? `calotype --help`",
    "train foo": "no such command 'foo'; `calotype train --help` says more",
    "sample": "missing argument",
    "sample x --captoin y": "--caption",
    "sample x -n 0": "'-n'",
    "sample x -n -3": "'-n'",
    "sample x -n 1000000": "'-n'",
    "sample x -n many": "'-n'",
    "sample x --scale nan": "'--scale': nan is no finite number",
    "sample x --scale inf": "'--scale': inf is no finite number",
    "sample x --scale 1e308": "'--scale': 1e+308 is not in the range",
    "sample x --steps 0": "'--steps'",
    "sample x --steps 20000": "'--steps'",
    "sample x --batch 100000": "'--batch'",
    "sample x --seed -1": "'--seed'",
    "sample x --seed 99999999999999999999": "'--seed'",
    "sample x --seed 1.5": "'--seed'",
    "sample x --out x.jpg": "x.jpg does not end in .png",
    "sample x --out /": "/ is a folder; name a file, such as /sheet.png",
    "sample nowhere": "there is no nowhere; name a run directory",
    "sample x --height 32": "--height needs --width; add it",
    "sample x --width 32": "--width needs --height; add it",
    "sample x --height 0 --width 8": "'--height'",
    "sample x --mask m.png": "--mask needs --image; add it",
    "sample x --image i.png": "--image needs --mask, which says where it is to be completed; to begin with a picture",
    "sample x --noise-level 0.5": "--noise-level is that of a low-resolution picture; add --low-res",
    "sample x --window -1": "'--window'",
    "edit x": "missing argument 'IMAGE'",
    "edit x i.png --strength 1.5": "'--strength'",
    "edit x i.png --strength -0.1": "'--strength'",
    "edit x i.png --strength nan": "'--strength'",
    "edit nowhere i.png": "there is no nowhere; name a run directory",
    "inpaint x i.png": "missing argument 'MASK'",
    "inpaint x i.png m.png --image i.png": "--image",
    "upscale x i.png --noise-level 2": "--noise-level must lie in [0, 1], got 2.0",
    "upscale x i.png --noise-level inf": "inf is no finite number",
    "synthesize x": "missing argument 'LABELMAP'",
    "layout x boxes.json --sampler ddmi": "unknown sampler 'ddmi'; did you mean 'dd",
    "sample x --sampler ddmi": "unknown sampler 'ddmi'; did you mean 'dd",
    "sample x --sampler ../x": "unknown sampler '../x'; known: ddim",
    "sample x --grid karas": "unknown grid 'karas'; did you mean 'karras'?",
    "evaluate x": "missing option '--data'",
    "evaluate x --data d -n 1": "'-n'",
    "evaluate x --data d --side 0": "'--side'",
    "evaluate x --data d --perceptual lpisp": "unknown perceptual 'lpisp'; did you mean 'lpips'",
    "evaluate x --data d --weights w": "the network of lite0 comes with the package and takes no weights",
    "evaluate nowhere --data d": "there is no nowhere; name a run directory",
    "evaluate pixels --data d": "pixels are not compressed, so there is no autoencoder to evaluate",
    "recipes emoji-difusion": "unknown recipe 'emoji-difusion'; did you mean 'emoji-diffusion'",
    "study first-stage steps=0": "steps must be a whole number from 1, got 0",
    "study first-stage codes=0": "size must lie in 1 ... 1048576, got 0",
    "study first-stage factors=[4,4]": "factors must differ, got [4, 4]",
    "study fist-stage": "unknown study 'fist-stage'; did you mean 'first-stage'",
    "components samplr": "unknown kind of component 'samplr'; did you mean 'sampler'",
    "train diffusion --data x --recipe small-autoencoder": "is for autoencoder, not for diffusion",
    "train autoencoder --data nowhere": "there is no folder nowhere; name a folder of pictures, or embedded:NAME",
    "train autoencoder --data embedded:fashon": "unknown embedded data set 'fashon'; did you mean 'fashion'",
    "data show embedded:fluent/tset": "unknown split 'tset'; known: all, train, val",
    "data show x --out sheet.gif": "sheet.gif does not end in .png",
}


@pytest.mark.parametrize("line", WORDS)
def test_words(line: str, fails: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert WORDS[line] in fails(*line.split())
    assert not list(tmp_path.iterdir())


# --- pictures, maps and boxes to sample from --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained models that are named after what they take, and files that do not fit them."""
    root = tmp_path_factory.mktemp("asked")
    for name in ("text", "class_label", "layout", "semantic_map", "low_resolution", "masked_image"):
        saved(root / name, name)
    Image.new("RGB", (20, 12), "red").save(root / "image.png")
    Image.new("L", (12, 12), 255).save(root / "other.png")
    Image.new("L", (20, 12), 100).save(root / "grey.png")
    Image.new("LA", (20, 12), (0, 0)).save(root / "clear.png")
    Image.new("L", (20, 12), 7).save(root / "seven.png")
    Image.fromarray(np.full((12, 20), 300, np.uint16)).save(root / "deep.png")
    Image.new("1", (5000, 5000)).save(root / "large.png")
    (root / "text.png").write_text("no picture")
    for name, value in {
        "outside": [{"class": "hat", "box": [0.5, 0.5, 1.5, 0.9]}],
        "unknown": [{"class": "hta", "box": [0, 0, 1, 1]}],
        "many": [[{"class": "hat", "box": [0, 0, 1, 1]}], [{"class": "hat", "box": [0, 0, 1, 1]}] * 3],
        "number": 5,
    }.items():
        (root / f"{name}.json").write_text(json.dumps(value))
    (root / "broken.json").write_text("[")
    return root


ASKED = {
    "edit text nowhere.png": "there is no file nowhere.png; name one",
    "edit text text": "there is no file text; name one, not a folder",
    "edit text text.png": "text.png is no PNG, JPEG, WEBP, BMP, GIF picture or is damaged",
    "edit text large.png": "large.png is 5000 x 5000, more than 17 megapixels; make it smaller",
    "edit text image.png --caption " + "x" * 100: "a caption is longer than the 12 word pieces",
    "edit semantic_map image.png": "always had --label-map in training and cannot do without; add --label-map PNG",
    "inpaint text image.png other.png": "the picture: 20 x 12, the mask: 12 x 12 pixels); scale it to one size",
    "inpaint text image.png grey.png": "grey.png has no white pixel, so there is nothing to paint",
    "inpaint masked_image image.png clear.png": "clear.png is transparent where a mask says what is to be painted",
    "inpaint text image.png nowhere.png": "there is no file nowhere.png",
    "upscale text image.png": "it takes --caption, which fits the verbs sample, edit and inpaint, without --low-res",
    "upscale low_resolution large.png": "large.png is 5000 x 5000, more than 1 megapixels",
    "upscale low_resolution image.png --noise-level 0.5": "this model was not trained with --noise-level",
    "synthesize text grey.png": "one that takes it is trained by `calotype train diffusion --recipe small-semantic`",
    "synthesize semantic_map seven.png": "seven.png has the label 7, but there are 3 areas: 0 ... 2, or 255 for none",
    "synthesize semantic_map deep.png": "deep.png is a PNG of kind I;16B; a label map is 8-bit grey or has a palette",
    "synthesize semantic_map image.png": "image.png is a PNG of kind RGB; a label map is 8-bit grey or has a palette",
    "layout text many.json": "this model was not trained with --layout: it takes --caption",
    "layout layout outside.json": "a box must lie inside the picture, corners in [0, 1]",
    "layout layout unknown.json": "unknown class of objects 'hta'; did you mean 'hat'?",
    "layout layout many.json --batch 1": "a layout has 3 boxes, this model takes 2 at most; leave out the smallest",
    "layout layout broken.json": "broken.json is not JSON",
    "layout layout number.json": "number.json holds no layouts; write [{",
    "layout layout nowhere.json": "there is no file nowhere.json",
    "sample class_label --class People --class Smilies --batch 1": "unknown class 'Smilies'; did you mean 'Smileys'?",
    "sample masked_image": "cannot do without; add --image IMAGE --mask PNG",
    "sample text --height 20 --width 24": "height 20 is no multiple of the 8 pixels that this model works in; take",
    "sample text --height 32768 --width 32768": "32768 x 32768 has 1073.7 megapixels, 16.8 are the most",
    "sample text --window 20": "a window of 20 pixels is no multiple of the 8",
    "edit text image.png --image image.png --mask other.png": "what is to lie on one another differs in size",
}


@pytest.mark.parametrize("out", ["image.png", "text.png"])
def test_what_is_asked_with_is_not_written_over(
    out: str, fails: Line, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").mkdir()
    image = shutil.copy(asked / "image.png", tmp_path / ("image.png" if out == "image.png" else "text/0000.png"))
    before = Path(image).read_bytes()
    assert "would be written over by a result" in fails("edit", asked / "text", image, "--out", tmp_path / out)
    assert Path(image).read_bytes() == before


@pytest.mark.parametrize("line", ASKED)
def test_what_is_asked(line: str, fails: Line, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(asked)
    assert ASKED[line] in fails(*line.split(), "-n", 2, "--steps", 1, "--out", tmp_path / "out.png")
    assert not list(tmp_path.iterdir())


OVERRIDES = {
    "trainer.steps=abc": "trainer.steps = 'abc' is not accepted: expected a whole number",
    "trainer.steps=-1": "steps must be a whole number from 1, got -1",
    "trainer.steps=1.5": "trainer.steps = 1.5 is not accepted: expected a whole number",
    "trainer.steps=true": "trainer.steps = true is not accepted: expected a whole number",
    "trainer.steps=null": "trainer.steps = null is not accepted: expected a whole number",
    "trainer.steps=": "trainer.steps = null is not accepted",
    "trainer.stpes=1": "unknown key in trainer 'stpes'; did you mean 'steps'?",
    "trainer.max_seconds=yes": "expected a finite number or null",
    "trainer.precision=fp8": "precision must be 'auto', 'fp32' or 'bf16', got 'fp8'",
    "trainer=3": "trainer = 3 is not accepted: expected a mapping with the keys steps, batch_size",
    "tariner.steps=1": "unknown key 'tariner'; did you mean 'trainer'",
    "steps": "'steps' is no override; write KEY=VALUE",
    "a..b=1": "'a..b=1' is no override",
    "data.side=63": "data.side = 63 is not a multiple of the autoencoder's factor 2; take 62 or 64",
    "data.side=0": "data.side must lie in 8 ... 4096 pixels, got 0",
    "data.held_out=.nan": "nan is no finite number",
    "optimizer.lr=.inf": "inf is no finite number",
    "optimizer.lr=1e999": "inf is no finite number",
    "optimizer.lr=nan": "optimizer.lr = 'nan' is not accepted: expected a finite number",
    "optimizer.betas=[0.9]": "expected a list of 2 (a finite number, a finite number)",
    "optimizer.decay=cosin": "unknown decay 'cosin'; did you mean 'cosine'?",
    "optimizer.decay=curve.cosine": "optimizer.decay must be a decay, got curve.cosine",
    "optimizer.decay=/etc/passwd": "unknown decay '/etc/passwd'",
    "network.channels=0": "channels must lie in 1 ... 8192, got 0",
    "network.multipliers=[500,512]": "network would have 18,",
    "network.attention=true": "expected a list (each true or false)",
    "drop=1": "drop must lie in [0, 1), got 1.0",
    "schedule.curve=linaer": "unknown curve 'linaer'; did you mean 'linear'",
    "schedule.curve=curves/mine.py": "schedule.curve must be a curve, got curves/mine.py",
    "schedule.curve=./mine.txt": "schedule.curve must be a curve, got ./mine.txt",
    "schedule.curve=null": "schedule.curve = null is not accepted: expected a mapping with a 'type'",
    "schedule.curve=!!python/name:os.system": "builds an object; write text, numbers, lists and mappings only",
    "preview.sampler=ddmi": "unknown sampler 'ddmi'",
    "conditioners.caption.width=17": "width 17 must be a multiple of heads 2",
    "conditioners.caption.width=32": "conditioners must share one token width, got [16, 32]; change the width of one",
    "conditioners.caption.vocabulary=-1": "vocabulary must lie in 1 ...",
    "conditioners.caption.drop=2": "drop must lie in [0, 1], got 2.0",
    "conditioners.class.width=-1": "width must lie in 1 ...",
    "conditioners={a b: {type: conditioner.text}}": "'a b' cannot name a conditioner",
    "conditioners={forward: {type: conditioner.text}}": "'forward' cannot name a conditioner",
    "autoencoder=nowhere": "there is no nowhere; name a run directory",
    "autoencoder=null": "autoencoder = null is not accepted: expected text",
}


FIRST_STAGE = {
    "autoencoder.channels=0": "channels must lie in 1 ... 1024, got 0",
    "autoencoder.channels=1000000000000": "channels must lie in 1 ... 1024",
    "autoencoder.network.image_channels=1": "image_channels must be 3, as pictures are RGB, got 1",
    "perceptual=lpisp": "unknown perceptual 'lpisp'; did you mean 'lpips'",
    "perceptual.weights=x": "unknown key in perceptual 'weights'",
    "perceptual={type: perceptual.lpips, weights: w}": "there is no file w with the weights of VGG16",
    "autoencoder=pixels": "autoencoder must be a LatentAutoencoderConfig, got autoencoder.pixels",
    "autoencoder.network.multipliers=[1,2,4,4,4,4]": "not a multiple of the autoencoder's factor 32; take 32",
    "autoencoder.network={channels: 512, multipliers: [2,16], blocks: 16}": "GiB of memory here; take fewer channels",
    "autoencoder.bottleneck=finite_scalar": "4 levels were given for 2 latent channels; give one for each",
    "discriminator.layers=0": "layers must lie in 1 ... 8, got 0",
    "discriminator.layers=3": "data.side must be at least 24 pixels for a discriminator of 3 layers, got 16",
    "loss.penalty=lcam": "unknown critic_penalty 'lcam'; did you mean 'lecam'",
    "loss.penalty.weight=1": "expected a critic_penalty (lecam, r1) or null",
    "optimizer.spikes=none": "expected a mapping with the keys sigmas, window, most, least or null",
    "loss.adversarial=hing": "unknown adversarial 'hing'; did you mean 'hinge'",
    "trainer.batch_size=0": "batch_size must be a whole number from 1, got 0",
}


ALL_OVERRIDES = [("diffusion", w, m) for w, m in OVERRIDES.items()] + [
    ("autoencoder", w, m) for w, m in FIRST_STAGE.items()
]


@pytest.mark.parametrize(("stage", "word", "message"), ALL_OVERRIDES)
def test_overrides(stage: str, word: str, message: str, fails: Line, configs: Configs, tmp_path: Path) -> None:
    config = {"diffusion": configs.diffusion, "autoencoder": configs.autoencoder}[stage]
    assert message in fails("train", stage, "--config", config, "--out", tmp_path / "run", word)
    assert not (tmp_path / "run").exists()


def test_too_large_a_batch(fails: Line, configs: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def advance(self: Trainer, batch: object, step: int) -> object:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Trainer, "_advance", advance)
    command = ("train", "autoencoder", "--config", configs.autoencoder, "--out", tmp_path / "run")
    assert "not enough memory; work on less at a time" in fails(*command)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{k}: &{k} [{','.join([f'*{chr(ord(k) - 1)}'] * 9)}]\n" for k in "bcdefg"
)
YAML = {
    "not a mapping": (b"- a\n", "must hold a mapping (key: value), got a list"),
    "a number": (b"5", "must hold a mapping (key: value), got a number"),
    "a billion laughs": (LAUGHS.encode(), "more than 100,000 values"),
    "an object": (b"trainer: !!python/object/apply:os.system ['touch hacked']", "builds an object"),
    "a key twice": (b"trainer: {steps: 1, steps: 2}", "key 'steps' is given twice"),
    "not YAML": (b"a: b: c", "is not accepted as YAML"),
    "tabs": (b"trainer:\n\tsteps: 3\n", "line 2"),
    "deep": (b"[" * 10_000, "nested deeper than 32"),
    "binary": (b"\xff\xfe\x00\x01", "is no UTF-8 text"),
    "huge": (b"x: " + b"a" * (2 << 20), "more than the 1,048,576 bytes allowed"),
    "a long number": (b"drop: " + b"9" * 5000, "is not accepted as YAML"),
    "a date": (b"data: {source: !!timestamp 2024-01-01}", "has no place in a config"),
    "an unknown key": (b"trainer: {stpes: 1}", "unknown key in trainer 'stpes'; did you mean 'steps'"),
    "no kind": (b"trainer: [1]", "trainer = [1] is not accepted: expected a mapping with the keys steps"),
    "no character": (b'data: {source: "a\\0b"}', "there is no folder"),
}


@pytest.mark.parametrize("what", YAML)
def test_config_files(what: str, fails: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_bytes(YAML[what][0])
    assert YAML[what][1] in fails(
        "train", "diffusion", "--autoencoder", "pixels", "--config", "run.yaml", "data.side=8"
    )
    assert [f.name for f in tmp_path.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_config_that_is_no_file(name: str, fails: Line, tmp_path: Path) -> None:
    assert "cannot be read" in fails("train", "diffusion", "--data", "x", "--config", tmp_path / name)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_folders_without_pictures(fails: Line, configs: Configs, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a cat")
    paint(tmp_path / "single", 1)
    for name, message in {
        "missing": "there is no folder",
        "empty": "holds no pictures; looked for .png",
        "texts": "holds no pictures; looked for .png",
        "single": "holds one picture; training and measuring need at least two",
        "texts/a.txt": "is a file; name the folder that holds the pictures",
    }.items():
        words = ("train", "autoencoder", "--config", configs.autoencoder, "--data", tmp_path / name)
        assert message in fails(*words, "--out", tmp_path / "run")
        if name != "single":
            assert message in fails("data", "show", tmp_path / name)
    assert not (tmp_path / "run").exists()


def damaged(folder: Path) -> dict[str, Change]:
    return {
        "text": lambda p: p.write_text("this is no picture"),
        "nothing": lambda p: p.write_bytes(b""),
        "cut": lambda p: p.write_bytes((folder / "01.png").read_bytes()[:50]),
        "bomb": lambda p: bomb(p, 60_000, 60_000),
        "larger": lambda p: bomb(p, 2**31 - 1, 2**31 - 1),
        "link": lambda p: (p.unlink(), p.symlink_to("/etc/hostname")),
    }


def test_a_few_bad_pictures_are_named_and_skipped(
    configs: Configs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = paint(tmp_path / "pictures", 61)
    for k, damage in enumerate(damaged(folder).values()):
        damage(folder / f"{10 * k:02d}.png")
    assert main(["data", "show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "55 readable of 61" in shown and "megapixels" in shown
    out = tmp_path / "run"
    words = ["train", "autoencoder", "--config", str(configs.autoencoder), "--data", str(folder), "--out", str(out)]
    assert main([*words, "data.held_out=0", "trainer.preview_every=0", "trainer.steps=30"]) == 0
    assert "6 pictures could not be used" in " ".join(capsys.readouterr().out.split())
    assert (out / "model" / "manifest.json").is_file()
    words = ["train", "diffusion", "--config", str(configs.diffusion), "--data", str(folder), "--out", f"{out}2"]
    for steps in (2, 3):  # the second time, the latents are there already
        assert main([*words, "data.held_out=0", "trainer.preview_every=0", f"trainer.steps={steps}"]) == 0
        assert "6 pictures could not be used" in " ".join(capsys.readouterr().out.split())


def test_many_bad_pictures_abort(fails: Line, configs: Configs, tmp_path: Path) -> None:
    folder = paint(tmp_path / "pictures", 12)
    for name in ("00", "01", "02"):
        (folder / f"{name}.png").write_text("no picture")
    words = ("train", "autoencoder", "--config", configs.autoencoder, "--data", folder, "data.held_out=0")
    told = fails(*words, "--out", tmp_path / "run")
    assert (
        "of 12 pictures cannot be used, more than 10%; remove or replace them (`calotype data show` lists all)" in told
    )
    assert "is no PNG, JPEG, WEBP, BMP, GIF picture or is damaged" in told
    assert not (tmp_path / "run").exists()
    shutil.rmtree(folder)
    (paint(folder, 1) / "00.png").write_text("no picture")
    assert "none of the pictures" in fails("data", "show", folder, "--out", tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_unusual_pictures_are_read(world: World, tmp_path: Path) -> None:
    folder, out = tmp_path / "odd", tmp_path / "out"
    folder.mkdir()
    frames = {"save_all": True, "append_images": [Image.new("RGB", (20, 20), "red")]}
    Image.fromarray((np.arange(400).reshape(20, 20) * 160).astype(np.uint16)).save(folder / "16-bit.png")
    Image.new("CMYK", (20, 20)).save(folder / "cmyk.jpg")
    for name in ("moving.gif", "moving.png", "moving.webp"):
        Image.new("RGB", (20, 20)).save(folder / name, **frames)
    Image.new("1", (20, 20)).save(folder / "one-bit.png")
    Image.new("LA", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (1, 300)).save(folder / "line.png")
    assert main(["data", "show", str(folder)]) == 0
    assert main(["reconstruct", str(world.autoencoder), str(folder), "--out", str(out)]) == 0
    assert len(list(out.iterdir())) == 8 + 1  # and their sheet


METADATA: dict[str, tuple[bytes, str]] = {
    "no JSON": (b'{"file_name": "00.png"', "line 1 is not JSON"),
    "no object": (b"[]", "line 1 has no 'file_name'; write {"),
    "no name": (b'{"caption": "a cat"}', "line 1 has no 'file_name'; write {"),
    "no file": (b'\n{"file_name": "cat.png"}', "line 2: there is no file 'cat.png'; correct the name"),
    "outside": (b'{"file_name": "../b/00.png"}', "'../b/00.png' lies outside the folder; give names inside it"),
    "absolute": (b'{"file_name": "/etc/passwd"}', "lies outside the folder"),
    "link": (b'{"file_name": "link.png"}', "'link.png' lies outside the folder"),
    "caption": (b'{"file_name": "00.png", "caption": ["a"]}', "'caption' is ['a']; write text or a number"),
    "label": (b'{"file_name": "00.png", "label": true}', "'label' is True; write text or a number"),
    "not UTF-8": (b'\xff{"file_name": "00.png"}', "line 1 is not JSON"),
    "nothing": (b"\n", "is empty; fill it, or remove it"),
    "deep": (b"[" * 100_000, "line 1 is not JSON"),
    "odd name": (b'{"file_name": "\\u0000"}', "there is no file"),
    "long name": (b'{"file_name": "' + b"a" * 5000 + b'"}', "there is no file"),
    "folder": (b'{"file_name": "."}', "'.' is no ordinary file; name one"),
}


@pytest.mark.parametrize("what", METADATA)
def test_metadata(what: str, fails: Line, tmp_path: Path) -> None:
    folder = paint(tmp_path / "pictures", 2)
    (folder / "link.png").symlink_to("/etc/hostname")
    (folder / "metadata.jsonl").write_bytes(METADATA[what][0])
    assert METADATA[what][1] in fails("data", "show", folder)


def test_metadata_that_is_odd_but_clear(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = paint(tmp_path / "[bold]pictures[/nope]", 2)
    rows = [b'{"file_name": "00.png", "caption": 5}', b'{"file_name": "00.png", "caption": "\xff"}']
    rows += [b'{"file_name": "01.png", "caption": null, "label": 3}']
    (folder / "metadata.jsonl").write_bytes(b"\n".join(rows))
    assert main(["data", "show", str(folder), "--out", str(tmp_path / "[/sheet].png")]) == 0
    assert "3 readable of 3" in capsys.readouterr().out


def test_reconstruct(fails: Line, world: World, tmp_path: Path) -> None:
    good = paint(tmp_path / "pictures", 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    bomb(tmp_path / "bomb.png", 60_000, 60_000)
    for name, message in {
        "missing.png": "there is no picture",
        "empty": "no pictures in",
        "text.png": "is no PNG, JPEG, WEBP, BMP, GIF picture or is damaged; remove or replace it",
        "bomb.png": "megapixels; make it smaller",
    }.items():
        words = ("reconstruct", world.autoencoder, good, tmp_path / name, "--out", tmp_path / "out")
        if name != "empty":
            assert message in fails(*words)
        assert message in fails("reconstruct", world.autoencoder, tmp_path / name, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "File exists" in fails("reconstruct", world.autoencoder, good, "--out", tmp_path / "text.png")


# --- runs and models --------------------------------------------------------------------------------------------------


EVALUATED = {
    "nowhere": "there is no folder nowhere; name a folder of pictures, or embedded:NAME",
    "embedded:fashon": "unknown embedded data set 'fashon'; did you mean 'fashion'",
    "single": "single holds 1 picture; measuring needs at least two",
    "damaged": "of 20 pictures cannot be used, more than 10%",
    "pictures --side 33": "--side 33 does not fit: height 33 is not a multiple of the autoencoder's factor 2",
    "pictures --side 8": "8 x 8 pixels are too few to measure on, at least 11 are needed",
    "pictures --side 14 --perceptual lpips": "14 x 14 pixels are too few to measure on, at least 16",
    "pictures --perceptual lpips": "no file weights/vgg16.safetensors with the weights of VGG16, which LPIPS needs",
    "pictures --perceptual lpips --weights w": "there is no file w with the weights of VGG16",
    "pictures --perceptual lpips --weights text": "is no safetensors file",
    "pictures --out text": "text is a file; name a folder with --out",
}


@pytest.mark.parametrize("words", EVALUATED)
def test_evaluate(words: str, fails: Line, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALOTYPE_WEIGHTS", "weights")
    for name, n in {"pictures": 3, "single": 1, "damaged": 20}.items():
        paint(tmp_path / name, n)
    for k in range(5):
        (tmp_path / "damaged" / f"{k:02d}.png").write_text("no picture")
    Path("text").write_text("no weights")
    assert EVALUATED[words] in fails("evaluate", world.autoencoder, "--data", *words.split())
    assert not (world.autoencoder / "evaluation").exists()


def test_evaluate_needs_a_model(fails: Line, tmp_path: Path) -> None:
    folder = paint(tmp_path / "pictures", 3)
    assert "holds no finished model" in fails("evaluate", folder, "--data", folder)


def test_a_run_keeps_its_config(fails: Line, world: World, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(to_yaml(tiny_diffusion(world.pictures, str(world.autoencoder))))
    before = sorted(f for f in world.diffusion.rglob("*") if f.name != "run.lock")
    told = fails("train", "diffusion", "--config", config, "--out", world.diffusion, "drop=0.2")
    assert "was started with another config (drop: was 0.1, now 0.2); use the old values to resume it, or" in told
    assert sorted(f for f in world.diffusion.rglob("*") if f.name != "run.lock") == before


def test_a_run_keeps_its_autoencoder(fails: Line, world: World, tmp_path: Path) -> None:
    """The same path, but what lies there has other statistics, or has gone on training."""
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(world.autoencoder, first)
    (tmp_path / "run.yaml").write_text(to_yaml(tiny_diffusion(world.pictures, str(first), 1)))
    words = ("train", "diffusion", "--config", tmp_path / "run.yaml", "--out", second)
    assert main([str(w) for w in words]) == 0
    trained = (second / "model" / "denoiser.safetensors").read_bytes()
    assert main([str(w) for w in words]) == 0
    assert (second / "model" / "denoiser.safetensors").read_bytes() == trained
    cached = (second / "latents" / "index.json").read_bytes()
    renormalise(first / "model")
    (first / "model" / "manifest.json").unlink()
    files._seal(first / "model")
    told = fails(*words, "trainer.steps=2")
    assert "second was started with other inputs (autoencoder: was " in told and "name another run directory" in told
    assert (second / "latents" / "index.json").read_bytes() == cached  # nothing was encoded again
    assert (second / "model" / "denoiser.safetensors").read_bytes() == trained


def test_a_run_is_trained_by_one_process(fails: Line, configs: Configs, tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run", {}):
        told = fails("train", "autoencoder", "--config", configs.autoencoder, "--out", tmp_path / "run")
    assert f"is in use by process {os.getpid()}; wait until it ends, or name another run directory" in told


def test_wishes_that_a_model_does_not_take(fails: Line, world: World, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    config = replace(tiny_diffusion(world.pictures, "pixels", 1), conditioners={})
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    words = ["--config", str(tmp_path / "run.yaml"), "conditioners.caption=null", "conditioners.class=null"]
    assert main(["train", "diffusion", *words, "--out", str(plain)]) == 0
    told = fails("sample", plain, "--caption", "a cat")
    assert "not trained with --caption: it takes no condition at all, which fits the verbs sample, edit and" in told
    assert "not trained with --class" in fails("sample", plain, "--class", "cats")
    told = fails("sample", world.diffusion, "--class", "circle", "--out", tmp_path / "x.png")
    assert "unknown class 'circle'; did you mean 'circles'?" in told
    assert not (tmp_path / "x.png").exists() and not (tmp_path / "x").exists()


def test_hints_name_options_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    offered = set()
    trains = ("train autoencoder", "train diffusion", "train classifier")
    for verb in ("sample", "edit", "inpaint", *trains, "reconstruct", "evaluate", "study", "demo", "data show"):
        with contextlib.suppress(SystemExit):
            main([*verb.split(), "--help"])
        offered |= set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    rooms = [f for f in Path(calotype.__file__).parent.rglob("*.py") if f.parent.name != "report"]  # which holds CSS
    for file in rooms:
        text = re.sub(r"--[^>\n]+-->", "", file.read_text())  # arrows of docstrings
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z](?!-)\b", text):
            assert option in offered | {"--version", "--debug", "--no-deps"}, f"{file.name}: {option}"


def test_where_samples_cannot_be_written(fails: Line, world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "sheet").write_text("")
    words = ("sample", world.diffusion, "-n", 1, "--steps", 1, "--out")
    assert "Not a directory" in fails(*words, tmp_path / "file" / "sheet.png")
    assert "File exists" in fails(*words, tmp_path / "sheet.png")
    assert "File name too long" in fails(*words, tmp_path / f"{'x' * 300}.png")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["file", "sheet"]


def test_runs_that_are_none(fails: Line, configs: Configs, world: World, tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_text("{}")
    picture = world.pictures / "circles" / "00.png"
    for run in (unfinished, world.pictures, picture):
        for words in (
            ("sample", run),
            ("reconstruct", run, picture),
            ("train", "diffusion", "--config", configs.diffusion, "--autoencoder", run, "--out", tmp_path / "run"),
        ):
            assert "holds no finished model (no model/manifest.json); if it is a training run, run" in fails(*words)
    assert "holds a model of kind 'autoencoder', but 'latent-diffusion' is needed" in fails("sample", world.autoencoder)
    assert not (tmp_path / "run").exists()


def put(*path: str, value: Any) -> Change:
    """Change one key of a model's config.json."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        place = config
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


def weights(folder: Path) -> Path:
    return folder / "autoencoder.safetensors"


def flip(folder: Path, at: int) -> None:
    data = bytearray(weights(folder).read_bytes())
    data[at] ^= 4
    weights(folder).write_bytes(bytes(data))


def lead_out(folder: Path) -> None:
    outside = folder.parent.with_suffix(".safetensors")
    shutil.move(weights(folder), outside)
    weights(folder).symlink_to(outside)


def spoil(folder: Path) -> None:
    file = folder / "denoiser.safetensors"
    write_tensors(file, {name: torch.full_like(value, float("nan")) for name, value in read_tensors(file).items()})


def renormalise(folder: Path) -> None:
    """The same autoencoder, its latents measured on other pictures."""
    tensors = read_tensors(weights(folder))
    tensors["stats.std"] *= 1.01
    write_tensors(weights(folder), tensors)


def exchange(**change: Any) -> Change:
    """Put another autoencoder, sound in itself, in the place of the one that the denoiser was trained with."""

    def apply(folder: Path) -> None:
        config = tiny_autoencoder(folder).autoencoder
        other = replace(config, **{k: v(config) if callable(v) else v for k, v in change.items()})
        torch.manual_seed(5)
        write_tensors(weights(folder), other.build().state_dict())
        put("autoencoder", value=to_plain(other))(folder)

    return apply


def manifest(change: Callable[[dict[str, Any]], object]) -> Change:
    """Change the manifest and give it a hash that fits, as only an attacker would."""

    def apply(folder: Path) -> None:
        plain = json.loads((folder / "manifest.json").read_text())
        del plain["self"]
        change(plain["files"])
        text = files._manifest_text(plain | {"self": files._own_hash(plain)})
        (folder / "manifest.json").write_bytes(text)

    return apply


DAMAGED: dict[str, tuple[Change, str]] = {
    "a missing file": (lambda m: weights(m).unlink(), "autoencoder.safetensors is missing; copy the folder again"),
    "a cut file": (lambda m: os.truncate(weights(m), 1000), "has 1,000 bytes instead of"),
    "a flipped bit": (lambda m: flip(m, -5), "autoencoder.safetensors is damaged: its content disagrees"),
    "no manifest": (lambda m: (m / "manifest.json").unlink(), "holds no finished model"),
    "half a manifest": (lambda m: os.truncate(m / "manifest.json", 99), "manifest.json is damaged"),
    "a link to elsewhere": (lead_out, "names 'autoencoder.safetensors', which lies outside the folder"),
    "names elsewhere": (manifest(lambda f: f.update({"../../x": {"size": 1, "sha256": ""}})), "outside the folder"),
    "absolute names": (manifest(lambda f: f.update({"/etc/hosts": {"size": 1, "sha256": ""}})), "outside the folder"),
    "names that are none": (manifest(lambda f: f.update({"\0": {"size": 1, "sha256": ""}})), "outside the folder"),
    "a manifest that says little": (manifest(lambda f: f.update({"config.json": 5})), "does not say what"),
}
HOSTILE: dict[str, tuple[Change, str]] = {
    "a cut file": (lambda m: os.truncate(weights(m), weights(m).stat().st_size - 100), "damaged safetensors header"),
    "another name": (lambda m: flip(m, 20), "does not fit the configured LatentAutoencoder"),
    "a pickle": (lambda m: weights(m).write_bytes(pickle.dumps({"a": 1})), "is a pickle, not safetensors; pickles can"),
    "a torch file": (lambda m: torch.save({}, weights(m)), "is a zip archive"),
    "nothing": (lambda m: weights(m).write_bytes(b""), "is no safetensors file"),
    "a list": (lambda m: (m / "config.json").write_text("[]"), "is not a Calotype model config"),
    "no JSON": (lambda m: (m / "config.json").write_text("{"), "config.json is damaged or no JSON"),
    "another kind": (put("kind", value="x"), "holds a model of kind 'x'"),
    "the future": (put("format", value=99), "has format 99, this version reads 2; train it again"),
    "an unknown key": (
        put("autoencoder", "foo", value=1),
        "unknown key in autoencoder of LatentAutoencoderConfig 'foo'",
    ),
    "terabytes": (put("autoencoder", "channels", value=10**12), "channels must lie in 1 ... 1024"),
    "wide": (put("autoencoder", "network", "channels", value=4096), "holds fewer weights than the"),
    "zero": (put("autoencoder", "channels", value=0), "channels must lie in 1 ... 1024"),
    "less": (put("autoencoder", "channels", value=-1), "channels must lie in 1 ... 1024"),
    "endless": (put("autoencoder", "network", "blocks", value=10**9), "blocks must lie in 1 ... 16"),
    "code": (put("autoencoder", value={"type": "os.system"}), "unknown kind of component 'os'"),
    "a sampler": (put("autoencoder", value={"type": "sampler.ddim"}), "does not describe a model"),
    "a number": (put("autoencoder", value=5), "autoencoder must be a mapping, got int"),
}
WHOLE: dict[str, tuple[Change, str]] = {
    "side": (put("side", value=10**9), "side must lie in 1 ... 4096 pixels"),
    "odd side": (put("side", value=15), "15 is not a multiple of the autoencoder's factor 2"),
    "text for a number": (put("side", value="x"), "does not describe a model"),
    "no conditioner": (put("conditioner", value=5), "does not describe a model"),
    "no tokenizer": (lambda m: (m / "assets.json").write_text("{}"), "tokenizer cannot be read"),
    "assets": (lambda m: (m / "assets.json").write_text("[]"), "does not describe a model"),
    "unknown schedule": (put("denoiser", "schedule", "curve", value={"type": "curve.x"}), "unknown curve 'x'; known:"),
    "wider": (put("denoiser", "network", "channels", value=4000), "holds fewer weights than the"),
    "other weights": (
        exchange(),
        "its weights or the statistics of its latents differ; put",
    ),
    "other statistics": (renormalise, "its weights or the statistics of its latents differ; put back"),
    "other channels": (
        exchange(channels=3),
        "was trained with channels 2, but its autoencoder has channels 3; put back",
    ),
    "another factor": (
        exchange(network=lambda c: replace(c.network, multipliers=(1, 2, 2))),
        "was trained with factor 2, but its autoencoder has factor 4; put back",
    ),
    "other record": (put("latents", "channels", value=3), "does not make the 3 channels that `latents` says"),
    "no record": (put("latents", value=None), "does not describe a model: latents must be a mapping"),
    "not a number": (spoil, "a picture holds NaN: the weights are broken"),
}


@pytest.mark.parametrize("what", [*DAMAGED, *(f"sealed: {w}" for w in HOSTILE)])
def test_damaged_and_hostile_runs(what: str, fails: Line, configs: Configs, world: World, tmp_path: Path) -> None:
    """`sealed`: with a manifest that fits, so that nothing but the reading itself protects."""
    change, message = HOSTILE[what.removeprefix("sealed: ")] if what.startswith("sealed") else DAMAGED[what]
    for stage in (world.autoencoder, world.diffusion):
        run = tmp_path / stage.name
        shutil.copytree(stage / "model", run / "model")
        change(run / "model")
        if what.startswith("sealed"):
            (run / "model" / "manifest.json").unlink()
            files._seal(run / "model")
    train = ("train", "diffusion", "--config", configs.diffusion, "--out", tmp_path / "run")
    assert message in fails(*train, "--autoencoder", tmp_path / world.autoencoder.name)
    told = fails("sample", tmp_path / world.diffusion.name, "-n", 1, "--steps", 1, "--out", tmp_path / "x.png")
    assert message in told
    assert not (tmp_path / "run").exists() and not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("what", WHOLE)
def test_hostile_models(what: str, fails: Line, world: World, tmp_path: Path) -> None:
    shutil.copytree(world.diffusion / "model", tmp_path / "run" / "model")
    change, message = WHOLE[what]
    change(tmp_path / "run" / "model")
    (tmp_path / "run" / "model" / "manifest.json").unlink()
    files._seal(tmp_path / "run" / "model")
    assert message in fails("sample", tmp_path / "run", "-n", 1, "--steps", 1, "--out", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists() and not (tmp_path / "x").exists()


# --- the disk and the end ---------------------------------------------------------------------------------------------


def full(*args: object, **more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_while_training(
    fails: Line, configs: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "autoencoder", "--config", configs.autoencoder, "--out", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        assert "free some space and try again" in fails(*words)
    left = [f for f in (tmp_path / "run").rglob("*") if ".tmp-" in f.name or f.name.startswith(".")]
    assert not left and not (tmp_path / "run" / "model").exists()
    assert main([str(w) for w in words]) == 0


def test_full_disk_while_sampling(fails: Line, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)
    told = fails("sample", world.diffusion, "-n", 1, "--steps", 1, "--out", tmp_path / "x.png")
    assert "no room left to write" in told and "free some space and try again" in told
    assert not [f for f in tmp_path.rglob("*") if f.is_file()]
    told = fails("data", "show", world.pictures, "--out", tmp_path / "sheet.png")
    assert "no room left to write" in told and not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_read_only_place(
    number: int, fails: Line, configs: Configs, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *args: object, **more: object) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    out = tmp_path / "run"
    for words in (
        ("train", "autoencoder", "--config", configs.autoencoder, "--out", out),
        ("train", "diffusion", "--config", configs.diffusion, "--out", out),
        ("sample", world.diffusion, "-n", 1, "--steps", 1, "--out", out / "x.png"),
        ("reconstruct", world.autoencoder, world.pictures / "circles", "--out", out),
        ("data", "show", world.pictures, "--out", out / "x.png"),
    ):
        assert f"{os.strerror(number)}; check the path and its permissions" in fails(*words)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_says_how_to_go_on(
    number: signal.Signals,
    code: int,
    configs: Configs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    advance = Trainer._advance

    def stopped(self: Trainer, batch: Any, step: int) -> Any:
        if step == 1:
            signal.raise_signal(number)
        return advance(self, batch, step)

    run = tmp_path / "a run"
    words = ["train", "autoencoder", "--config", str(configs.autoencoder), "--out", str(run), "trainer.steps=4"]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_advance", stopped)
        assert main(words) == code
    told = capsys.readouterr().err
    assert f"go on with:\n  calotype train autoencoder --config {configs.autoencoder} --out '{run}' trainer" in told
    (saved,) = (run / "checkpoints").iterdir()
    assert saved.name == "step-00000002" and verify_directory(saved)
    assert main(words) == 0
    assert "resuming at step 2 of 4" in capsys.readouterr().err


def test_ctrl_c_in_a_process_of_its_own(configs: Configs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", "autoencoder", "--config", str(configs.autoencoder), "--out", str(run), "trainer.steps=1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "calotype.cli", *words, "trainer.save_every=1000000", "trainer.preview_every=0"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if line.startswith("step "):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "stopped and saved; go on with:\n  calotype train autoencoder" in rest and "Traceback" not in rest
    assert len(list((run / "checkpoints").glob("step-*"))) == 1
