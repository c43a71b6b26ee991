from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from calotype.config import Difference, apply_overrides, differences, merge, resolve, to_yaml
from calotype.errors import UnknownName, UserError
from calotype.plain_yaml import parse
from calotype.registry import Registry, to_plain


class Curve(Protocol):
    pass


curves: Registry[Curve] = Registry("test_curve")


@runtime_checkable
class Penalty(Protocol):
    weight: float


penalties: Registry[Penalty] = Registry("test_penalty", of=Penalty)


@penalties.register("strong")
@dataclass(frozen=True)
class Strong:
    weight: float = 1.0


@curves.register("cosine")
@dataclass(frozen=True)
class Cosine:
    low: float = -10.0
    high: float = 10.0
    shape: str = "round"


@curves.register("linear")
@dataclass(frozen=True)
class Linear:
    high: float = 5.0
    steps: int = 1000
    shape: tuple[int, ...] = (1, 2)


@curves.register("table")
@dataclass(frozen=True)
class Table:
    betas: tuple[float, ...]


@dataclass(frozen=True)
class Optimizer:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    name: str = "adam"


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Run:
    optimizer: Optimizer = field(default_factory=Optimizer)
    curve: Curve = field(default_factory=Cosine)
    clip: float | None = 1.0
    inner: Inner | None = None
    steps: int = 100
    flip: bool = True
    conditioners: Mapping[str, Curve] = field(default_factory=dict)
    penalty: Penalty | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be positive, got {self.steps}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Run()),
        (["optimizer.lr=1e-4"], Run(optimizer=Optimizer(lr=1e-4))),
        (["optimizer.betas=[0.5, 0.9]"], Run(optimizer=Optimizer(betas=(0.5, 0.9)))),
        (["optimizer.name=no"], Run(optimizer=Optimizer(name="no"))),
        (["clip=null"], Run(clip=None)),
        (["flip=false", "steps=7"], Run(flip=False, steps=7)),
        (["steps=1", "steps=2"], Run(steps=2)),
        (["inner.depth=3"], Run(inner=Inner(3))),
        # a place that may be empty is filled as any other is changed
        (["penalty=strong"], Run(penalty=Strong())),
        (["penalty=test_penalty.strong"], Run(penalty=Strong())),
        (["penalty.type=strong", "penalty.weight=2"], Run(penalty=Strong(2.0))),
        (["penalty={type: strong, weight: 3}"], Run(penalty=Strong(3.0))),
        (["penalty=strong", "penalty=null"], Run()),
        (["curve.low=-5"], Run(curve=Cosine(low=-5.0))),
        # another class: `high` means the same in both and stays, `shape` does not, `low` is gone
        (["curve.high=7", "curve.type=test_curve.linear"], Run(curve=Linear(high=7.0))),
        (["curve.type=linear", "curve.steps=10"], Run(curve=Linear(high=10.0, steps=10))),
        (["curve=linear"], Run(curve=Linear(high=10.0))),
        (["curve=cosine"], Run()),
        (["curve={type: linear, steps: 5}"], Run(curve=Linear(high=10.0, steps=5))),
        (["curve.type=table", "curve.betas=[0.1, 0.2]"], Run(curve=Table((0.1, 0.2)))),
        (["conditioners.caption.type=test_curve.linear"], Run(conditioners={"caption": Linear()})),
        (
            ["conditioners.a={type: test_curve.cosine}", "conditioners.a.low=1"],
            Run(conditioners={"a": Cosine(low=1.0)}),
        ),
        (["conditioners.a={type: test_curve.cosine}", "conditioners.a=null"], Run()),
        (["optimizer.name=a=b"], Run(optimizer=Optimizer(name="a=b"))),
    ],
)
def test_overrides(words: list[str], expected: Run) -> None:
    assert resolve(Run(), None, words) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optimzer.lr=1", "unknown key 'optimzer'; did you mean 'optimizer'"),
        ("optimizer.rl=1", "unknown key in optimizer 'rl'; did you mean 'lr'?"),
        ("inner.dept=1", "unknown key in inner of Inner 'dept'; did you mean 'depth'"),
        ("curve.lw=1", "unknown key in curve 'lw'; did you mean 'low'?"),
        ("curve.steps=1", "unknown key in curve 'steps'"),
        ("curve.type=linaer", "unknown test_curve 'linaer'; did you mean 'linear'"),
        ("curve=sampler.ddim", "curve must be a test_curve, got sampler.ddim"),
        ("curve=os.system", "curve must be a test_curve, got os.system"),
        ("conditioners.a.type=os.system", "unknown kind of component 'os'"),
        ("curve.type=table", "curve lacks the key 'betas'"),
        ("optimizer.lr=fast", "optimizer.lr = 'fast' is not accepted"),
        ("optimizer.lr=.nan", "override optimizer.lr is not accepted as YAML: nan is no finite number"),
        ("optimizer.lr=[1", "override optimizer.lr is not accepted as YAML"),
        ("optimizer.lr.x=1", "optimizer.lr = {'x': 1} is not accepted"),
        ("inner=3", "inner = 3 is not accepted: expected a mapping with the keys depth or null"),
        ("inner=none", "inner = 'none' is not accepted: expected a mapping with the keys depth or null"),
        ("penalty=srtong", "unknown test_penalty 'srtong'; did you mean 'strong'?"),
        ("penalty=sampler.ddim", "penalty must be a test_penalty, got sampler.ddim"),
        ("penalty.weight=3", "penalty = {'weight': 3} is not accepted: expected a test_penalty (strong) or null"),
        ("penalty=3", "penalty = 3 is not accepted: expected a test_penalty (strong) or null"),
        ("optimizer=adam", "optimizer = 'adam' is not accepted"),
        ("optimizer.betas=[1, 2, 3]", "optimizer.betas = [1, 2, 3] is not accepted"),
        ("steps=0", "steps must be positive, got 0"),
        ("steps=1.5", "steps = 1.5 is not accepted"),
        ("steps", "'steps' is no override; write KEY=VALUE"),
        ("=3", "is no override"),
        ("a..b=3", "is no override"),
        ("--steps=3", "unknown key '--steps'; did you mean 'steps'?"),
        ("__class__.x=1", "unknown key '__class__'"),
    ],
)
def test_mistaken_overrides_are_one_sentence(word: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(Run(), None, [word])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_then_words(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("optimizer:\n  lr: 1e-4\n  name: sgd\ncurve:\n  type: linear\nsteps: 5\n")
    assert resolve(Run(), path, ["steps=6", "curve.steps=9"]) == Run(
        optimizer=Optimizer(lr=1e-4, name="sgd"), curve=Linear(high=10.0, steps=9), steps=6
    )


def test_mistakes_in_a_file_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("optimizer:\n  rl: 1e-4\n")
    with pytest.raises(UserError, match=r"run\.yaml: unknown key in optimizer 'rl'; did you mean 'lr'\?"):
        resolve(Run(), path)


@pytest.mark.parametrize(
    "run",
    [
        Run(),
        Run(Optimizer(1e-5, (0.0, 0.999), "1e-4"), Linear(1.0, 3, (4,)), None, Inner(2), 1, False, {"no": Cosine()}),
        Run(optimizer=Optimizer(name="null\n: #'\" \t"), curve=Table((1e-300, 1e300))),
    ],
)
def test_printed_config_reads_back(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(run), encoding="utf-8")
    assert resolve(Run(), path) == run
    assert parse(to_yaml(run), "x") == to_plain(run)


def test_merge_and_overrides_leave_their_arguments_alone() -> None:
    plain = to_plain(Run())
    merge(plain, {"optimizer": {"lr": 5}, "curve": {"type": "linear"}}, Run)
    apply_overrides(plain, ["optimizer.lr=5", "curve=linear"], Run)
    assert plain == to_plain(Run())


def test_without_a_class_the_present_keys_are_the_known_ones() -> None:
    plain = {"a": {"b": 1}, "c": 2}
    assert apply_overrides(plain, ["a.b=3", "c=null"]) == {"a": {"b": 3}, "c": None}
    with pytest.raises(UnknownName, match="unknown key in a 'bb'; did you mean 'b'"):
        apply_overrides(plain, ["a.bb=3"])


def test_differences() -> None:
    before = Run()
    after = replace(before, optimizer=Optimizer(lr=1e-5), curve=Linear(high=10.0), clip=None)
    found = differences(before, after)
    assert Difference("optimizer.lr", "0.001", "1.0e-05") in found
    assert Difference("curve.low", "-10.0", "absent") in found
    assert [d.key for d in found] == [
        "optimizer.lr",
        "curve.type",
        "curve.low",
        "curve.shape",
        "clip",
        "curve.steps",
    ]
    assert str(found[0]) == "optimizer.lr: 0.001 -> 1.0e-05"
    assert differences(before, to_plain(before)) == []
    assert differences({"a": {}}, {"a": {"b": 1}}) == [
        Difference("a", "{}", "absent"),
        Difference("a.b", "absent", "1"),
    ]
