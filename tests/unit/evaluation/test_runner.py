"""Records are complete, plain and honest about N."""

import json
import math

import pytest
import torch
from torch import Tensor, nn

from calotype.evaluation.features import Lite0
from calotype.evaluation.frechet import Moments, frechet_distance
from calotype.evaluation.runner import Comparison, Spread, score_generation, score_reconstruction
from calotype.losses.perceptual import Perceptual, PerceptualDistance
from calotype.registry import to_plain


class Means:
    """Two features, so that small sets have full covariances."""

    name = "channel means"
    sha256 = "0" * 64

    def __call__(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))[:, :2].double()


def pictures(n: int, seed: int, shift: float = 0.0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(n, 3, 1, 1, generator=g) * 0.2 + torch.randn(n, 3, 16, 16, generator=g) * 0.1 + shift).clamp(
        -1, 1
    )


def test_spread() -> None:
    assert Spread.of(torch.tensor([1.0, 3.0])) == Spread(2.0, math.sqrt(2))
    assert Spread.of(torch.tensor([5.0])) == Spread(5.0, 0.0)


def test_reconstruction_record() -> None:
    x = pictures(10, 0)
    y = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)
    scores = score_reconstruction(zip(x.split(4), y.split(4), strict=True), pictures="test pictures")
    assert scores.n == 10 and scores.side == (16, 16)
    assert scores.psnr.mean == pytest.approx(32.0, abs=0.5)  # 20 log10(2 / 0.05)
    assert scores.distance == "perceptual (lite0)" and scores.distance in scores.protocol
    assert scores.distance_sha256 == Perceptual().sha256
    assert 0 < scores.ssim.mean < 1 and scores.perceptual.mean > 0 and scores.frechet > 0
    assert scores.sha256 == Lite0().sha256 and "test pictures" in scores.protocol and "16 x 16" in scores.protocol
    plain = json.loads(json.dumps(to_plain(scores), allow_nan=False))
    assert plain["psnr"]["mean"] == scores.psnr.mean


def test_perfect_reconstruction_is_finite() -> None:
    x = pictures(4, 0)
    scores = score_reconstruction([(x, x)])
    assert (scores.psnr.mean, scores.psnr.std) == (100.0, 0.0)
    assert scores.frechet == pytest.approx(0.0, abs=1e-6)
    json.dumps(to_plain(scores), allow_nan=False)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        score_reconstruction([(x[:1], x[:1])])


class Absolute(PerceptualDistance):
    """The mean absolute difference, as if it were one tap."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Flatten(0, 0)), "absolute")

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).abs().mean((1, 2, 3))

    def compare(self, taps: object) -> Tensor:
        raise NotImplementedError


def test_another_perceptual_distance_is_used_and_named() -> None:
    x = torch.zeros(4, 3, 16, 16)
    y = x + torch.tensor([0.0, 2.0, 4.0, 6.0]).view(4, 1, 1, 1) / 127.5
    scores = score_reconstruction([(x, y)], extractor=Means(), perceptual=Absolute())
    assert scores.perceptual.mean == pytest.approx(3 / 127.5, rel=1e-4)
    assert (
        scores.distance == "absolute" and "absolute per picture" in scores.protocol and "lite0" not in scores.protocol
    )


def test_a_comparison_tells_every_picture_and_does_not_depend_on_batches() -> None:
    x = pictures(9, 0)
    y = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)
    whole, parts = (Comparison(Means(), Absolute()) for _ in range(2))
    values = whole.add(x, y)
    some = torch.cat([parts.add(a, b) for a, b in zip(x.split(4), y.split(4), strict=True)], 1)
    torch.testing.assert_close(values, some)
    a, b = whole.scores(), parts.scores()
    assert a.psnr == Spread.of(values[0]) and a.frechet == pytest.approx(b.frechet) and a.halves == b.halves


def test_halves_are_disjoint_at_half_of_n_and_the_floor_is_for_perfect_reconstructions() -> None:
    x = pictures(61, 0)
    perfect = score_reconstruction([(x, x)], extractor=Means(), perceptual=Absolute())
    assert perfect.frechet == pytest.approx(0.0, abs=1e-9), "the same pictures on both sides have no distance"
    assert perfect.halves is not None and perfect.halves.n == 30
    assert perfect.halves.reconstructed == perfect.halves.floor and perfect.halves.floor.mean > 0
    bad = score_reconstruction([(x, (x + 0.3).clamp(-1, 1))], extractor=Means(), perceptual=Absolute())
    assert bad.halves is not None and bad.halves.floor == perfect.halves.floor
    assert bad.halves.reconstructed.mean == pytest.approx(2 * 0.3**2, rel=0.3)
    assert "30 other originals" in bad.protocol and "N is 61" in bad.protocol
    assert score_reconstruction([(x[:3], x[:3])], extractor=Means(), perceptual=Absolute()).halves is None


def test_frechet_of_reconstructions_is_that_of_their_features() -> None:
    x, y = pictures(12, 0), pictures(12, 1)
    features = [Means()((p * 127.5 + 127.5).round() / 127.5 - 1) for p in (x, y)]
    wanted = frechet_distance(*(Moments.of(f) for f in features))
    scores = score_reconstruction([(x, y)], extractor=Means(), perceptual=Absolute())
    assert scores.frechet == pytest.approx(wanted, rel=1e-4)


def test_generation_is_at_the_floor_for_real_pictures_and_above_it_for_others() -> None:
    real = pictures(120, 0)
    good = score_generation(pictures(60, 1), real, extractor=Means(), splits=16)
    bad = score_generation(pictures(60, 1, shift=0.3), real, extractor=Means(), splits=16)
    assert good.n == 60 and good.floor == bad.floor
    assert good.frechet.mean < 4 * good.floor.mean
    assert bad.frechet.mean == pytest.approx(2 * 0.3**2, rel=0.3)
    assert bad.frechet.mean > 10 * bad.floor.mean


def test_n_is_the_same_on_every_side() -> None:
    assert score_generation(pictures(60, 1), pictures(50, 0), extractor=Means()).n == 25
    assert score_generation(pictures(6, 1), pictures(50, 0), extractor=Means()).n == 6
    with pytest.raises(ValueError, match="at least 2 samples"):
        score_generation(pictures(6, 1), pictures(3, 0), extractor=Means())


def test_same_seed_same_scores() -> None:
    real, samples = pictures(40, 0), pictures(20, 1)
    a, b, c = (score_generation(samples, real, extractor=Means(), seed=s) for s in (0, 0, 1))
    assert a == b and a.floor != c.floor


def test_generation_record_with_copies() -> None:
    training, heldout = pictures(30, 2), pictures(30, 3)
    scores = score_generation(
        training[:20], training, training=training, heldout=heldout, extractor=Means(), through=lambda x: x
    )
    assert scores.memorisation is not None and scores.memorisation.fraction == 1.0
    assert scores.memorisation.pixels.neighbour == tuple(range(20))
    assert "mirror" in scores.protocol and "autoencoder" in scores.protocol and "FID" in scores.protocol
    plain = json.loads(json.dumps(to_plain(scores), allow_nan=False))
    assert plain["memorisation"]["expected"] == pytest.approx(2 / 31)
    assert plain["sha256"] == "0" * 64
    with pytest.raises(ValueError, match="only one"):
        score_generation(training, training, training=training, extractor=Means())
