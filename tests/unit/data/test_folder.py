"""Every shape of folder is read as what it is; what is wrong is said in one sentence."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from calotype.data.folder import FolderSource, open_source
from calotype.errors import BadImage, UserError


def put(path: Path, size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path)


def lines(folder: Path, rows: Sequence[object]) -> None:
    (folder / "metadata.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def test_plain_folder_with_captions_beside(tmp_path: Path) -> None:
    put(tmp_path / "b.jpg")
    put(tmp_path / "a.PNG")
    put(tmp_path / "deep" / "c.webp")
    put(tmp_path / ".hidden.png")
    (tmp_path / "b.txt").write_text("  a red\n square ")
    source = FolderSource(tmp_path)
    assert len(source) == 3 and source.classes == () and source.labels() == [-1, -1, -1]
    assert [source.key(i) for i in range(3)] == ["a.PNG", "b.jpg", str(Path("deep") / "c.webp")]
    assert source.captions() == ["", "a red square", ""] and source[1].caption == "a red square"
    assert source[1].image.size == (12, 10)


def test_class_folders(tmp_path: Path) -> None:
    for name in ("dogs/1.png", "cats/1.png", "cats/more/2.png"):
        put(tmp_path / name)
    source = FolderSource(tmp_path)
    assert source.classes == ("cats", "dogs") and source.labels() == [0, 0, 1]


def test_one_subfolder_is_no_class(tmp_path: Path) -> None:
    put(tmp_path / "images" / "1.png")
    assert FolderSource(tmp_path).classes == ()


def test_metadata(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "3.png"):
        put(tmp_path / name)
    lines(
        tmp_path,
        [
            {"file_name": "2.png", "caption": "two", "label": "even"},
            {"file_name": "1.png", "text": "one", "class": "odd"},
            {"file_name": "3.png"},
        ],
    )
    source = FolderSource(tmp_path)
    assert (
        source.captions() == ["two", "one", ""] and source.labels() == [0, 1, -1] and source.classes == ("even", "odd")
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{broken", r"line 1 is not JSON"),
        ('["list"]', r"line 1 has no 'file_name'"),
        ('{"file_name": "gone.png"}', r"line 1: there is no file 'gone.png'"),
        ('{"file_name": "../outside.png"}', r"line 1: .* lies outside the folder"),
        ('{"file_name": "/etc/passwd"}', r"line 1: .* lies outside the folder"),
    ],
)
def test_bad_metadata_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    put(tmp_path / "data" / "1.png")
    put(tmp_path / "outside.png")
    (tmp_path / "data" / "metadata.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        FolderSource(tmp_path / "data")


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no pictures; looked for \.png"):
        open_source(tmp_path)
    put(tmp_path / "a.png")
    with pytest.raises(UserError, match="is a file"):
        open_source(tmp_path / "a.png")


def test_a_bad_picture_says_which(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no")
    with pytest.raises(BadImage, match=r"broken\.png"):
        FolderSource(tmp_path)[0]


def test_fingerprint_follows_content(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    first = FolderSource(tmp_path).fingerprint()
    assert first == FolderSource(tmp_path).fingerprint()
    put(tmp_path / "a.png", (13, 13))
    second = FolderSource(tmp_path).fingerprint()
    (tmp_path / "a.txt").write_text("new caption")
    assert len({first, second, FolderSource(tmp_path).fingerprint()}) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("embedded:fluemt", "did you mean 'fluent'"),
        ("embedded:fluent/tran", "did you mean 'train'"),
        ("embedded:photos/val", "no split"),
    ],
)
def test_unknown_embedded_names_suggest(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_source(name)
