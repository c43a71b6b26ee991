"""Every shape of folder is read as what it is; what is wrong is said in one sentence."""

import json
import os
import sys
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"file_name": "1\\u0000.png"}', "line 1: there is no file"),
        (json.dumps({"file_name": "x" * 5000}), "line 1: there is no file"),
        ('{"file_name": "1\\ud800.png"}', "line 1: there is no file"),
        ('{"file_name": "1.png", "label": ' + "1" * 5000 + "}", "line 1 is not JSON"),
        ("[" * 100_000, "line 1 is not JSON"),
        ('{"file_name": "1.png", "label": ["a"]}', "line 1: 'label' is"),
        ('{"file_name": "1.png", "text": true}', "line 1: 'text' is True"),
        ("\n\n", "is empty"),
    ],
)
def test_strange_metadata_is_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    put(tmp_path / "1.png")
    (tmp_path / "metadata.jsonl").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        FolderSource(tmp_path)
    str(caught.value).encode()  # it can be printed


def test_a_link_out_of_the_folder_is_outside(tmp_path: Path) -> None:
    put(tmp_path / "data" / "1.png")
    put(tmp_path / "secret.png")
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret.png")
    lines(tmp_path / "data", [{"file_name": "link.png"}])
    with pytest.raises(UserError, match="lies outside the folder"):
        FolderSource(tmp_path / "data")


def test_metadata_written_by_other_editors(tmp_path: Path) -> None:
    put(tmp_path / "1.png")
    rows = '\ufeff{"file_name": "1.png", "caption": " a\\n cat \\ud800"}\r\n'
    (tmp_path / "metadata.jsonl").write_bytes(rows.encode())
    source = FolderSource(tmp_path)
    assert source.captions() == ["a cat ?"] and source.fingerprint()


def test_numbers_are_classes_in_their_own_order(tmp_path: Path) -> None:
    for k in range(12):
        put(tmp_path / str(k) / "1.png")
    source = FolderSource(tmp_path)
    assert source.classes == tuple(str(k) for k in range(12)) and sorted(source.labels()) == list(range(12))
    lines(tmp_path, [{"file_name": f"{k}/1.png", "label": k} for k in (2, 10, 1)])
    assert FolderSource(tmp_path).classes == ("1", "2", "10") and FolderSource(tmp_path).labels() == [1, 2, 0]


def test_hidden_folders_are_no_classes(tmp_path: Path) -> None:
    for name in ("cats/1.png", "dogs/1.png", ".cache/1.png", "cats/.thumbs/1.png", "__MACOSX/1.png"):
        put(tmp_path / name)
    assert FolderSource(tmp_path).classes == ("cats", "dogs") and len(FolderSource(tmp_path)) == 2


def test_classes_and_captions_coexist(tmp_path: Path) -> None:
    put(tmp_path / "cats" / "1.png")
    put(tmp_path / "dogs" / "1.png")
    (tmp_path / "dogs" / "1.txt").write_text("a dog")
    source = FolderSource(tmp_path)
    assert source.labels() == [0, 1] and source.captions() == ["", "a dog"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such a name")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    put(tmp_path / "1.png")
    os.rename(tmp_path / "1.png", os.fsencode(tmp_path) + b"/\xff.png")  # noqa: PTH104 - Path takes no bytes
    source = FolderSource(tmp_path)
    assert source.key(0) == "?.png" and source.fingerprint() and source[0].image.size == (12, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fluent", "did you mean 'embedded:fluent'"),
        ("embedded/fluent-people/val", "did you mean 'embedded:fluent-people/val'"),
        ("", "no pictures are named"),
        ("x" * 5000, "there is no folder"),
        ("a\0b", "there is no folder"),
    ],
)
def test_names_that_are_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        open_source(name)


def test_a_folder_may_be_called_like_an_embedded_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "fluent" / "1.png")
    monkeypatch.chdir(tmp_path)
    assert len(open_source("fluent")) == 1
