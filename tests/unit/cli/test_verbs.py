"""Every verb, with its job replaced by a recorder: what reaches the job, and what is said afterwards."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import calotype.recipes
from calotype.cli import main
from calotype.conditioning.conditioner import ConditionerConfig
from calotype.conditioning.low_resolution import LowResolutionConfig
from calotype.diffusion.grids import UniformGrid
from calotype.diffusion.guidance import ClassifierFree
from calotype.diffusion.samplers import DDIM, DPMpp2M
from calotype.generation.generate import Plan
from calotype.jobs.asked import Asked
from calotype.jobs.sample import Sampled
from calotype.recipes import recipe


@dataclass(frozen=True)
class Data:
    source: str = ""
    side: int = 64


@dataclass(frozen=True)
class AutoencoderRun:
    data: Data = field(default_factory=Data)
    lr: float = 1e-3


@dataclass(frozen=True)
class DiffusionRun:
    data: Data = field(default_factory=Data)
    autoencoder: str = ""
    lr: float = 1e-3
    conditioners: Mapping[str, ConditionerConfig] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassifierRun:
    data: Data = field(default_factory=Data)
    autoencoder: str = ""


@pytest.fixture(autouse=True)
def _recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    calotype.recipes.recipes()  # the real ones, so that they are not imported into the empty table
    monkeypatch.setattr(calotype.recipes, "_recipes", {})

    @recipe("small", kind="autoencoder", default=True)
    def small() -> AutoencoderRun:
        """A small one.

        Numbers from nowhere."""
        return AutoencoderRun()

    @recipe("little", kind="autoencoder")
    def little() -> AutoencoderRun:
        """A little one."""
        return AutoencoderRun()

    @recipe("large", kind="autoencoder", accelerator=True)
    def large() -> AutoencoderRun:
        """A large one."""
        return AutoencoderRun(Data(side=256))

    @recipe("words", kind="diffusion", default=True)
    def words() -> DiffusionRun:
        """Words to pictures."""
        return DiffusionRun()

    @recipe("larger", kind="diffusion")
    def larger() -> DiffusionRun:
        """Small pictures to large ones."""
        return DiffusionRun(conditioners={"low": LowResolutionConfig()})

    @recipe("names", kind="classifier", default=True)
    def names() -> ClassifierRun:
        """Classes of noise."""
        return ClassifierRun()


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def recorder(name: str) -> Any:
        def record(*args: Any, **kwargs: Any) -> Any:
            calls.append((name, args, kwargs))
            return MADE

        return record

    for module, names in {
        "demo": ["demo"],
        "train": ["train_autoencoder", "train_diffusion", "train_classifier"],
        "sample": ["sample"],
        "reconstruct": ["reconstruct"],
        "evaluate": ["evaluate"],
        "show": ["show_data"],
    }.items():
        fake = ModuleType(f"calotype.jobs.{module}")
        for name in names:
            setattr(fake, name, recorder(name))
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
    return calls


RUN = Path("runs/x")
MADE = Sampled(Path("o.png"), [], steps=20, guided=True)
SAMPLE = {"n": 16, "plan": Plan(), "seed": 0, "out": None, "name": "samples"}
FEW = SAMPLE | {"n": 4}
AS_IT_IS = Plan(guidance=ClassifierFree(1.0))
IMAGE, MASK, BOXES = Path("a b.png"), Path("m.png"), Path("boxes.json")
EVALUATE = {"side": None, "limit": None, "perceptual": "lite0", "weights": None, "out": None}


@pytest.mark.parametrize(
    ("line", "call", "following"),
    [
        ("demo", ("demo", (Path("runs/demo"), None), {}), "sample runs/demo --caption"),
        ("demo --out d --minutes 2.5", ("demo", (Path("d"), 2.5), {}), "sample d"),
        ("data show pictures", ("show_data", ("pictures", None), {}), "train autoencoder --data pictures"),
        ("data show 'my pictures' --out c.png", ("show_data", ("my pictures", Path("c.png")), {}), "'my pictures'"),
        (
            "train autoencoder --data pictures",
            ("train_autoencoder", (AutoencoderRun(Data("pictures")), Path("runs/small")), {}),
            "train diffusion --data pictures --autoencoder runs/small",
        ),
        (
            "train autoencoder --data 'a: b=[' --recipe large --out runs/x lr=1e-4 data.side=32",
            ("train_autoencoder", (AutoencoderRun(Data("a: b=[", 32), 1e-4), RUN), {}),
            "--autoencoder runs/x",
        ),
        (
            "train autoencoder lr=1e-4 --data x data.side=32 --out runs/x",
            ("train_autoencoder", (AutoencoderRun(Data("x", 32), 1e-4), RUN), {}),
            "train diffusion --data x",
        ),
        (
            "train autoencoder data.source=y",
            ("train_autoencoder", (AutoencoderRun(Data("y")), Path("runs/small")), {}),
            "train diffusion --data y",
        ),
        (
            "train diffusion --data p --autoencoder pixels lr=2",
            ("train_diffusion", (DiffusionRun(Data("p"), "pixels", 2.0), Path("runs/words")), {}),
            "sample runs/words",
        ),
        (
            "train diffusion --data p --autoencoder pixels --recipe larger --out runs/x",
            (
                "train_diffusion",
                (DiffusionRun(Data("p"), "pixels", conditioners={"low": LowResolutionConfig()}), RUN),
                {},
            ),
            "upscale runs/x IMAGE",
        ),
        (
            "train classifier --data p --autoencoder pixels",
            ("train_classifier", (ClassifierRun(Data("p"), "pixels"), Path("runs/names")), {}),
            "sample RUN --class NAME --classifier runs/names",
        ),
        ("sample runs/x", ("sample", (RUN, Asked()), SAMPLE), "sample runs/x -n 16 --seed 1"),
        (
            "sample runs/x --class cat --classifier runs/c --classifier-scale 2.5",
            (
                "sample",
                (RUN, Asked(classes=["cat"], classifier=Path("runs/c"), classifier_scale=2.5)),
                SAMPLE,
            ),
            "--class cat --classifier runs/c --classifier-scale 2.5 -n 16 --seed 1",
        ),
        (
            "sample runs/x --caption 'a red heart' --caption b --class cat --scale 1.5 --steps 9 --sampler ddim"
            " --grid uniform --seed 7 -n 4 --out o.png --batch 2",
            (
                "sample",
                (RUN, Asked(captions=["a red heart", "b"], classes=["cat"])),
                {
                    "n": 4,
                    "plan": Plan(DDIM(), UniformGrid(), ClassifierFree(1.5), 9, 2),
                    "seed": 7,
                    "out": Path("o.png"),
                    "name": "samples",
                },
            ),
            "--class cat --scale 1.5 --steps 9 --sampler ddim --grid uniform -n 4 --seed 8",
        ),
        (
            "sample runs/x --height 32 --width 64 --window 32 --image 'a b.png' --mask m.png --low-res a.png",
            (
                "sample",
                (RUN, Asked(height=32, width=64, image=IMAGE, mask=MASK, low_res=Path("a.png"))),
                SAMPLE | {"plan": Plan(window=32)},
            ),
            "--low-res a.png --image 'a b.png' --mask m.png --height 32 --width 64 --window 32 -n 16 --seed 1",
        ),
        (
            "edit runs/x 'a b.png' --strength 0.5 --caption cat sampler.eta=0.5",
            (
                "sample",
                (RUN, Asked(captions=["cat"], start=IMAGE, strength=0.5)),
                FEW | {"plan": Plan(DPMpp2M(eta=0.5)), "name": "edit"},
            ),
            "edit runs/x 'a b.png' sampler.eta=0.5 --strength 0.5 --caption cat -n 4 --seed 1",
        ),
        (
            "inpaint runs/x 'a b.png' m.png --renoised -n 2 --seed 3",
            (
                "sample",
                (RUN, Asked(image=IMAGE, mask=MASK, renoised=True)),
                FEW | {"n": 2, "seed": 3, "name": "inpaint"},
            ),
            "inpaint runs/x 'a b.png' m.png --renoised -n 2 --seed 4",
        ),
        (
            "upscale runs/x 'a b.png' --noise-level 0.25",
            (
                "sample",
                (RUN, Asked(low_res=IMAGE, noise_level=0.25)),
                SAMPLE | {"n": 1, "plan": AS_IT_IS, "name": "upscale"},
            ),
            "upscale runs/x 'a b.png' --noise-level 0.25 -n 1 --seed 1",
        ),
        (
            "synthesize runs/x m.png --scale 3",
            ("sample", (RUN, Asked(label_map=MASK)), FEW | {"name": "synthesize"}),
            "synthesize runs/x m.png --scale 3 -n 4 --seed 1",
        ),
        (
            "layout runs/x boxes.json",
            ("sample", (RUN, Asked(layout=BOXES)), FEW | {"name": "layout"}),
            "layout runs/x boxes.json -n 4 --seed 1",
        ),
        (
            f"sample runs/x --scale 3.14159265 --seed {2**63 - 1}",
            ("sample", (RUN, Asked()), SAMPLE | {"plan": Plan(guidance=ClassifierFree(3.14159265)), "seed": 2**63 - 1}),
            "sample runs/x --scale 3.14159265 -n 16 --seed 0",
        ),
        (
            "reconstruct runs/x a.png b.png --out o.png",
            ("reconstruct", (RUN, [Path("a.png"), Path("b.png")], Path("o.png")), {}),
            "--autoencoder runs/x",
        ),
        ("evaluate runs/x --data d", ("evaluate", (RUN, "d"), EVALUATE), "train diffusion --data DIR --autoencoder"),
        (
            "evaluate runs/x --data embedded:photos --side 32 -n 9 --perceptual lpips --weights w.safetensors --out o",
            (
                "evaluate",
                (RUN, "embedded:photos"),
                {"side": 32, "limit": 9, "perceptual": "lpips", "weights": Path("w.safetensors"), "out": Path("o")},
            ),
            "train diffusion --data DIR --autoencoder runs/x",
        ),
    ],
)
def test_what_reaches_the_job(
    line: str, call: tuple[Any, ...], following: str, jobs: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(line)) == 0
    assert jobs == [call]
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.strip().startswith("calotype ")
    assert following in last


def test_config_file(tmp_path: Path, jobs: list[Any]) -> None:
    (tmp_path / "run.yaml").write_text("lr: 5\ndata:\n  side: 8\n")
    assert main(["train", "autoencoder", "--data", "d", "--config", str(tmp_path / "run.yaml"), "lr=6"]) == 0
    assert jobs[0][1][0] == AutoencoderRun(Data("d", 8), 6.0)


def test_print_config_trains_nothing_and_reads_back(
    tmp_path: Path, jobs: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "diffusion", "--print-config", "--data", "1e3", "lr=1e-4"]) == 0
    text = capsys.readouterr().out
    assert text == "data:\n  source: '1e3'\n  side: 64\nautoencoder: ''\nlr: 0.0001\nconditioners: {}\n"
    assert jobs == []
    (tmp_path / "run.yaml").write_text(text)
    assert main(["train", "diffusion", "--config", str(tmp_path / "run.yaml"), "--autoencoder", "pixels"]) == 0
    assert jobs[0][1][0] == DiffusionRun(Data("1e3"), "pixels", 1e-4)


def test_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert "small" in out and "A small one." in out and "Words to pictures." in out
    titles = [line.strip() for line in out.splitlines() if line.startswith("calotype train")]
    assert titles == [
        "calotype train autoencoder: on two CPU cores",
        "calotype train diffusion: on two CPU cores",
        "calotype train classifier: on two CPU cores",
        "calotype train autoencoder: as published, for accelerators",
    ]
    assert out.index("small (default)") < out.index("little") < out.index("large")
    assert main(["recipes", "small"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("A small one.\n\nNumbers from nowhere.\n\ndata:\n  source: ''\n")
    assert "train autoencoder --data DIR --recipe small" in out


def test_components(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["components", "sampler"]) == 0
    out = capsys.readouterr().out
    assert "ddim" in out and "dpmpp2m" in out and "karras" not in out


MISTAKES = {
    "train autoencoder": "nothing says which pictures to train on; add --data FOLDER",
    "train diffusion --data d": "nothing says which autoencoder to use; add --autoencoder RUN",
    "train classifier --data d": "nothing says which latents to look at; add --for RUN",
    "train autoencoder --data d --recipe smal": "unknown recipe 'smal'; did you mean 'small'?",
    "train autoencoder --data d --recipe words": "recipe 'words' is for diffusion, not for autoencoder",
    "train autoencoder --data d rl=3": "unknown key 'rl'; did you mean 'lr'?",
    "train autoencoder --data d lr=fast": "lr = 'fast' is not accepted",
    "train autoencoder --data d lr": "'lr' is no override; write KEY=VALUE",
    "train autoencoder --data d --config none.yaml": "none.yaml cannot be read: No such file or directory",
    "recipes smll": "unknown recipe 'smll'; did you mean 'small'?",
    "components samplr": "unknown kind of component 'samplr'; did you mean 'sampler'",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_told_in_one_line(line: str, jobs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(line)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert MISTAKES[line] in told.err
    assert jobs == []


USAGE = {
    "smaple": "Did you mean 'sample'?",
    "train autoencodr": "Did you mean 'autoencoder'?",
    "data shwo": "Did you mean 'show'?",
    "demo --mintues 3": "--minutes",
    "demo --minutes much": "'--minutes'",
    "demo --minutes 0": "'--minutes'",
    "demo --minutes nan": "'--minutes'",
    "sample runs/x --scale inf": "inf is no finite number",
    "sample": "missing argument",
    "sample runs/x -n 0": "'-n'",
    "edit runs/x": "missing argument",
    "edit runs/x a.png --strength 1.5": "'--strength'",
    "inpaint runs/x a.png": "missing argument",
    "inpaint runs/x a.png m.png --mask m.png": "--mask",
    "sample runs/x --steps 0": "'--steps'",
    "sample runs/x extra": "extra",
    "sample runs/x --caption": "requires an argument",
    "reconstruct runs/x": "missing argument",
    "data show": "missing argument",
}


@pytest.mark.parametrize("line", USAGE)
def test_usage_errors_end_with_2(line: str, jobs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(line)) == 2
    told = capsys.readouterr()
    assert USAGE[line] in " ".join(told.err.split())
    assert "Traceback" not in told.err
    assert jobs == []
