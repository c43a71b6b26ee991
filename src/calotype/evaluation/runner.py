"""Measurements as records: numbers with their N, their feature network and the sentence that says how they were taken.

scores = score_generation(samples, real, training=train, heldout=val)
write_json("scores.json", to_plain(scores))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.evaluation.features import Extractor, Lite0, Pictures, extract
from calotype.evaluation.frechet import Moments, frechet_distance
from calotype.evaluation.memorisation import Memorisation, find_copies
from calotype.evaluation.reconstruction import psnr, ssim
from calotype.generation.images import to_uint8
from calotype.losses.perceptual import Perceptual, PerceptualDistance
from calotype.rng import generator
from calotype.types import Image


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1; zero for one value)."""

    mean: float
    std: float

    @classmethod
    def of(cls, values: Tensor) -> Spread:
        """Of values (n,), n >= 1."""
        v = values.double()
        return cls(float(v.mean()), float(v.std()) if len(v) > 1 else 0.0)


@dataclass(frozen=True)
class Halves:
    """Fréchet distances between disjoint halves of the pictures, at one N, so that they may be compared.

    Args:
        n: pictures on *each* side.
        reconstructed: reconstructions of one half against originals of the other; over random halves.
        floor: originals against originals, same halves: what perfect reconstructions would score.
    """

    n: int
    reconstructed: Spread
    floor: Spread


@dataclass(frozen=True)
class ReconstructionScores:
    """How well pictures come back from the latent space; std is over pictures.

    Args:
        n: number of pictures.
        side: (height, width) in pixels.
        psnr: dB.
        ssim: at most 1.
        perceptual: perceptual distance by `distance`, 0 = equal.
        frechet: Fréchet distance between originals and reconstructions of the *same* pictures ("R-FD"), 0 = equal; no
            FID.
        network, sha256: the feature network of the Fréchet distances and its weights.
        distance, distance_sha256: name and weights of the perceptual distance.
        protocol: how this was measured.
        halves: what a Fréchet distance at half of n means; None for fewer than 4 pictures.
    """

    n: int
    side: tuple[int, int]
    psnr: Spread
    ssim: Spread
    perceptual: Spread
    frechet: float
    network: str
    sha256: str
    distance: str
    distance_sha256: str
    protocol: str
    halves: Halves | None = None


class Comparison:
    """Originals against reconstructions, batch by batch; it keeps numbers and features, no pictures.

    Args:
        extractor: the network of the Fréchet distance; `Lite0` if None.
        perceptual: the perceptual distance; that of lite0 if None.
    """

    def __init__(self, extractor: Extractor | None = None, perceptual: PerceptualDistance | None = None) -> None:
        self._extractor, self._distance = extractor or Lite0(), Perceptual() if perceptual is None else perceptual
        self._side = (0, 0)
        self._values: list[Tensor] = []
        self._real: list[Tensor] = []
        self._fake: list[Tensor] = []

    @torch.no_grad()
    def add(self, x: Image, y: Image) -> Tensor:
        """Compare originals x with reconstructions y, (B, 3, H, W) in [-1, 1], all batches of one size.

        Returns:
            PSNR in dB, SSIM and perceptual distance of each pair, (3, B) float64 on the CPU.
        """
        x, y, self._distance = _eight_bit(x), _eight_bit(y), self._distance.to(x.device)
        self._side = (x.shape[-2], x.shape[-1])
        values = torch.stack([psnr(x, y), ssim(x, y), self._distance(x, y).double()]).cpu()
        self._values.append(values)
        self._real.append(self._extractor(x))
        self._fake.append(self._extractor(y))
        return values

    def scores(self, pictures: str = "pictures", *, splits: int = 8, seed: int = 0) -> ReconstructionScores:
        """The record of all that was added.

        Args:
            pictures: what they are, for the protocol ("130 held-out pictures of ...").
            splits, seed: of the random halves.

        Raises:
            ValueError: fewer than two pictures.
        """
        n = sum(len(f) for f in self._real)
        if n < 2:
            raise ValueError(f"at least 2 pairs of pictures were expected, got {n}")
        values, real, fake = torch.cat(self._values, 1), torch.cat(self._real), torch.cat(self._fake)
        halves = _halves(real, fake, splits, seed) if n >= 4 else None
        told = (
            f" Halves: reconstructions of {halves.n} pictures against {halves.n} other originals, and the floor, these "
            f"originals against those, mean and standard deviation over {splits} random choices (seed {seed}); they "
            f"compare with each other, not with R-FD, whose N is {n} and whose originals are the same pictures."
            if halves
            else ""
        )
        return ReconstructionScores(
            n,
            self._side,
            Spread.of(values[0]),
            Spread.of(values[1]),
            Spread.of(values[2]),
            frechet_distance(Moments.of(real), Moments.of(fake)),
            self._extractor.name,
            self._extractor.sha256,
            self._distance.name,
            self._distance.sha256,
            f"{n} {pictures} of {self._side[1]} x {self._side[0]} pixels, 8-bit RGB; PSNR, SSIM and "
            f"{self._distance.name} per picture, then mean and standard deviation over pictures; R-FD: Fréchet "
            f"distance between originals and their reconstructions, features: {self._extractor.name}. Compare only at "
            f"equal N, never with FID.{told}",
            halves,
        )


def _halves(real: Tensor, fake: Tensor, splits: int, seed: int) -> Halves:
    """The Fréchet distances of `Halves` for features (N, D) of originals and their reconstructions."""
    n = len(real) // 2
    reconstructed, floor = [], []
    for k in range(splits):
        order = torch.randperm(len(real), generator=generator(seed, "halves", k))
        one, other = order[:n], Moments.of(real[order[n : 2 * n]])
        reconstructed.append(frechet_distance(Moments.of(fake[one]), other))
        floor.append(frechet_distance(Moments.of(real[one]), other))
    return Halves(n, *(Spread.of(torch.tensor(v, dtype=torch.float64)) for v in (reconstructed, floor)))


def score_reconstruction(
    pairs: Iterable[tuple[Image, Image]],
    *,
    extractor: Extractor | None = None,
    perceptual: PerceptualDistance | None = None,
    pictures: str = "pictures",
) -> ReconstructionScores:
    """Compare originals with reconstructions.

    Args:
        pairs: batches (original, reconstruction), each (B, 3, H, W) in [-1, 1], all of one size; at least 2 pictures.
        extractor, perceptual: see `Comparison`.
        pictures: what they are, for the protocol ("130 held-out pictures of ...").

    Raises:
        ValueError: fewer than two pictures.
    """
    comparison = Comparison(extractor, perceptual)
    for x, y in pairs:
        comparison.add(x, y)
    return comparison.scores(pictures)


@dataclass(frozen=True)
class GenerationScores:
    """How close generated pictures are to real ones as a set, and whether they are copies.

    Args:
        n: pictures on *each* side of every comparison.
        frechet: FD-lite0 of n generated against n real pictures; mean and std over random choices.
        floor: FD-lite0 of n real against n other real pictures, over the same choices: what perfection would score.
        network, sha256: the feature network and its weights.
        protocol: how this was measured.
        memorisation: nearest training pictures; None if no training set was given.
    """

    n: int
    frechet: Spread
    floor: Spread
    network: str
    sha256: str
    protocol: str
    memorisation: Memorisation | None = None


def score_generation(
    samples: Pictures,
    real: Pictures,
    *,
    training: Pictures | None = None,
    heldout: Pictures | None = None,
    through: Callable[[Image], Image] | None = None,
    mirrored: bool = True,
    extractor: Extractor | None = None,
    seed: int = 0,
    splits: int = 8,
    pictures: str = "real pictures",
) -> GenerationScores:
    """Fréchet distance with its real-against-real floor at the same N, and the search for copies.

    A Fréchet distance shrinks as N grows, so a lone number means nothing. The real pictures are split at random into
    halves A and B of n = min(samples, real // 2); the score is d(n samples, A), the floor d(B, A); both are averaged
    over `splits` splits.

    Args:
        samples: generated pictures.
        real: what they should look like; at least 4.
        training, heldout: what the model has seen, and real pictures that it has not; both or none.
        through: what training and held-out pictures pass before they are searched, normally
            `lambda x: autoencoder.decode(autoencoder.encode(x))`; see `memorisation`.
        mirrored: also look for copies of mirrored training pictures.
        extractor: the feature network; `Lite0` if None.
        seed: of the random splits.
        pictures: what the real pictures are, for the protocol.

    Raises:
        ValueError: too few pictures, or only one of training and heldout.
    """
    if (training is None) != (heldout is None):
        raise ValueError("the search for copies needs training and held-out pictures, got only one of them")
    extractor = extractor or Lite0()
    n = min(len(samples), len(real) // 2)
    if n < 2:
        raise ValueError(f"at least 2 samples and 4 real pictures were expected, got {len(samples)} and {len(real)}")
    f, g = extract(samples, extractor), extract(real, extractor)
    scores, floors = [], []
    for k in range(splits):
        order = generator(seed, "split", k)
        shuffled, chosen = g[torch.randperm(len(g), generator=order)], f[torch.randperm(len(f), generator=order)[:n]]
        a, b = Moments.of(shuffled[:n]), Moments.of(shuffled[n : 2 * n])
        scores.append(frechet_distance(Moments.of(chosen), a))
        floors.append(frechet_distance(b, a))
    copies, told = None, ""
    if training is not None and heldout is not None:
        copies = find_copies(samples, training, heldout, through=through, mirrored=mirrored, extractor=extractor)
        told = (
            f" Copies: samples nearer to one of {copies.training} training pictures"
            f"{' (or its mirror image)' if mirrored else ''}, by features or by thumbnails, than all but the nearest "
            f"of {copies.heldout} held-out pictures, of which chance puts at most {copies.expected:.1%} there"
            f"{'; all passed through the autoencoder' if through else ''}."
        )
    return GenerationScores(
        n,
        Spread.of(torch.tensor(scores, dtype=torch.float64)),
        Spread.of(torch.tensor(floors, dtype=torch.float64)),
        extractor.name,
        extractor.sha256,
        f"Fréchet distance of {n} generated against {n} {pictures}, mean and standard deviation over {splits} random "
        f"choices (seed {seed}); floor: {n} against {n} other {pictures}, same choices; 8-bit RGB; features: "
        f"{extractor.name}. Compare only at equal N, never with FID.{told}",
        copies,
    )


def _eight_bit(x: Image) -> Image:
    return to_uint8(x).float() / 127.5 - 1
