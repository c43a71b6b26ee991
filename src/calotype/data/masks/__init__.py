"""Where pictures have holes: what inpainting learns to fill.

    generator = masks.create("mixed")
    hole = generator(256, 256, rng)      bool (H, W), TRUE IN THE HOLE, False where pixels are known

`calotype.diffusion.wrappers` speaks of what is known instead: there it is `~hole`.

    irregular    Irregular    strokes of a brush                      irregular.py
    boxes        Boxes        rectangles                              boxes.py
    mixed        Mixed        one of several; LaMa's by default       mixed.py
    scaled       Scaled       made for another size                   scaled.py
    limited      Limited      at most a share of the picture          limited.py
    half, centre, border      Half, Centre, Border                    plain.py

    THIN_256 ... THICK_512    LaMa's test masks                       lama.py

All randomness comes from the generator that the caller gives.
"""

from calotype.data.masks.base import Hole, MaskGenerator, masks
from calotype.data.masks.boxes import Boxes
from calotype.data.masks.irregular import Irregular
from calotype.data.masks.lama import MEDIUM_256, MEDIUM_512, THICK_256, THICK_512, THIN_256, THIN_512
from calotype.data.masks.limited import Limited
from calotype.data.masks.mixed import Mixed
from calotype.data.masks.plain import Border, Centre, Half
from calotype.data.masks.scaled import Scaled

__all__ = [
    "MEDIUM_256",
    "MEDIUM_512",
    "THICK_256",
    "THICK_512",
    "THIN_256",
    "THIN_512",
    "Border",
    "Boxes",
    "Centre",
    "Half",
    "Hole",
    "Irregular",
    "Limited",
    "MaskGenerator",
    "Mixed",
    "Scaled",
    "masks",
]
