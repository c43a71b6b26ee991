"""What is said about a source is what is in it."""

from pathlib import Path

import numpy as np
from PIL import Image

from calotype.data.folder import FolderSource
from calotype.data.summary import summarize


def test_summary_counts_what_is_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k, (name, size) in enumerate({"cats/a.png": (20, 10), "cats/b.png": (20, 10), "dogs/c.png": (8, 8)}.items()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text("a pet" if k < 2 else "")
    (tmp_path / "dogs" / "d.png").write_bytes((tmp_path / "dogs" / "c.png").read_bytes())
    (tmp_path / "dogs" / "e.png").write_bytes(b"damaged")
    told: list[int] = []
    summary, shown = summarize(FolderSource(tmp_path), thumbnails=3, side=12, advance=told.append)
    assert summary.pictures == 5 == sum(told) and summary.sizes == {(20, 10): 2, (8, 8): 2}
    assert summary.classes == {"cats": 2, "dogs": 3} and summary.smallest_side == 8
    assert (summary.captioned, summary.captions, summary.longest) == (2, 1, "a pet")
    assert list(summary.bad) == [str(Path("dogs") / "e.png")]
    assert summary.duplicates == [[str(Path("dogs") / "c.png"), str(Path("dogs") / "d.png")]]
    assert [text for _, text in shown] == ["a pet", "a pet", "dogs"]
    assert all(pixels.shape == (12, 12, 3) for pixels, _ in shown)


def test_one_picture_makes_one_thumbnail(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "only.png")
    summary, shown = summarize(FolderSource(tmp_path), thumbnails=32, side=8)
    assert summary.pictures == 1 and len(shown) == 1 and shown[0][1] == "only.png"
