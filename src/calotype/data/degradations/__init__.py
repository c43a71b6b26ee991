"""Pictures made worse on purpose: what super-resolution learns to undo.

    degradation = degradations.create("bsr_light")
    low = degradation(high, rng)         uint8 (H, W, 3) -> uint8 (H / 4, W / 4, 3)

    bicubic      Bicubic     known: antialiased shrinking                       bicubic.py
    bsr_light    BSRLight    unknown, mild: LDM-BSR's                           bsr_light.py, shuffled.py
    bsr          BSR         unknown, severe: BSRGAN's                          bsr.py, shuffled.py

All randomness comes from the generator that the caller gives. numpy and Pillow alone: degradations run in the threads
that decode, where PyTorch's parallel loops would fight over the cores with training.
"""

from calotype.data.degradations.base import Degradation, degradations
from calotype.data.degradations.bicubic import Bicubic
from calotype.data.degradations.blur import RandomBlur
from calotype.data.degradations.bsr import BSR
from calotype.data.degradations.bsr_light import BSRLight
from calotype.data.degradations.jpeg import RandomJPEG
from calotype.data.degradations.noise import RandomNoise
from calotype.data.degradations.shuffled import Shuffled

__all__ = [
    "BSR",
    "BSRLight",
    "Bicubic",
    "Degradation",
    "RandomBlur",
    "RandomJPEG",
    "RandomNoise",
    "Shuffled",
    "degradations",
]
