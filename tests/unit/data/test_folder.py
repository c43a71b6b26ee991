"""Every shape of folder is read as what it is; what is wrong is said in one sentence."""

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calotype.data import metadata
from calotype.data.folder import FolderSource, open_source
from calotype.errors import BadImage, UserError
from calotype.layout import Box


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
        ('{"file_name": "."}', r"line 1: '.' is no ordinary file; name one"),
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


# --- boxes ------------------------------------------------------------------------------------------------------------


def coco(folder: Path, images: Sequence[object], boxes: Sequence[object], name: str = "annotations.json") -> None:
    categories = [{"id": 5, "name": "heart"}, {"id": 2, "name": "face"}]
    (folder / name).write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))


def test_coco_boxes(tmp_path: Path) -> None:
    for name in ("b.png", "images/a.png", "unlisted.png"):
        put(tmp_path / name, (20, 10))
    images = [{"id": 1, "file_name": "b.png", "width": 40, "height": 20}, {"id": 2, "file_name": "a.png"}]
    boxes = [
        {"id": 1, "image_id": 1, "category_id": 5, "bbox": [4, 2, 8, 4]},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [10, 0, 10.4, 10]},
    ]
    coco(tmp_path, images, boxes)
    source = FolderSource(tmp_path)
    assert source.objects == ("face", "heart") and source.classes == ()
    assert source.remarks == (
        "annotations give 1 of 2 pictures with boxes another size; boxes are taken to be counted in it: "
        "b.png is 20 x 10, not 40 x 20",
    )
    assert [source.key(i) for i in range(len(source))] == ["b.png", str(Path("images") / "a.png")]
    assert source[0].boxes == (Box(1, 0.1, 0.1, 0.3, 0.3),)  # of a picture that was made smaller since
    assert source[1].boxes == (Box(0, 0.5, 0.0, 1.0, 1.0),)  # its own size, and clipped


@pytest.mark.parametrize("name", ["instances_val.json", "_annotations.coco.json"])
def test_coco_goes_by_several_names(tmp_path: Path, name: str) -> None:
    put(tmp_path / "cats" / "a.png")
    put(tmp_path / "dogs" / "b.png")
    images = [{"id": k, "file_name": file} for k, file in enumerate(("dogs/b.png", "cats/a.png"))]
    coco(tmp_path, images, [{"id": 1, "image_id": 0, "category_id": 5, "bbox": [0, 0, 5, 5]}], name)
    source = FolderSource(tmp_path)
    assert source.classes == ("cats", "dogs") and source.labels() == [0, 1]
    assert [len(source[i].boxes) for i in range(2)] == [0, 1]
    (tmp_path / "annotations.json").write_bytes((tmp_path / name).read_bytes())
    with pytest.raises(UserError, match="keep one of them"):
        FolderSource(tmp_path)


@pytest.mark.parametrize(
    ("file_name", "message"),
    [
        ("gone.png", "image 1: there is no file 'gone.png'"),
        ("../out.png", "lies outside the folder"),
        ("", "image 1 has no 'file_name'; write the name of its file"),
        (None, "image 1 has no 'file_name'"),
        ("/etc/hostname", "lies outside the folder; give names inside it"),
        ("/dev/zero", "lies outside the folder"),
        ("/nowhere/a.png", "lies outside the folder"),
        ("/a\0", "lies outside the folder"),
        ("deep", "image 1: 'deep' is no ordinary file"),
        ("circle.png", "image 1: 'circle.png' is no ordinary file"),
    ],
)
def test_coco_pictures_are_in_the_folder(tmp_path: Path, file_name: str | None, message: str) -> None:
    put(tmp_path / "out.png")
    put(tmp_path / "data" / "a.png")
    put(tmp_path / "data" / "deep" / "b.png")
    (tmp_path / "data" / "circle.png").symlink_to("circle.png")
    coco(tmp_path / "data", [{"id": 1, "file_name": file_name}], [])
    with pytest.raises(UserError, match=message):
        FolderSource(tmp_path / "data")
    coco(tmp_path / "data", [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "./a.png"}], [])
    with pytest.raises(UserError, match=r"image 2: './a\.png' is listed before"):
        FolderSource(tmp_path / "data")


@pytest.mark.parametrize("here", [True, False])
def test_an_absolute_name_of_what_is_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: bool) -> None:
    data = tmp_path / "data"
    for name in ("a.png", "images/b.png"):
        put(data / name, (20, 10))
    images = [{"id": k, "file_name": str(data.resolve() / name)} for k, name in enumerate(("a.png", "images/b.png"))]
    coco(data, images, [{"id": 1, "image_id": 0, "category_id": 5, "bbox": [0, 0, 10, 10]}])
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        source = FolderSource(Path("data") if here else data)
        assert [source.key(i) for i in range(2)] == ["a.png", str(Path("images") / "b.png")] and source.fingerprint()
        assert len(source[0].boxes) == 1 and source[1].image.size == (20, 10)
        lines(data, [{"file_name": image["file_name"]} for image in images])  # and once more, listed there


@pytest.mark.parametrize(
    ("size", "turn", "corners", "remark"),
    [
        ((40, 20), 1, (0.0, 0.0, 0.5, 0.5), ""),
        (
            (80, 40),
            1,
            (0.0, 0.0, 0.25, 0.25),
            "another size; boxes are taken to be counted in it: a.jpg is 40 x 20, not",
        ),
        ((20, 10), 1, (0.0, 0.0, 1.0, 1.0), "another size; boxes"),
        (
            (20, 40),
            1,
            (0.0, 0.0, 0.5, 0.5),
            "a size of another shape; .* pictures' own pixels: a.jpg is 40 x 20, not 20 x",
        ),
        ((400, 400), 1, (0.0, 0.0, 0.5, 0.5), "a size of another shape"),
        ((20, 40), 6, (0.0, 0.0, 1.0, 0.25), ""),  # upright
        ((40, 20), 6, (0.5, 0.0, 1.0, 0.5), ""),  # as stored
        ((80, 40), 6, (0.75, 0.0, 1.0, 0.25), "another size; boxes"),  # as stored, when it was larger
    ],
)
def test_sizes_that_are_said(
    tmp_path: Path, size: tuple[int, int], turn: int, corners: tuple[float, float, float, float], remark: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    images = [{"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}]
    coco(tmp_path, images, [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 20, 10]}])
    source = FolderSource(tmp_path)
    assert source[0].boxes == (Box(1, *corners),)
    assert len(source.remarks) == bool(remark) and all(re.search(remark, told) for told in source.remarks)


@pytest.mark.parametrize("name", ["annotations.json", "instances_val.json", "captions.json", "metadata.jsonl"])
def test_annotations_that_are_no_files(tmp_path: Path, name: str) -> None:
    put(tmp_path / "a.png")
    (tmp_path / name).symlink_to(name)
    with pytest.raises(UserError, match=f"{name} is no ordinary file"):
        FolderSource(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"{name} is no ordinary file"):
        FolderSource(tmp_path)


def test_annotations_that_say_nothing_are_told(tmp_path: Path) -> None:
    put(tmp_path / "images" / "a.png")
    put(tmp_path / "images" / "b.png")
    for name in ("label_maps", "conditioning_images", "images/a.txt", "images/b.txt"):
        (tmp_path / name).mkdir()
    coco(tmp_path, [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}], [])
    said = [{"id": 1, "image_id": 7, "caption": "elsewhere"}] * 3
    (tmp_path / "captions.json").write_text(
        json.dumps({"images": [{"id": 7, "file_name": "elsewhere.png"}], "annotations": said})
    )
    remarks = FolderSource(tmp_path).remarks
    expected = (
        r"annotations\.json has no box of any picture",
        r"captions\.json has no caption of any picture",
        r"captions\.json: 2 annotations have the id of an earlier one and are left out",
        "label_maps/ holds nothing that belongs to a picture; label_maps/cat.png would",
        "conditioning_images/ holds nothing",
        r"a\.txt \(and 1 more\) is no ordinary file, so its picture has no caption",
    )
    assert len(remarks) == len(expected)
    for pattern, remark in zip(expected, remarks, strict=True):
        assert re.search(pattern, remark)


def test_coco_captions(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        put(tmp_path / name)
    (tmp_path / "b.txt").write_text("from beside")
    images = [{"id": k, "file_name": name} for k, name in enumerate(("a.png", "b.png", "elsewhere.png"))]
    said = [{"id": 1, "image_id": 0, "caption": "the first "}, {"id": 2, "image_id": 0, "caption": "another"}]
    (tmp_path / "captions_val.json").write_text(json.dumps({"images": images, "annotations": said}))
    source = FolderSource(tmp_path)
    assert source.captions() == ["the first", "from beside", ""] and source.objects == ()


def test_coco_as_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """annotations/ beside the pictures' folder, which is named, or stood in."""
    for name in ("train2017/a.png", "train2017/b.png", "val2017/c.png"):
        put(tmp_path / name, (20, 10))
    (tmp_path / "annotations").mkdir()
    box = {"id": 1, "image_id": 0, "category_id": 5, "bbox": [0, 0, 10, 10]}
    for file, pictures in (("train2017", ("a.png", "b.png")), ("val2017", ("c.png",))):
        images = [{"id": k, "file_name": name} for k, name in enumerate(pictures)]
        coco(tmp_path / "annotations", images, [box], f"instances_{file}.json")
        said = {"images": images, "annotations": [{"id": 1, "image_id": 0, "caption": f"of {file}"}]}
        (tmp_path / "annotations" / f"captions_{file}.json").write_text(json.dumps(said))
    monkeypatch.chdir(tmp_path / "train2017")
    for path in (tmp_path / "train2017", Path()):
        train = FolderSource(path)
        assert train.captions() == ["of train2017", ""] and train.objects == ("face", "heart")
        assert train[0].boxes == (Box(1, 0, 0, 0.5, 1.0),) and not train.remarks
    assert FolderSource(tmp_path / "val2017").captions() == ["of val2017"]
    whole = FolderSource(tmp_path)
    assert not whole.objects and [re.sub(r";.*", "", told) for told in whole.remarks] == [
        "train2017/ has boxes that are not read here",
        "val2017/ has boxes that are not read here",
    ]
    (tmp_path / "val2017" / "annotations.json").write_text("{}")  # the folder's own counts
    with pytest.raises(UserError, match="no list 'images'"):
        FolderSource(tmp_path / "val2017")


def test_parts_with_annotations_are_named(tmp_path: Path) -> None:
    for name in ("train", "valid"):
        put(tmp_path / name / "a.png")
        coco(tmp_path / name, [{"id": 1, "file_name": "a.png"}], [], "_annotations.coco.json")
    told = FolderSource(tmp_path).remarks
    assert len(told) == 2
    for name, line in zip(("train", "valid"), told, strict=True):
        assert line == f"{name}/ has boxes that are not read here; name {tmp_path / name} to get them"


def test_boxes_in_metadata(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "3.png"):
        put(tmp_path / name, (20, 10))
    rows = [
        {"file_name": "1.png", "objects": {"bbox": [[2, 1, 4, 2], [0, 0, 20, 10]], "categories": [10, 9]}},
        {"file_name": "2.png", "objects": {"bbox": [], "category": []}},
        {"file_name": "3.png"},
    ]
    lines(tmp_path, rows)
    source = FolderSource(tmp_path)
    assert source.objects == ("9", "10")
    assert source[0].boxes == (Box(1, 0.1, 0.1, 0.3, 0.3), Box(0, 0, 0, 1, 1)) and source[2].boxes == ()
    coco(tmp_path, [{"id": 1, "file_name": "3.png"}], [])
    with pytest.raises(UserError, match="have boxes; keep one of them"):
        FolderSource(tmp_path)
    lines(tmp_path, [{"file_name": "3.png", "caption": "three"}])
    assert FolderSource(tmp_path).objects == ("face", "heart") and FolderSource(tmp_path).captions() == ["three"]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([1], "line 1: 'objects' is no"),
        ({"bbox": [[0, 0, 1, 1]]}, "with as many boxes as categories"),
        ({"bbox": [[0, 0, 1, 1]], "categories": [1, 2]}, "with as many boxes as categories"),
        ({"bbox": [[0, 0, 1]], "categories": [1]}, r"line 1, box 1: the box is \[0, 0, 1\]"),
        ({"bbox": [[0, 0, 1, 1]], "categories": [None]}, "line 1, box 1: the category is 'None'"),
        ({"bbox": [[0, 0, 1, 1]], "categories": [" "]}, "write its name or number"),
        ({"bbox": [[0, 0, 0, 1]], "categories": [1]}, "1 of 1 boxes have no extent"),
    ],
)
def test_mistaken_objects(tmp_path: Path, objects: object, message: str) -> None:
    put(tmp_path / "1.png")
    lines(tmp_path, [{"file_name": "1.png", "objects": objects}])
    with pytest.raises(UserError, match=message):
        FolderSource(tmp_path)


def test_a_line_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "MAX_LINE", 50)
    put(tmp_path / "1.png")
    lines(tmp_path, [{"file_name": "1.png"}, {"file_name": "1.png", "caption": "long " * 10}])
    with pytest.raises(UserError, match="line 2 has more than 50 characters"):
        FolderSource(tmp_path)


def test_a_few_useless_boxes_are_told(tmp_path: Path) -> None:
    put(tmp_path / "1.png", (10, 10))
    boxes = [[0, 0, 5, 5]] * 30 + [[3, 3, 0, 2]]
    lines(tmp_path, [{"file_name": "1.png", "objects": {"bbox": boxes, "categories": ["a"] * 31}}])
    source = FolderSource(tmp_path)
    assert len(source[0].boxes) == 30 and source.remarks == ("1 of 31 boxes are left out: no extent, or outside",)


def test_boxes_of_a_damaged_picture_wait_for_it(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"damaged")
    lines(tmp_path, [{"file_name": "1.png", "objects": {"bbox": [[0, 0, 5, 5]], "categories": ["a"]}}])
    with pytest.raises(BadImage, match=r"1\.png"):
        FolderSource(tmp_path)[0]


# --- label maps and conditioning images -------------------------------------------------------------------------------


def put_map(path: Path, size: tuple[int, int] = (12, 10), value: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros((size[1], size[0]), dtype=np.uint8)
    labels[: size[1] // 2, : size[0] // 2] = value
    Image.fromarray(labels).save(path)


def test_label_maps_beside_their_pictures(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "b.png")
    for name in ("a.labels.png", "b.labels.png"):
        put_map(tmp_path / name)
    source = FolderSource(tmp_path)
    assert [source.key(i) for i in range(len(source))] == ["a.jpg", "b.png"]
    assert source.areas == ("area 0", "area 1")
    labels = source[0].label_map
    assert labels is not None and labels.mode == "L" and np.asarray(labels)[0, 0] == 1
    put(tmp_path / "bottle.labels.png")  # a picture of labels: there is no bottle that they are of
    with pytest.raises(UserError, match=r"2 of 3 pictures of .* have a label map, bottle\.labels\.png has none"):
        FolderSource(tmp_path)


def test_folders_beside_one_another(tmp_path: Path) -> None:
    for name in ("cats/1", "dogs/1", "dogs/2.b"):
        put(tmp_path / "images" / f"{name}.jpg")
        put_map(tmp_path / "label_maps" / f"{name}.png", value=3)
        put(tmp_path / "conditioning_images" / f"{name}.webp", (24, 20))
    (tmp_path / "label_map_classes.txt").write_text("sky\nsea\nsand\nship\nsun")
    source = FolderSource(tmp_path)
    assert len(source) == 3 and source.classes == ("cats", "dogs") and source.paired
    assert source.areas == ("sky", "sea", "sand", "ship", "sun")
    record = source[2]
    assert record.label_map is not None and record.label_map.getextrema() == (0, 3)
    assert record.conditioning_image is not None and record.conditioning_image.size == record.image.size
    assert record.conditioning_image.mode == "RGB"
    (tmp_path / "images").rename(tmp_path / "photos")
    with pytest.raises(UserError, match="has label_maps/ but no images/"):
        FolderSource(tmp_path)


def test_companions_in_metadata(tmp_path: Path) -> None:
    put(tmp_path / "1.png")
    put(tmp_path / "drawn" / "1.png")
    put_map(tmp_path / "maps" / "one.png")
    row = {"file_name": "1.png", "label_map": "maps/one.png", "conditioning_image": "drawn/1.png"}
    lines(tmp_path, [row])
    source = FolderSource(tmp_path)
    assert len(source) == 1 and source.paired and source.areas == ("area 0", "area 1")
    lines(tmp_path, [row | {"label_map": "maps/two.png"}])
    with pytest.raises(UserError, match=r"line 1: there is no file 'maps/two\.png'"):
        FolderSource(tmp_path)
    lines(tmp_path, [row | {"conditioning_image": "../1.png"}])
    with pytest.raises(UserError, match="lies outside the folder"):
        FolderSource(tmp_path)


def test_companions_of_another_shape_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "images" / "1.png", (12, 10))
    put_map(tmp_path / "label_maps" / "1.png", (24, 20))
    source = FolderSource(tmp_path)
    with pytest.raises(BadImage, match=r"label_maps.1\.png is 24 x 20, its picture 12 x 10; make the label map as"):
        source[0]
    (tmp_path / "label_maps" / "1.png").unlink()
    for size, fits in (((24, 20), True), ((25, 20), True), ((7, 6), True), ((24, 24), False), ((20, 24), False)):
        put(tmp_path / "conditioning_images" / "1.png", size)
        source = FolderSource(tmp_path)
        if fits:
            partner = source[0].conditioning_image
            assert partner is not None and partner.size == (12, 10)
        else:
            with pytest.raises(BadImage, match=r"its picture 12 x 10; give both one shape"):
                source[0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stored", [False, True])
def test_what_belongs_to_a_turned_picture_is_turned_with_it(tmp_path: Path, orientation: int, stored: bool) -> None:
    """The picture is a white block on black; box, label map and drawing say where, of it upright or as stored."""
    raw = np.zeros((20, 32), dtype=np.uint8)
    raw[4:12, 8:12] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    Image.fromarray(raw).convert("RGB").save(tmp_path / "images" / "1.jpg", exif=exif, quality=100)
    upright = np.asarray(FolderSource(tmp_path)[0].image)[..., 0] > 127
    stored = stored and orientation > 4  # otherwise the size cannot tell, and what is upright is meant
    seen = raw > 127 if stored else upright
    (tmp_path / "label_maps").mkdir()
    Image.fromarray(seen.astype(np.uint8)).save(tmp_path / "label_maps" / "1.png")
    (tmp_path / "conditioning_images").mkdir()
    Image.fromarray(seen.astype(np.uint8) * 255).save(tmp_path / "conditioning_images" / "1.png")
    rows, columns = np.nonzero(seen)
    corner = [int(columns.min()), int(rows.min())]
    extent = [int(columns.max() + 1) - corner[0], int(rows.max() + 1) - corner[1]]
    height, width = seen.shape
    image = {"id": 1, "file_name": "1.jpg", "width": width, "height": height}
    coco(tmp_path, [image], [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [*corner, *extent]}])
    record = FolderSource(tmp_path)[0]
    assert record.label_map is not None and np.array_equal(np.asarray(record.label_map) == 1, upright)
    drawn = np.asarray(record.conditioning_image)[..., 0]
    assert np.array_equal(drawn > 127, upright)
    ys, xs = np.nonzero(upright)
    (wide, high), (box,) = record.image.size, record.boxes
    corners = (xs.min() / wide, ys.min() / high, (xs.max() + 1) / wide, (ys.max() + 1) / high)
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx(corners)


def test_fingerprint_follows_what_belongs_to_pictures(tmp_path: Path) -> None:
    prints = []

    def note() -> None:
        prints.append(FolderSource(tmp_path).fingerprint())

    put(tmp_path / "images" / "1.png")
    note()
    put_map(tmp_path / "label_maps" / "1.png")
    note()
    put_map(tmp_path / "label_maps" / "1.png", value=2)
    note()
    (tmp_path / "label_map_classes.txt").write_text("a\nb\nc")
    note()
    put(tmp_path / "conditioning_images" / "1.png")
    note()
    for extent in (5, 6):
        boxes = [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, extent, 5]}]
        coco(tmp_path, [{"id": 1, "file_name": "1.png"}], boxes)
        note()
    note()
    assert len(set(prints)) == len(prints) - 1 and prints[-1] == prints[-2]
