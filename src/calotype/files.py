"""Files that survive a crash and are safe to open: JSON, safetensors, and folders with a manifest.

*Writing* is all or nothing. A file is written beside its place, synchronised to the disk and renamed into it. A folder
(`commit_directory`) is written beside its place, every file is synchronised, `manifest.json` is written last, the
folder is renamed and its parent synchronised: whoever sees the folder sees all of it, even after a power cut.

*Reading* trusts nothing. A file holds numbers or text, never code; every header is checked before memory is reserved;
`verify_directory` compares size and SHA-256 of every file with the manifest, because the safetensors format itself
notices damage to its header only.

The safetensors layout (8 bytes header length n, n bytes JSON, raw little-endian data) is read and written here rather
than by the library: a full disk then keeps its errno, data reaches the disk before the rename, and duplicate names,
absurd shapes and pickles are refused with one sentence. The tests compare both directions with the library.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from calotype.errors import CorruptFile, DiskFull, UserError

MANIFEST = "manifest.json"
MAX_HEADER = 25_000_000
MAX_TENSORS = 200_000
MAX_RANK = 8
MAX_DIM = 2**31

_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_FOREIGN = ((b"PK", "a zip archive (.pt, .pth, .ckpt, .npz)"), (b"\x93NUMPY", "a NumPy file"), (b"GGUF", "a GGUF file"))
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


# --- JSON -------------------------------------------------------------------------------------------------------------


def read_json(path: Path | str, max_bytes: int = 4 << 20, max_depth: int = 32) -> Any:
    """The value in a JSON file of at most `max_bytes` and `max_depth` nested brackets.

    Raises:
        UserError: there is no such file.
        CorruptFile: too large, too deep, not JSON, NaN or infinity, or a key given twice.
    """
    path = Path(path)
    if _size(path) > max_bytes:
        raise CorruptFile(f"{path} has {_size(path):,} bytes, more than the {max_bytes:,} allowed for JSON")
    value = _parse_json(path.read_bytes(), str(path))
    level, depth = [value], 0
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        if depth > max_depth:
            raise CorruptFile(f"{path} is nested deeper than {max_depth} levels; it is no file of ours")
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    return value


def write_json(path: Path | str, value: Any) -> None:
    """Write a JSON file atomically. Raises `DiskFull`; `ValueError` for NaN or infinity."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with _atomic(Path(path)) as file:
        file.write(text.encode())


def append_line(path: Path | str, text: str) -> None:
    """Append one line and hand it to the operating system, so that it outlives the process. Raises `DiskFull`."""
    path = Path(path)
    with _disk_full(path), path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def _parse_json(data: bytes, where: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = sorted({k for i, (k, _) in enumerate(pairs) if k in {j for j, _ in pairs[:i]}})
            raise ValueError(f"key {twice[0]!r} is given twice")
        return found

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not a JSON number")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{where} is damaged or no JSON: {str(error)[:200]}") from error


# --- safetensors ------------------------------------------------------------------------------------------------------


def read_tensors(path: Path | str, max_bytes: int | None = None) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU; they share one block of memory.

    Args:
        max_bytes: refuse a larger file; None = no limit.

    Raises:
        UserError: there is no such file.
        CorruptFile: a pickle or other foreign format (told by content, whatever its name), a damaged header, a
            duplicate name, an absurd shape, or data that do not fill the file exactly.
    """
    path = Path(path)
    size = _size(path)
    if max_bytes is not None and size > max_bytes:
        raise CorruptFile(f"{path} has {size:,} bytes, more than the {max_bytes:,} allowed")
    with path.open("rb") as file:
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        # A short safetensors file can begin like a pickle (80 02 = length 640), so the brace decides.
        if len(start) < 9 or start[8:] != b"{" or not 2 <= length <= min(MAX_HEADER, size - 8):
            raise CorruptFile(_what_else(path, start))
        file.seek(8)
        header = _parse_json(file.read(length), str(path))
        layout = _layout(header, size - 8 - length, path)
        data = torch.empty(size - 8 - length, dtype=torch.uint8, device="cpu")  # whatever the default is
        if file.readinto(data.numpy().data) != len(data):
            raise CorruptFile(f"{path} ended early; copy it again")
    out = {}
    for name, (dtype, shape, begin, end) in layout.items():
        part = data[begin:end]
        if dtype is torch.bool:
            out[name] = (part != 0).reshape(shape)
            continue
        # A view needs an aligned offset; writers that mix widths may not give one.
        out[name] = (part.clone() if begin % dtype.itemsize else part).view(dtype).reshape(shape)
    return out


def write_tensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically; tied tensors are written once per name. Raises `DiskFull`."""
    # Wide types first keeps every tensor aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name in order:
        t = tensors[name]
        end = offset + t.numel() * t.dtype.itemsize
        header[name] = {"dtype": _NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with _atomic(Path(path)) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            if tensors[name].numel():
                file.write(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _layout(header: Any, size: int, path: Path) -> dict[str, tuple[torch.dtype, tuple[int, ...], int, int]]:
    def bad(reason: str) -> CorruptFile:
        return CorruptFile(f"{path} has a damaged safetensors header ({reason}); copy it again")

    def counts(value: Any, limit: int) -> bool:
        return isinstance(value, list) and all(type(v) is int and 0 <= v <= limit for v in value)

    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise bad(f"expected at most {MAX_TENSORS:,} named tensors")
    out = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise bad(f"tensor {name[:80]!r} needs dtype, shape and data_offsets")
        dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
        shape, offsets = entry["shape"], entry["data_offsets"]
        if dtype is None:
            raise bad(f"tensor {name[:80]!r} has the unknown type {str(entry['dtype'])[:20]!r}")
        if not counts(shape, MAX_DIM) or len(shape) > MAX_RANK or not counts(offsets, size) or len(offsets) != 2:
            raise bad(f"tensor {name[:80]!r} has an impossible shape or place")
        numel = strides = 1
        for d in shape:
            numel, strides = numel * d, strides * max(1, d)
        if strides > 2**48 or numel * dtype.itemsize != offsets[1] - offsets[0]:
            raise bad(f"tensor {name[:80]!r} has a shape that does not fit its {offsets[1] - offsets[0]:,} bytes")
        out[name] = (dtype, tuple(shape), offsets[0], offsets[1])
    position = 0
    for name, (_, _, begin, end) in sorted(out.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise bad(f"hole or overlap before tensor {name[:80]!r}")
        position = end
    if position != size:
        raise bad(f"{size - position:,} bytes belong to no tensor")
    return out


def _what_else(path: Path, start: bytes) -> str:
    for magic, name in _FOREIGN:
        if start.startswith(magic):
            return f"{path} is {name}, not safetensors; such files can run code when opened, so convert it first"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"{path} is a pickle, not safetensors; pickles can run code when opened, so convert it first"
    return f"{path} is no safetensors file, or its beginning is damaged; copy it again"


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into the parameters and buffers of `module`, all or nothing.

    Args:
        where: the file's name, for the message.

    Raises:
        UserError: names, shapes or types differ; the message lists the first differences, the module is untouched.
    """
    state: dict[str, Tensor] = module.state_dict()
    problems = [f"{name} is missing" for name in state if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in state]
    for name, want in state.items():
        if name in tensors:
            have = tensors[name]
            if have.shape != want.shape:
                problems.append(f"{name} has shape {tuple(have.shape)} instead of {tuple(want.shape)}")
            elif have.dtype != want.dtype:
                problems.append(f"{name} is {have.dtype} instead of {want.dtype}".replace("torch.", ""))
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"{where} does not fit the configured {type(module).__name__}: {'; '.join(problems[:3])}{more}")
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(tensors[name])


# --- folders ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def commit_directory(path: Path | str) -> Iterator[Path]:
    """Write a folder, all or nothing; an existing one is replaced only after the new one is complete.

    Yields:
        an empty folder beside `path`; write the files into it.

    Raises:
        DiskFull: no room; what was half-written is removed and an old folder at `path` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:12]
    fresh, aside = path.with_name(f"{path.name}.tmp-{mark}"), path.with_name(f"{path.name}.old-{mark}")
    try:
        with _disk_full(path):
            fresh.mkdir()
            yield fresh
            _seal(fresh)
            if path.exists():
                path.rename(aside)
            fresh.rename(path)
            sync_directory(path.parent)
    except BaseException:
        if aside.exists() and not path.exists():
            aside.rename(path)
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def verify_directory(path: Path | str) -> dict[str, Any]:
    """The manifest of a committed folder, after every file's size and SHA-256 were compared with it.

    Raises:
        UserError: there is no such folder.
        CorruptFile: no or damaged manifest, or a missing, shortened or changed file, which the message names.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"there is no folder {path}")
    file = path / MANIFEST
    if not file.is_file():
        raise CorruptFile(f"{path} has no {MANIFEST}, so it was never finished or is no folder of ours")
    manifest = read_json(file)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise CorruptFile(f"{file} is damaged: it lists no files")
    own = manifest.pop("self", None)
    if own != _own_hash(manifest) or file.read_bytes() != _manifest_text(manifest | {"self": own}):
        raise CorruptFile(f"{file} is damaged: it disagrees with its own hash")
    for name, entry in sorted(manifest["files"].items()):
        if not isinstance(entry, dict) or not {"size", "sha256"} <= entry.keys():
            raise CorruptFile(f"{file} is damaged: it does not say what {name!r} holds")
        member = path / name
        if "\0" in name or not member.resolve().is_relative_to(path.resolve()):
            raise CorruptFile(f"{file} names {name!r}, which lies outside the folder")
        if not member.is_file():
            raise CorruptFile(f"{member} is missing; copy the folder again")
        if member.stat().st_size != entry["size"]:
            raise CorruptFile(f"{member} has {member.stat().st_size:,} bytes instead of {entry['size']:,}")
        if _sha256(member) != entry["sha256"]:
            raise CorruptFile(f"{member} is damaged: its content disagrees with its SHA-256")
    return manifest


def ensure_space(path: Path | str, bytes_needed: int) -> None:
    """Raise `DiskFull` unless the file system of `path` has this much room."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < bytes_needed:
        raise DiskFull(f"{path} needs {bytes_needed / 2**20:,.0f} MiB but only {free / 2**20:,.0f} MiB are free")


def sync_directory(path: Path | str) -> None:
    """Make renames and deletions in a folder survive a power cut; no effect where folders cannot be opened."""
    if platform.system() == "Windows":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _seal(folder: Path) -> None:
    from calotype import __version__

    entries = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        entries[file.relative_to(folder).as_posix()] = {"size": file.stat().st_size, "sha256": _sha256(file)}
    for inner in sorted(p for p in folder.rglob("*") if p.is_dir()):
        sync_directory(inner)
    versions = {"calotype": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
    manifest = {"format": 1, "files": entries, "versions": versions}
    with _atomic(folder / MANIFEST) as out:
        out.write(_manifest_text(manifest | {"self": _own_hash(manifest)}))


def _manifest_text(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"


def _own_hash(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(_manifest_text(manifest)).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    return path.stat().st_size


@contextlib.contextmanager
def _disk_full(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(f"no room left to write {path}; free some space and try again") from error
        raise


@contextlib.contextmanager
def _atomic(path: Path) -> Iterator[IO[bytes]]:
    fresh = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:12]}")
    try:
        with _disk_full(path):
            with fresh.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            sync_directory(path.parent)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
