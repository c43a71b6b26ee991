"""What a diffusion model spends its bits on: rate against distortion of progressive coding.

A sender transmits x_t for ever smaller t, each given the one before, and the receiver shows x_0_hat(x_t). By the time
t_k of a chain t_0 > t_1 > ... > t_n = 0 it has cost

    rate(t_k)       = prior + sum_{j < k} KL_j           bits for each of the 3 H W numbers of a picture
    distortion(t_k) = 127.5 |x - decode(x_0_hat(x_t))| / sqrt(3 H W)           on the scale 0 ... 255

The term that leads on from t_k is not yet paid, and the readout of the last step never is: it is what remains of the
negative log-likelihood, in distortion. Ho et al. 2020, https://arxiv.org/abs/2006.11239, section 4.3 and table 4.

In latent space the same bits are counted per number of the *picture* (times C / (3 f^2)), so that curves of different
factors can be compared, and distortion is measured on decoded pictures, so it ends at what the first stage loses. The
latent is the mode of its posterior. Rombach et al. 2022, https://arxiv.org/abs/2112.10752, figure 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from calotype.autoencoder.base import PixelSpace
from calotype.diffusion.guidance.base import adjusted
from calotype.diffusion.likelihood import Estimate, bound_terms, prior_bits
from calotype.diffusion.readout import Gaussian
from calotype.diffusion.variance import Variance
from calotype.errors import UserError
from calotype.evaluation.reconstruction import psnr
from calotype.evaluation.runner import Spread
from calotype.losses.perceptual import PerceptualDistance
from calotype.model import LatentDiffusion
from calotype.registry import to_plain
from calotype.rng import SampleNoise, fold
from calotype.types import Batch, Denoise, Image


@dataclass(frozen=True)
class RateDistortion:
    """A curve, from noise to data; entry k of every list belongs to times[k].

    Args:
        n: number of pictures.
        side: (height, width) in pixels.
        times: decreasing, in (0, 1].
        rate: bits per number of the picture (3 H W of them), with the standard error over pictures.
        rmse: root of the mean squared error over all pictures, 0 ... 255.
        psnr: dB of 8-bit pictures, per picture.
        perceptual: perceptual distance by `distance`; None if it was not asked for.
        distance: name of the perceptual distance, or None.
        protocol: how this was measured.
    """

    n: int
    side: tuple[int, int]
    times: tuple[float, ...]
    rate: tuple[Estimate, ...]
    rmse: tuple[float, ...]
    psnr: tuple[Spread, ...]
    perceptual: tuple[Spread, ...] | None
    distance: str | None
    protocol: str

    @property
    def bits_per_pixel(self) -> tuple[float, ...]:
        """The rate for all three numbers of a pixel."""
        return tuple(3 * rate.mean for rate in self.rate)


@torch.no_grad()
def rate_distortion(
    model: LatentDiffusion,
    batches: Iterable[Batch],
    times: Tensor,
    *,
    seed: int = 0,
    points: int | None = None,
    variance: Variance | None = None,
    clip: bool = False,
    perceptual: PerceptualDistance | None = None,
    pictures: str = "pictures",
) -> RateDistortion:
    """Send pictures through the model's chain.

    Args:
        model: in evaluation mode, with averaged weights if it has some.
        batches: with "image" (B, 3, H, W) in [-1, 1], all of one size, "index" (B,), and what the conditioner reads;
            a wish that is missing is null. At least 2 pictures in all.
        times: (n + 1,) strictly decreasing, the last 0: the steps of the chain, one network call each.
            `UniformGrid()(schedule, T)` is that of a table of T betas.
        seed: picture i gets noise of its own, from (seed, index), the same for every model.
        points: at how many of the n times to measure distortion, evenly spaced; all if None. Every term is counted.
        variance: of the reverse steps; the denoiser's if None. The rate holds for the sampler that has the same.
        clip: keep x_0_hat in [-1, 1], as DDPM does; changes rate and distortion. Pixel space only.
        perceptual: a perceptual distance to measure besides.
        pictures: what they are, for the protocol.

    Raises:
        UserError: clipping latents, times that do not end at 0, or fewer than 1 point.
        ValueError: fewer than 2 pictures, or pictures of different sizes.
    """
    n = len(times) - 1
    if clip and not isinstance(model.autoencoder, PixelSpace):
        raise UserError("latents have no range to clip to; clip=True is for models of pixels")
    if n < 1 or times[-1] != 0:
        raise UserError(f"a chain needs at least 1 step and ends at t = 0, got {n} to t = {float(times[-1]):.4g}")
    if points is not None and points < 1:
        raise UserError(f"points must be at least 1, got {points}; 20 to 50 make a curve")
    times = times.double().cpu()
    shown = sorted({round(k) for k in torch.linspace(0, n - 1, min(points or n, n)).tolist()})
    variance = variance or model.denoiser.variance
    sent = [_Sent.over(model, batch, times, shown, seed, variance, clip, perceptual) for batch in batches]
    sizes, total = {s.side for s in sent}, sum(s.rate.shape[1] for s in sent)
    if len(sizes) != 1 or total < 2:
        raise ValueError(f"a curve needs at least 2 pictures of one size, got {total} of sizes {sorted(sizes)}")
    rate, mse, decibel = (torch.cat(parts, 1) for parts in zip(*((s.rate, s.mse, s.psnr) for s in sent), strict=True))
    perceived = [s.perceptual for s in sent if s.perceptual is not None]
    where = "pixels" if isinstance(model.autoencoder, PixelSpace) else f"latents (f = {model.autoencoder.factor})"
    return RateDistortion(
        total,
        sizes.pop(),
        tuple(times[shown].tolist()),
        tuple(Estimate.of(row) for row in rate),
        tuple((127.5 * mse.mean(1).sqrt()).tolist()),
        tuple(Spread.of(row) for row in decibel),
        None if perceptual is None else tuple(Spread.of(row) for row in torch.cat(perceived, 1)),
        None if perceptual is None else perceptual.name,
        f"{total} {pictures}, sent in {n} steps in the space of {where}, variance {to_plain(variance)['type']}, "
        f"x_0_hat {'clipped' if clip else 'not clipped'}, seed {seed}; rate: KL per number of the picture, prior "
        "included, readout not; distortion: decoded x_0_hat against the picture.",
    )


@dataclass(frozen=True)
class _Sent:
    """One batch on its way: (K, B) float64 on the CPU for the K points that are shown."""

    side: tuple[int, int]
    rate: Tensor
    mse: Tensor
    psnr: Tensor
    perceptual: Tensor | None

    @classmethod
    def over(
        cls,
        model: LatentDiffusion,
        batch: Batch,
        times: Tensor,
        shown: list[int],
        seed: int,
        variance: Variance,
        clip: bool,
        perceptual: PerceptualDistance | None,
    ) -> _Sent:
        """Send a batch."""
        x: Image = batch["image"]
        schedule, z = model.denoiser.schedule, model.autoencoder.encode(x)
        wishes = {name: batch[name] for name in model.conditioner.reads if name in batch}
        denoise: Denoise = model.denoiser.bind(model.condition(wishes, len(x)))
        if clip:
            denoise = adjusted(denoise, lambda x_0, x_t, t: x_0.clamp(-1, 1))
        noise = SampleNoise([fold(seed, "rate-distortion", int(i)) for i in batch["index"]])
        terms = bound_terms(denoise, z, pairwise(times), schedule, noise, variance, Gaussian())
        share = z[0].numel() / x[0].numel()  # bits per number of the latent -> per number of the picture
        paid = share * prior_bits(z, schedule, times[0]).double().cpu()
        rate, mse, decibel, perceived = [], [], [], []
        for k, term in enumerate(terms):
            if k in shown:
                picture = model.decode(term.x_0.to(z)).clamp(-1, 1)
                rate.append(paid)
                mse.append((picture - x).square().flatten(1).mean(1).double().cpu())
                decibel.append(psnr(picture, x).cpu())
                if perceptual is not None:
                    perceived.append(perceptual(picture, x).double().cpu())
            paid = paid + share * term.bits.double().cpu()
        found = torch.stack(perceived) if perceived else None
        return cls((x.shape[2], x.shape[3]), torch.stack(rate), torch.stack(mse), torch.stack(decibel), found)
