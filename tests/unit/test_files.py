"""Files: both directions against the safetensors library, hostile headers, damage, full disks."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from calotype import files
from calotype.errors import CorruptFile, DiskFull, UserError

DTYPES = [d for d in files._DTYPES.values() if d not in (torch.uint16, torch.uint32, torch.uint64)]


def tensors() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    out = {f"a.{d}": (torch.rand(3, 5, generator=g) * 9).to(d) for d in DTYPES}
    return out | {
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "odd": torch.arange(7, dtype=torch.uint8),
        "last": torch.randn(2, 3, 4, 5, generator=g).to(memory_format=torch.channels_last),
        "view": torch.randn(6, 6, generator=g)[::2, 1:].t(),
    }


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and torch.equal(a[k].float().nan_to_num(7), b[k].float().nan_to_num(7)) for k in a
    )


# --- safetensors ---


def test_we_read_what_the_library_writes(tmp_path):
    safetensors.torch.save_file({k: v.contiguous() for k, v in tensors().items()}, tmp_path / "x")
    assert same(files.read_tensors(tmp_path / "x"), tensors())


def test_the_library_reads_what_we_write(tmp_path):
    files.write_tensors(tmp_path / "x", tensors(), {"note": "ä"})
    assert same(safetensors.torch.load_file(tmp_path / "x"), tensors())
    assert same(files.read_tensors(tmp_path / "x"), tensors())
    with safetensors.safe_open(tmp_path / "x", "pt") as f:
        assert f.metadata() == {"note": "ä"}


def test_writing_is_deterministic_and_tied_tensors_are_allowed(tmp_path):
    t = torch.ones(3)
    files.write_tensors(tmp_path / "a", {"x": t, "y": t, "z": t[:2]})
    files.write_tensors(tmp_path / "b", {"z": t[:2], "y": t.clone(), "x": t})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert same(files.read_tensors(tmp_path / "a"), {"x": t, "y": t, "z": t[:2]})


def test_unaligned_data_are_read(tmp_path):
    header = {
        "b": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "f": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
    }
    (tmp_path / "x").write_bytes(raw(header, b"\1\2\3" + struct.pack("<2f", 1.5, -2.0)))
    assert files.read_tensors(tmp_path / "x")["f"].tolist() == [1.5, -2.0]


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4), **more: object) -> dict[str, object]:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}}


HOSTILE = {
    "nothing": b"",
    "short": b"\x02\0\0",
    "huge header": raw(b"{}", length=2**63),
    "all ones": b"\xff" * 16,
    "header beyond the end": raw(b"{}", length=3),
    "no object": raw(b"[]"),
    "a number": raw({"x": 3}),
    "cut": raw(b'{"x":'),
    "not utf-8": raw(b'{"\xff\xfe": 1}'),
    "deep": raw(b'{"x":' + b"[" * 20000 + b"]" * 20000 + b"}"),
    "twice": raw(b'{"x":%b,"x":%b}' % ((json.dumps(one()["x"]).encode(),) * 2), b"\0" * 4),
    "NaN": raw(b'{"x":NaN}'),
    "unknown type": raw(one("F33"), b"\0" * 4),
    "type is a list": raw(one(["F32"]), b"\0" * 4),
    "extra key": raw(one(more=1), b"\0" * 4),
    "missing key": raw({"x": {"dtype": "F32", "shape": [1]}}, b"\0" * 4),
    "negative": raw(one(shape=[-1]), b"\0" * 4),
    "float shape": raw(one(shape=[1.0]), b"\0" * 4),
    "bool shape": raw(one(shape=[True]), b"\0" * 4),
    "zero times huge": raw(one(shape=[0, 2**62], offsets=[0, 0])),
    "zero times large": raw(one(shape=[0, 2**31, 2**31], offsets=[0, 0])),
    "rank": raw(one(shape=[1] * 5000), b"\0" * 4),
    "overflow": raw(one(shape=[2**31, 2**31, 4]), b"\0" * 4),
    "too short": raw(one(), b"\0" * 3),
    "trailing": raw(one(), b"\0" * 5),
    "hole": raw(one(offsets=[1, 5]), b"\0" * 5),
    "backwards": raw(one(offsets=[4, 0]), b"\0" * 4),
    "three offsets": raw(one(offsets=[0, 4, 4]), b"\0" * 4),
    "overlap": raw(one() | {"y": one()["x"]}, b"\0" * 4),
    "bits": raw(one(shape=[2]), b"\0" * 4),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path, name):
    (tmp_path / "x.safetensors").write_bytes(HOSTILE[name])
    with pytest.raises(CorruptFile, match=r"x\.safetensors"):
        files.read_tensors(tmp_path / "x.safetensors")


def test_too_many_tensors_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_TENSORS", 3)
    files.write_tensors(tmp_path / "x", {str(i): torch.zeros(1) for i in range(4)})
    with pytest.raises(CorruptFile, match="at most 3"):
        files.read_tensors(tmp_path / "x")


def test_pickles_are_told_by_content(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("archive/data.pkl", pickle.dumps(1))
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    foreign = [pickle.dumps([1, "x" * 700], protocol=p) for p in (2, 3, 4, 5)] + [archive.getvalue(), array.getvalue()]
    for content in foreign:
        (tmp_path / "weights.safetensors").write_bytes(content)
        with pytest.raises(CorruptFile, match=r"not safetensors.*convert"):
            files.read_tensors(tmp_path / "weights.safetensors")


def test_a_header_that_begins_like_a_pickle_is_none(tmp_path):
    header = json.dumps(one()).encode()
    (tmp_path / "x").write_bytes(raw(header + b" " * (0x280 - len(header)), b"\0" * 4))
    assert (tmp_path / "x").read_bytes()[:2] == b"\x80\x02"
    assert files.read_tensors(tmp_path / "x")["x"].tolist() == [0.0]


def test_random_damage_never_raises_anything_else(tmp_path):
    files.write_tensors(tmp_path / "x", {"a": torch.randn(3), "b": torch.arange(4)})
    good = (tmp_path / "x").read_bytes()
    dice, refused = random.Random(0), 0
    for _ in range(2000):
        bad = bytearray(good)
        for _ in range(dice.randint(1, 3)):
            bad[dice.randrange(len(bad))] = dice.randrange(256)
        (tmp_path / "y").write_bytes(bad[: dice.choice([len(bad)] * 3 + [dice.randrange(len(bad))])])
        try:
            files.read_tensors(tmp_path / "y")
        except CorruptFile:
            refused += 1
    assert refused > 1000


def test_size_limit_and_missing_file(tmp_path):
    files.write_tensors(tmp_path / "x", {"a": torch.zeros(100)})
    with pytest.raises(CorruptFile, match="more than the 100"):
        files.read_tensors(tmp_path / "x", max_bytes=100)
    with pytest.raises(UserError, match="no file"):
        files.read_tensors(tmp_path / "nowhere")


# --- JSON ---


def test_json_round_trip(tmp_path):
    value = {"a": [1, 2.5, None, True, "ä"], "b": {"c": {}}}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == value
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x.json", float("nan"))
    assert files.read_json(tmp_path / "x.json") == value
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_json_limits(tmp_path):
    file = tmp_path / "x.json"
    file.write_text("[" * 32 + "]" * 32)
    files.read_json(file)
    for text in ("[" * 33 + "]" * 33, "[" * 100_000, '{"a":1,"a":2}', "NaN", "", '"\\ud800', "9" * 5000, "{'a': 1}"):
        file.write_text(text)
        with pytest.raises(CorruptFile, match=r"x\.json"):
            files.read_json(file)
    with pytest.raises(CorruptFile, match="more than the 4 allowed"):
        files.read_json(file, max_bytes=4)


def test_append_line(tmp_path):
    for i in range(3):
        files.append_line(tmp_path / "x", f"ä{i}")
    assert (tmp_path / "x").read_text("utf-8") == "ä0\nä1\nä2\n"


# --- folders ---


def make(path: Path, value: int = 0) -> None:
    with files.commit_directory(path) as folder:
        files.write_json(folder / "config.json", {"value": value})
        (folder / "inner").mkdir()
        files.write_tensors(folder / "inner" / "w.safetensors", {"a": torch.full((1000,), float(value))})


def test_commit_and_verify(tmp_path):
    make(tmp_path / "m")
    manifest = files.verify_directory(tmp_path / "m")
    assert set(manifest["files"]) == {"config.json", "inner/w.safetensors"}
    assert set(manifest["versions"]) == {"calotype", "torch", "python"}
    make(tmp_path / "m", 1)
    files.verify_directory(tmp_path / "m")
    assert files.read_json(tmp_path / "m/config.json") == {"value": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_an_error_leaves_the_old_folder(tmp_path):
    make(tmp_path / "m")
    with pytest.raises(RuntimeError), files.commit_directory(tmp_path / "m") as folder:
        files.write_json(folder / "config.json", {"value": 1})
        raise RuntimeError
    files.verify_directory(tmp_path / "m")
    assert files.read_json(tmp_path / "m/config.json") == {"value": 0}
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_order_of_a_commit(tmp_path, monkeypatch):
    """Every file reaches the disk before the manifest is in place, the manifest before the rename, then the parent."""
    log: list[tuple[str, str]] = []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def name(path: str) -> str:
        return ".".join(part for part in Path(path).name.split(".") if part and not part.startswith("tmp-"))

    def record_fsync(descriptor):
        log.append(("fsync", name(str(Path(f"/proc/self/fd/{descriptor}").readlink()))))
        fsync(descriptor)

    def record_rename(self, target):
        log.append(("rename", name(str(self))))
        return rename(self, target)

    def record_replace(self, target):
        log.append(("replace", name(str(self))))
        return replace(self, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "rename", record_rename)
    monkeypatch.setattr(Path, "replace", record_replace)
    make(tmp_path / "m")
    manifest = log.index(("replace", "manifest.json"))
    assert log.index(("fsync", "w.safetensors")) < manifest > log.index(("fsync", "config.json"))
    assert log.index(("fsync", "inner")) < manifest
    assert log[manifest - 1] == ("fsync", "manifest.json")
    assert log[manifest + 1 :] == [("fsync", "m"), ("rename", "m"), ("fsync", tmp_path.name)]


def mutations(folder: Path, dice: random.Random) -> str:
    """Damage the folder in one of several ways; the name of the way."""
    file = dice.choice([folder / "config.json", folder / "inner/w.safetensors", folder / "manifest.json"])
    data = bytearray(file.read_bytes())
    kind = dice.choice(["flip", "truncate", "zero", "delete", "swap", "append", "stale", "space"])
    if kind == "flip":
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    elif kind == "truncate":
        del data[dice.randrange(len(data)) :]
    elif kind == "zero":
        start = dice.randrange(len(data))
        data[start : start + 64] = b"\0" * len(data[start : start + 64])
        data[start] ^= 1
    elif kind == "append":
        data += b"\n"
    elif kind == "space":
        file = folder / "manifest.json"
        data = bytearray(file.read_bytes().replace(b": ", b":  ", 1))
    if kind == "delete":
        file.unlink()
    elif kind == "swap":
        other = folder / "inner/w.safetensors"
        a, b = other.read_bytes(), (folder / "config.json").read_bytes()
        other.write_bytes(b)
        (folder / "config.json").write_bytes(a)
    elif kind == "stale":
        make(folder.parent / "other", 5)
        (folder.parent / "other/manifest.json").replace(folder / "manifest.json")
    else:
        file.write_bytes(data)
    return kind


def test_every_mutation_is_detected(tmp_path):
    dice, kinds = random.Random(1), set()
    for i in range(100):
        make(tmp_path / str(i))
        kinds.add(mutations(tmp_path / str(i), dice))
        with pytest.raises(CorruptFile):
            files.verify_directory(tmp_path / str(i))
    assert len(kinds) == 8


def test_a_manifest_cannot_point_outside(tmp_path):
    make(tmp_path / "m")
    for name in ("../secret", "/etc/hostname"):
        manifest = {"format": 1, "files": {name: {"size": 1, "sha256": ""}}, "versions": {}}
        text = files._manifest_text(manifest | {"self": files._own_hash(manifest)})
        (tmp_path / "m/manifest.json").write_bytes(text)
        with pytest.raises(CorruptFile, match="outside"):
            files.verify_directory(tmp_path / "m")


def test_verify_needs_a_folder_with_a_manifest(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        files.verify_directory(tmp_path / "m")
    with pytest.raises(CorruptFile, match="never finished"):
        files.verify_directory(tmp_path)


# --- full disks ---


@contextlib.contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes: the nearest thing to a full disk that needs no privileges."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_everything_as_it_was(tmp_path):
    make(tmp_path / "m")
    files.write_tensors(tmp_path / "x", {"a": torch.zeros(3)})
    files.write_json(tmp_path / "y", [1])
    before = sorted(p.name for p in tmp_path.rglob("*"))
    with file_size_limit(100_000):
        with pytest.raises(DiskFull, match="no room"):
            files.write_tensors(tmp_path / "x", {"a": torch.zeros(100_000)})
        with pytest.raises(DiskFull, match="no room"):
            files.write_json(tmp_path / "y", "x" * 200_000)
        with pytest.raises(DiskFull, match="no room"), files.commit_directory(tmp_path / "m") as folder:
            files.write_tensors(folder / "x", {"a": torch.zeros(100_000)})
        with pytest.raises(DiskFull, match="no room"):
            files.append_line(tmp_path / "y2", "x" * 200_000)
    (tmp_path / "y2").unlink()
    assert sorted(p.name for p in tmp_path.rglob("*")) == before
    assert files.read_tensors(tmp_path / "x")["a"].numel() == 3
    assert files.read_json(tmp_path / "y") == [1]
    files.verify_directory(tmp_path / "m")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_only_a_full_disk_is_called_full(tmp_path, monkeypatch, number):
    def fail(descriptor):
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError if number == errno.EIO else DiskFull):
        files.write_json(tmp_path / "x", 1)
    assert not list(tmp_path.iterdir())


def test_ensure_space(tmp_path):
    files.ensure_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(DiskFull, match="MiB are free"):
        files.ensure_space(tmp_path / "not" / "yet", 1 << 60)


# --- modules ---


def test_load_state_is_all_or_nothing():
    net = nn.Sequential(nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last), nn.BatchNorm2d(3))
    good = {k: torch.randn(v.shape).to(v.dtype) for k, v in net.state_dict().items()}
    before = {k: v.clone() for k, v in net.state_dict().items()}
    bad = {
        "0.bias is missing": {k: v for k, v in good.items() if k != "0.bias"},
        "extra is unknown": good | {"extra": torch.zeros(1)},
        r"0.bias has shape \(4,\) instead of \(3,\)": good | {"0.bias": torch.zeros(4)},
        "0.bias is float16 instead of float32": good | {"0.bias": torch.zeros(3).half()},
        "and 3 more": good | {str(i): torch.zeros(1) for i in range(6)},
    }
    for message, tensors_ in bad.items():
        with pytest.raises(UserError, match=f"FILE does not fit.*{message}"):
            files.load_state(net, tensors_, "FILE")
        assert same(net.state_dict(), before)
    files.load_state(net, good, "FILE")
    assert same(net.state_dict(), good)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
