"""One process per run directory, one config per run."""

from __future__ import annotations

import os
import signal

import pytest

from calotype.errors import RunLocked, UserError
from calotype.files import read_json
from calotype.training.run import RunDirectory, differences


def test_a_second_user_is_refused_and_told_who_the_first_is(tmp_path):
    with RunDirectory(tmp_path / "run", {}) as run:
        for _ in range(20):
            with pytest.raises(RunLocked, match=f"process {os.getpid()};"):
                RunDirectory(tmp_path / "run", {})
        run.close()
        RunDirectory(tmp_path / "run", {}).close()
        run.close()
    RunDirectory(tmp_path / "run", {}).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_process_leaves_no_lock(tmp_path):
    for _ in range(3):
        there, here = os.pipe()
        child = os.fork()
        if child == 0:
            run = RunDirectory(tmp_path / "run", {})
            os.write(here, b"!")
            signal.pause()
            run.close()
            os._exit(0)
        os.read(there, 1)
        with pytest.raises(RunLocked, match=f"process {child};"):
            RunDirectory(tmp_path / "run", {})
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        RunDirectory(tmp_path / "run", {}).close()


def test_another_config_is_refused_key_by_key(tmp_path):
    config = {"trainer": {"steps": 5, "seed": 0}, "data": {"side": 64}, "widths": [1, 2], "lr": 1e-4}
    RunDirectory(tmp_path, config).close()
    RunDirectory(tmp_path, config | {"widths": (1, 2)}).close()
    other = {"trainer": {"steps": 9, "seed": 1}, "widths": [1, 3], "lr": 1e-4, "new": True}
    (tmp_path / "checkpoints" / "step-00000003").mkdir(parents=True)
    with pytest.raises(UserError) as error:
        RunDirectory(tmp_path, other)
    for line in (
        "trainer.seed: was 0, now 1",
        "data: was {'side': 64}, now nothing",
        "widths: was [1, 2], now [1, 3]",
        "new: was nothing, now True",
    ):
        assert line in str(error.value)
    assert "steps" not in str(error.value) and "lr" not in str(error.value)
    assert read_json(tmp_path / "config.json") == config
    # The refusal gave the lock back, and steps may change.
    changed = config | {"trainer": {"steps": 9, "seed": 0}}
    RunDirectory(tmp_path, changed).close()
    assert read_json(tmp_path / "config.json") == changed


def test_a_run_without_a_checkpoint_binds_nobody(tmp_path):
    RunDirectory(tmp_path, {"lr": 1e9}).close()
    RunDirectory(tmp_path, {"lr": 1e-4}).close()
    assert read_json(tmp_path / "config.json") == {"lr": 1e-4}


def test_other_inputs_are_refused_although_the_config_is_the_same(tmp_path):
    config, given = {"autoencoder": "runs/first"}, {"autoencoder": "12ab"}
    RunDirectory(tmp_path, config, {"autoencoder": "before the first checkpoint"}).close()
    RunDirectory(tmp_path, config, given).close()
    (tmp_path / "checkpoints" / "step-00000003").mkdir(parents=True)
    RunDirectory(tmp_path, config, given).close()
    for inputs, change in (({"autoencoder": "34cd"}, "was 12ab, now 34cd"), ({}, "was 12ab, now nothing")):
        with pytest.raises(UserError, match=rf"started with other inputs \(autoencoder: {change}\); use the old"):
            RunDirectory(tmp_path, config, inputs)
    assert read_json(tmp_path / "inputs.json") == given
    more = given | {"class.classes": "cats, dogs"}
    RunDirectory(tmp_path, config, more).close()  # what nobody recorded becomes known
    with pytest.raises(UserError, match=r"class\.classes: was cats, dogs, now nothing"):
        RunDirectory(tmp_path, config, given)
    RunDirectory(tmp_path, config, more | {"long": "x" * 999}).close()
    with pytest.raises(UserError, match=r"long: was sha256 [0-9a-f]{16}, now sha256 [0-9a-f]{16}"):
        RunDirectory(tmp_path, config, more | {"long": "y" * 999})
    (tmp_path / "inputs.json").unlink()  # nobody knows any more what it was trained with
    with pytest.raises(UserError, match="autoencoder: was nothing, now 12ab"):
        RunDirectory(tmp_path, config, given)


def test_differences_of_equal_trees():
    tree = {"a": [{"b": 1}], "c": {"d": None}}
    assert differences(tree, tree) == []
