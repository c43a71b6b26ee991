"""Pictures of any size through the job, tiled and untiled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from calotype.autoencoder import tiling
from calotype.autoencoder.latent import LatentAutoencoder, LatentAutoencoderConfig
from calotype.data.images import to_tensor
from calotype.evaluation.reconstruction import PSNR_CEILING, psnr
from calotype.generation.images import to_uint8
from calotype.jobs import reconstruct as job
from calotype.model import save_autoencoder
from calotype.nn.encoder_decoder import EncoderDecoderConfig


@pytest.fixture
def autoencoder() -> LatentAutoencoder:
    torch.manual_seed(0)
    return LatentAutoencoderConfig(2, EncoderDecoderConfig(8, (1, 2, 2), 1, 2)).build().eval()


@pytest.fixture
def run(autoencoder: LatentAutoencoder, tmp_path: Path) -> Path:
    save_autoencoder(autoencoder, tmp_path / "run" / "model", 16, {})
    return tmp_path / "run"


def paint(path: Path, width: int, height: int, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def halves(path: Path, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    both = to_tensor(np.asarray(Image.open(path)))[None]
    return both[..., :width], both[..., width + job.GAP :]


def test_large_pictures_go_in_tiles(
    run: Path,
    autoencoder: LatentAutoencoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same pixels but for rounding, and a line that says so."""
    picture = paint(tmp_path / "odd.png", 50, 37)
    (whole,) = job.reconstruct(run, [picture], tmp_path / "whole")
    assert "tiles" not in capsys.readouterr().out
    stream = tiling.stream
    monkeypatch.setattr(tiling, "fits", lambda autoencoder, height, width: False)
    monkeypatch.setattr(tiling, "stream", lambda *args: stream(*args, tile=8, memory=0))
    (tiled,) = job.reconstruct(run, [picture], tmp_path / "tiled")
    assert "50 x 37 is large; it goes through in tiles" in "".join(capsys.readouterr().out.splitlines())
    x, y = halves(whole, 50)
    assert torch.equal(to_uint8(x), to_uint8(to_tensor(np.asarray(Image.open(picture)))[None]))
    wanted = tiling.reconstruct(autoencoder, x)
    for _, result in ((x, y), halves(tiled, 50)):
        assert (to_uint8(result).int() - to_uint8(wanted).int()).abs().max() <= 1


def test_several_pictures_get_a_mean_and_a_sheet(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k, size in enumerate(((20, 12), (300, 1), (17, 33))):
        paint(tmp_path / "pictures" / f"{k}.png", *size, seed=k)
    written = job.reconstruct(run, [tmp_path / "pictures"], tmp_path / "out")
    scores = [float(psnr(*halves(file, w))[0]) for file, w in zip(written, (20, 300, 17), strict=True)]
    assert f"mean PSNR of 3 pictures: {sum(scores) / 3:.2f} dB" in capsys.readouterr().out
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"0000-0.png", "0001-1.png", "0002-2.png", "sheet.png"}


def test_a_sheet_shows_the_first_sixteen_pairs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(18):
        paint(tmp_path / "pictures" / f"{k:02d}.png", 8, 8, seed=k)
    shown: list[torch.Tensor] = []
    grid = job.grid
    monkeypatch.setattr(job, "grid", lambda images, **options: (shown.append(images), grid(images, **options))[1])
    written = job.reconstruct(run, [tmp_path / "pictures"], tmp_path / "out")
    assert shown[0].shape == (32, 3, 8, 8)
    for k, file in enumerate(written[:16]):
        for cell, half in zip(shown[0][2 * k : 2 * k + 2], halves(file, 8), strict=True):
            assert torch.equal(cell, half[0])


def test_one_picture_gets_neither(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file,) = job.reconstruct(run, [paint(tmp_path / "a.png", 9, 9)], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == [file] and "mean" not in capsys.readouterr().out


def test_decibels_are_those_of_the_evaluation() -> None:
    a, b = np.random.default_rng(1).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    assert job._psnr(a, b) == pytest.approx(float(psnr(to_tensor(a)[None], to_tensor(b)[None])), abs=1e-9)
    assert job._psnr(a, a) == PSNR_CEILING
