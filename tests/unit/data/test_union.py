"""A union has what all of its parts have, and no more."""

from pathlib import Path

import numpy as np
from PIL import Image

from calotype.data.folder import FolderSource
from calotype.data.scenes import Scenes
from calotype.data.source import Source
from calotype.data.union import Union


def declared(source: Source) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    return source.objects, source.areas, source.paired


def test_what_all_parts_have_is_kept() -> None:
    parts = {"seen": Scenes(n=16, split="train"), "held back": Scenes(n=16, split="val")}
    union = Union(parts, "both")
    assert declared(union) == declared(parts["seen"]) and union.classes == ("seen", "held back")
    for i, part, row in ((3, "seen", 3), (17, "held back", 1)):
        one, other = union[i], parts[part][row]
        assert one.label == tuple(parts).index(part) and one.boxes == other.boxes
        assert one.label_map is not None and other.label_map is not None
        assert one.label_map.tobytes() == other.label_map.tobytes()
        assert one.conditioning_image is not None and one.conditioning_image.mode == "RGB"


def test_what_only_some_have_is_left_out(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "a.labels.png")
    folder = FolderSource(tmp_path)
    assert folder.areas == ("area 0",)
    union = Union({"scenes": Scenes(n=16), "folder": folder}, "both")
    assert declared(union) == ((), (), False)  # the areas are others
    for i in (0, len(union) - 1):
        record = union[i]
        assert (record.boxes, record.label_map, record.conditioning_image) == ((), None, None)
