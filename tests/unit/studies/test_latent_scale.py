"""The study of the latents' scale: what it measures is exact on what can be said beforehand."""

from pathlib import Path

import pytest
import torch

from calotype.autoencoder.base import PixelSpace
from calotype.autoencoder.latent import LatentAutoencoder, LatentAutoencoderConfig
from calotype.errors import UserError
from calotype.model import load_autoencoder, save_autoencoder
from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.studies import latent_scale
from calotype.studies.base import studies
from calotype.studies.latent_scale import Found, LatentScaleStudy, apart, decided, louder, table, together


def small() -> LatentAutoencoder:
    torch.manual_seed(0)
    network = EncoderDecoderConfig(channels=16, multipliers=(1, 2), blocks=1, z_channels=4)
    return LatentAutoencoderConfig(channels=4, network=network).build().eval()


def test_louder_latents_are_the_same_picture(tmp_path: Path) -> None:
    autoencoder = small()
    autoencoder.stats.set(torch.tensor([0.1, -0.2, 0.3, 0.0]), torch.tensor([0.5, 1.0, 2.0, 1.5]))
    save_autoencoder(autoencoder, tmp_path / "model", 16, {})
    loud, x = louder(tmp_path, 5.0), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        z = autoencoder.encode(x)
        torch.testing.assert_close(loud.encode(x), 5 * z, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(loud.decode(5 * z), autoencoder.decode(z), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(load_autoencoder(tmp_path / "model").encode(x), z, rtol=1e-4, atol=1e-5)


def test_parts_come_back_in_their_order() -> None:
    maps = torch.arange(8 * 6 * 4, dtype=torch.uint8).reshape(8, 6, 4)
    large = together(maps)
    assert large.shape == (2, 12, 8)
    assert torch.equal(large[0, :6, 4:], maps[1]) and torch.equal(large[1, 6:, :4], maps[6])
    assert torch.equal(apart(large[:, None]), maps[:, None])


def test_the_table_says_when_half_is_decided() -> None:
    rows = {1.0: Found(1.01, 20.0, 25.0, (0.9, 0.6, 0.4, 0.0), 60.0), 5.0: Found(5.0, 30.0, 90.0, (0.4, 0.1), 60.0)}
    body = table(rows, 6.0).body
    assert [row[-1] for row in body] == ["-", "3", "1"] and body[0][2] == "6.0"
    assert decided(rows).title


def test_the_runs_are_the_recipes(tmp_path: Path) -> None:
    study = LatentScaleStudy(steps=7, seed=3)
    run = study.model_run(tmp_path)
    assert (run.trainer.steps, run.trainer.seed, run.autoencoder) == (7, 3, str(tmp_path))
    assert run.data.source == "embedded:scenes/train" == study.first_stage().data.source


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"scales": ()}, "different numbers"),
        ({"scales": (1.0, 1.0)}, "different numbers"),
        ({"scales": (-1.0,)}, "different numbers"),
        ({"n": 30}, "multiple of 4"),
        ({"n": 4}, "multiple of 4"),
        ({"sampling": 0}, "steps must lie"),
    ],
)
def test_what_cannot_be_is_refused(numbers: dict[str, object], said: str) -> None:
    with pytest.raises((ValueError, UserError), match=said):
        studies.create("latent-scale", **numbers)


def test_pixels_have_no_scale(tmp_path: Path) -> None:
    save_autoencoder(PixelSpace(), tmp_path / "model", 16, {})
    with pytest.raises(UserError, match="no scale to change"):
        louder(tmp_path, 2.0)


@pytest.mark.slow
def test_the_whole_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small, but all of it, and again from what it remembers."""
    monkeypatch.setattr(latent_scale, "SHOWN", 1)
    save_autoencoder(
        LatentAutoencoderConfig(
            channels=4, network=EncoderDecoderConfig(channels=16, multipliers=(1, 1, 1), blocks=1, z_channels=4)
        ).build(),
        tmp_path / "first" / "model",
        64,
        {},
    )
    study = LatentScaleStudy(autoencoder=str(tmp_path / "first"), steps=3, n=8, sampling=2)
    page = study.run(tmp_path / "study")
    assert page.is_file() and {"table.md", "decided.png", "larger.png", "scores.json"} <= {
        file.name for file in page.parent.iterdir()
    }
    assert study.run(tmp_path / "study") == page
