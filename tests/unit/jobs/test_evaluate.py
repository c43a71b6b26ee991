"""`calotype evaluate` on an autoencoder that is known: what it writes, says and refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.vgg_toys import random_weights

from calotype.autoencoder.base import PixelSpace
from calotype.autoencoder.bottleneck.base import BottleneckConfig
from calotype.autoencoder.bottleneck.finite_scalar import FiniteScalarConfig
from calotype.autoencoder.bottleneck.gaussian import GaussianConfig
from calotype.autoencoder.bottleneck.vector_quantized import VectorQuantizedConfig
from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.data.images import open_image, square, to_tensor
from calotype.errors import UserError
from calotype.evaluation.reconstruction import psnr
from calotype.jobs.evaluate import evaluate
from calotype.losses.lpips import Lpips
from calotype.losses.perceptual import Perceptual
from calotype.model import load_autoencoder, save_autoencoder
from calotype.nn.encoder_decoder import EncoderDecoderConfig

Saved = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """saved(bottleneck): a run's folder with an untrained autoencoder of factor 2, for pictures of 16 pixels."""

    def save(bottleneck: BottleneckConfig | None = None) -> Path:
        torch.manual_seed(0)
        network = EncoderDecoderConfig(channels=8, multipliers=(1, 2), blocks=1, z_channels=2)
        config = LatentAutoencoderConfig(channels=2, network=network, bottleneck=bottleneck or GaussianConfig())
        save_autoencoder(config.build(), tmp_path / "run" / "model", 16, {})
        return tmp_path / "run"

    return save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven pictures of noise, the louder the later."""
    (tmp_path / "some pictures").mkdir()
    dice = np.random.default_rng(0)
    for k in range(11):
        noise = dice.normal(128, 5 + 10 * k, (20, 24, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / "some pictures" / f"{k:02d}.png")
    return tmp_path / "some pictures"


def test_scores_are_those_of_the_pictures(saved: Saved, folder: Path) -> None:
    run = saved()
    done = evaluate(run, str(folder))
    autoencoder = load_autoencoder(run / "model")
    x = torch.stack([to_tensor(np.asarray(square(open_image(f), 16))) for f in sorted(folder.iterdir())])
    with torch.no_grad():
        y = autoencoder.decode(autoencoder.encode(x)).clamp(-1, 1)
    values = psnr(x, y)
    assert [done.psnr[i] for i in range(11)] == pytest.approx(values.tolist(), abs=1e-3)
    assert done.reconstruction.psnr.mean == pytest.approx(float(values.mean()), abs=1e-3)
    assert done.reconstruction.perceptual.mean == pytest.approx(float(Perceptual()(x, y).mean()), rel=0.02)
    assert done.reconstruction.side == (16, 16) and done.reconstruction.n == 11
    assert done.latents.bits_per_pixel is not None and done.latents.codebook is None


def test_files_hold_what_was_found(saved: Saved, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved()
    done = evaluate(run, str(folder))
    assert done.out == run / "evaluation" / "some-pictures"
    assert sorted(f.name for f in done.out.iterdir()) == ["report.html", "scores.json"]
    record = json.loads((done.out / "scores.json").read_text())
    assert record["reconstruction"]["psnr"]["mean"] == done.reconstruction.psnr.mean
    assert record["reconstruction"]["distance"] == "perceptual (lite0)"
    assert record["latents"]["std"] == list(done.latents.std) and record["data"] == str(folder)
    page = (done.out / "report.html").read_text()
    ranked = sorted(done.psnr, key=lambda i: -done.psnr[i])
    best, worst = page[page.index("<h2>The best") :], page[page.index("<h2>The worst") :]
    captions = [re.findall(r"<figcaption>(\d\d).png, ", part)[:4] for part in (page, best, worst)]
    assert [[int(k) for k in part] for part in captions] == [ranked[3:7], ranked[:4], ranked[::-1][:4]]
    assert "PSNR of each picture" in page and "<svg" in page and "R-FD" in page
    out = capsys.readouterr().out
    for word in ("11 of 16 x 16", "dB", "SSIM", "perceptual (lite0)", "R-FD (lite0)", "floor", "f = 2, 2 channels"):
        assert word in out, out
    assert "(KL to the prior)" in out and "should be about 1" in out and "evaluating 11 pictures" in out


@pytest.mark.parametrize("bottleneck", [VectorQuantizedConfig(size=16), FiniteScalarConfig((4, 4))], ids=["vq", "fsq"])
def test_discrete_codes_are_counted(
    bottleneck: BottleneckConfig, saved: Saved, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = evaluate(saved(bottleneck), str(folder), out=folder.parent / "x")
    assert done.latents.bits_per_pixel == 1.0
    codebook = done.latents.codebook
    assert codebook is not None and codebook.vectors == 11 * 64 and codebook.size == 16
    out = capsys.readouterr().out
    assert f"{codebook.used} of 16" in out and "perplexity" in out and re.search(r"bits per pixel +1\.000", out)
    assert (folder.parent / "x" / "scores.json").is_file() and not (folder.parent / "run" / "evaluation").exists()


def test_a_limit_is_spread_over_the_data_and_a_side_is_taken(saved: Saved, folder: Path) -> None:
    done = evaluate(saved(), str(folder), side=32, limit=4)
    assert done.reconstruction.n == 4 and done.reconstruction.side == (32, 32)
    assert "4 of the 11 of" in done.reconstruction.protocol
    page = (done.out / "report.html").read_text()
    assert set(re.findall(r"(\d\d)\.png, ", page)) == {"00", "02", "05", "08"}


def test_embedded_pictures(saved: Saved) -> None:
    done = evaluate(saved(), "embedded:fashion/val", limit=3)
    assert done.out.name == "fashion-val" and done.reconstruction.n == 3


def test_two_pictures_are_enough(saved: Saved, folder: Path) -> None:
    done = evaluate(saved(), str(folder), limit=2)
    assert done.reconstruction.halves is None and "floor" not in done.reconstruction.protocol


def test_lpips_is_used_and_named(saved: Saved, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = random_weights(folder.parent / "vgg.safetensors")
    run = saved()
    done = evaluate(run, str(folder), limit=3, perceptual="lpips", weights=weights)
    assert done.reconstruction.distance == "LPIPS (VGG16)"
    assert done.reconstruction.distance_sha256 == Lpips(str(weights)).build().sha256
    assert "LPIPS (VGG16) " in capsys.readouterr().out
    other = evaluate(run, str(folder), limit=3)
    assert other.reconstruction.perceptual != done.reconstruction.perceptual
    assert other.reconstruction.psnr == done.reconstruction.psnr


def test_a_few_unreadable_pictures_are_told(saved: Saved, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "05.png").write_bytes(b"no picture")
    done = evaluate(saved(), str(folder))
    assert done.reconstruction.n == 10 and 5 not in done.psnr
    assert "1 pictures cannot be read: " in capsys.readouterr().out


def test_pixels_have_nothing_to_evaluate(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_autoencoder(PixelSpace(), tmp_path / "run" / "model", 16, {})
    for run, message in {"run": "run works on pixels: there is no auto", "pixels": "pixels are not compressed"}.items():
        with pytest.raises(UserError, match=message):
            evaluate(Path(run), str(folder))
    assert not (tmp_path / "run" / "evaluation").exists()
