"""The test masks of LaMa: thin, medium and thick, for pictures of 256 and of 512 pixels.

Suvorov et al. 2021, https://arxiv.org/abs/2109.07161, and its code, `random_thin_256.yaml` to `random_thick_512.yaml`;
LDM's evaluation follows it at 512. ALL ARE TRUE IN THE HOLE. Widths are one more than drawn there, and strokes up to
one more than its files say: see `Irregular`.

    THICK_512(512, 512, rng)             at most half of the picture
    Scaled(THICK_512, 512)               the same for pictures of any size
"""

from __future__ import annotations

from calotype.data.masks.base import MaskGenerator
from calotype.data.masks.boxes import Boxes
from calotype.data.masks.irregular import Irregular
from calotype.data.masks.limited import Limited
from calotype.data.masks.mixed import Mixed


def _test_masks(strokes: tuple[int, int], lengths: int, widths: int, boxes: Boxes | None) -> MaskGenerator:
    """As the files have it: lengths and widths are how many different ones there are."""
    lines = Irregular(strokes, lengths=(10, 9 + lengths), widths=(6, 5 + widths))
    return Limited(lines if boxes is None else Mixed((lines, boxes), (1.0, 0.3)))


THIN_256 = _test_masks((4, 51), 40, 10, None)
MEDIUM_256 = _test_masks((4, 6), 100, 50, Boxes((1, 5), (10, 50), 0))
THICK_256 = _test_masks((1, 6), 200, 100, Boxes((1, 3), (30, 150), 10))
THIN_512 = _test_masks((4, 71), 100, 20, None)
MEDIUM_512 = _test_masks((4, 11), 200, 100, Boxes((1, 5), (30, 150), 0))
THICK_512 = _test_masks((1, 6), 450, 250, Boxes((1, 4), (30, 300), 10))
