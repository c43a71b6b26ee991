"""Trials of super-resolution: models beside bicubic enlargement, on inputs that they know and on others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.data.degradations import BSR
from calotype.data.degradations.base import Degradation
from calotype.data.images import to_tensor
from calotype.evaluation.reconstruction import psnr
from calotype.generation.images import to_uint8
from calotype.runs import DataConfig
from calotype.studies.bench import Bench, compared
from calotype.studies.finding import Finding, Findings, Parts, Ratio
from calotype.types import Image


def super_resolution(bench: Bench) -> Parts:
    """The model, and bicubic enlargement."""
    return {
        "model": partial(_sharpened, bench, "model", partial(_by_model, "super-resolution")),
        "bicubic": partial(_sharpened, bench, "bicubic upsampling", _by_bicubic),
    }


Enlarge = Callable[[Bench, Tensor], Image]
"""Small pictures (n, 3, h, w) -> large ones."""


def _by_model(task: str, bench: Bench, small: Tensor) -> Image:
    return bench.samples(task, {"low_resolution": [*small]})


def _by_bicubic(bench: Bench, small: Tensor) -> Image:
    """Pillow's kernel, a = -0.5, which `antialias` stands for."""
    return F.interpolate(small, bench.images.shape[-2:], mode="bicubic", antialias=True).clamp(-1, 1)


def _sharpened(bench: Bench, what: str, enlarge: Enlarge) -> Findings:
    data, task = bench.runs["super-resolution"].data, "super-resolution"
    small = torch.stack(bench.asked(data, ("low_resolution",))["low_resolution"])
    images, rows = enlarge(bench, small), []
    real, control = compared(bench.images, bench.soft), compared(bench.images, images[bench.order])
    for name, value in compared(bench.images, images).items():
        rows.append(Finding.of(task, what, f"{name} to originals", value, real[name], control[name], n=bench.n))
    for name, value in compared(bench.soft, images).items():
        rows.append(Finding.of(task, what, f"{name} to originals through the autoencoder", value, n=bench.n))
    assert data.degradation is not None
    again, real_again, control_again = (
        Ratio.mean(psnr(shrunk(y, data.degradation), small)) for y in (images, bench.soft, images[bench.order])
    )
    return Findings(
        (
            *rows,
            Finding.of(task, what, GAINED, _gained(bench, small, images), n=bench.n),
            Finding.of(task, what, "PSNR of it made small to the wish", again, real_again, control_again, n=bench.n),
            bench.frechet_to_originals(task, what, images),
            bench.frechet_to_soft(task, what, images),
        )
    )


GAINED = "perceptual gained on bicubic upsampling"
"""Picture by picture, which says more than the two means whose spread is that of the pictures."""


def _gained(bench: Bench, small: Tensor, images: Image) -> Ratio:
    ours, theirs = (compared(bench.images, y)["perceptual"].part[:, 0] for y in (images, _by_bicubic(bench, small)))
    return Ratio.mean(theirs - ours)


def shrunk(images: Image, degradation: Degradation) -> Tensor:
    """Pictures made small by a degradation that draws nothing."""
    random = np.random.default_rng(0)
    pixels = to_uint8(images).permute(0, 2, 3, 1).numpy()
    small = np.stack([degradation(p, random) for p in pixels])
    return to_tensor(small)


BLIND, SEEING = "blind-super-resolution", "super-resolution"
"""Trained on what the real world does to pictures, and on bicubic shrinking alone."""


def blind_super_resolution(bench: Bench) -> Parts:
    """Both models and bicubic enlargement: on the inputs of each, and on such as neither has learned from."""
    ways: dict[str, Enlarge] = {"blind": partial(_by_model, BLIND), "upsampling": _by_bicubic}
    if SEEING in bench.trained:
        ways["bicubic-trained"] = partial(_by_model, SEEING)
    data = bench.runs[BLIND].data
    inputs = {
        "bicubic": bench.runs[SEEING].data,
        "light-bsr": data,
        "full-bsr": replace(data, degradation=BSR(4)),
    }
    return {
        f"{way}-on-{name}": partial(_deblinded, bench, f"{way} on {name} inputs", asked, enlarge)
        for name, asked in inputs.items()
        for way, enlarge in ways.items()
    }


def _deblinded(bench: Bench, what: str, data: DataConfig, enlarge: Enlarge) -> Findings:
    small = torch.stack(bench.asked(data, ("low_resolution",))["low_resolution"])
    images = enlarge(bench, small)
    real, control = compared(bench.images, bench.soft), compared(bench.images, images[bench.order])
    rows = [
        Finding.of(BLIND, what, f"{name} to originals", value, real[name], control[name], n=bench.n)
        for name, value in compared(bench.images, images).items()
    ]
    gained = Finding.of(BLIND, what, GAINED, _gained(bench, small, images), n=bench.n)
    return Findings((*rows, gained, bench.frechet_to_originals(BLIND, what, images)))
