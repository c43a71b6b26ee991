"""The likelihood of the deterministic sampler: data are carried to noise along an ODE, and volumes are counted.

In log-SNR, and with x brought to the variance preserving scale, u = x / sqrt(alpha^2 + sigma^2), the probability-flow
ODE of every schedule is one and stays bounded at both ends (a^2 = sigmoid(logsnr)):

    du / dlogsnr        = a/2 (x_0_hat - a u)
    d log p / dlogsnr   = -a/2 (tr dx_0_hat/du - a D)          along the curve; D dimensions

Song et al. 2021, https://arxiv.org/abs/2011.13456, section 4.3 and appendix D.2. It begins with the data at t_min,
scaled but not noised, so what is measured is the density at t_min, that of the data smoothed by 1 / SNR(t_min), and
ends where sampling begins, in N(0, sigma^2 I).

Densities are no probabilities of files. Pixels of 8 bits get noise as wide as their cells (`dequantized`); then
-log2 p / D - log2(cell) is, in expectation, an upper bound on the bits per dimension of the pixels themselves: Theis et
al. 2016, https://arxiv.org/abs/1511.01844, section 3.1.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from calotype.diffusion.likelihood import LOGSNR_FLOOR
from calotype.diffusion.schedule import Schedule, wide
from calotype.errors import UserError
from calotype.types import Denoise, Latent, Noise

CELL = 2 / 255
"""The width of a cell of 8-bit pixels on [-1, 1]."""


@dataclass(frozen=True)
class RungeKutta:
    """An explicit Runge-Kutta method by its tableau, with steps of fixed length.

    Args:
        nodes: (S,) where in the step each stage looks, 0 ... 1, the first 0.
        stages: S rows, the i-th of i numbers: how much of each earlier slope goes into stage i.
        weights: (S,) of the slopes in the step; their sum is 1.
    """

    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


HEUN = RungeKutta((0, 1), ((), (1,)), (1 / 2, 1 / 2))
"""Order 2, two network calls per step."""

RK4 = RungeKutta((0, 1 / 2, 1 / 2, 1), ((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
"""Order 4, four network calls per step."""


class Trace(Protocol):
    """How tr J is found from products v^T J."""

    @abstractmethod
    def probes(self, x: Latent, noise: Noise) -> Sequence[Tensor]:
        """Vectors v like x (B, ...) with sum v^T J v = tr J, exactly or in expectation; kept for the whole curve."""


@dataclass(frozen=True)
class ExactTrace(Trace):
    """Every unit vector: D products, for tiny D."""

    def probes(self, x: Latent, noise: Noise) -> Sequence[Tensor]:
        """D of them."""
        units = torch.eye(x[0].numel()).to(x)
        return [unit.view_as(x[0]).expand_as(x) for unit in units]


@dataclass(frozen=True)
class Hutchinson(Trace):
    """Random signs, drawn per sample: E[v^T J v] = tr J. Hutchinson 1990, https://doi.org/10.1080/03610919008812866;
    kept along the curve as in Grathwohl et al. 2019, https://arxiv.org/abs/1810.01367, section 3.1.

    Raises:
        UserError: fewer than 1 draw.
    """

    draws: int = 1

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UserError(
                f"a trace needs at least 1 draw, got {self.draws}; more draws are less noisy and cost as much"
            )

    def probes(self, x: Latent, noise: Noise) -> Sequence[Tensor]:
        """`draws` of them, each over sqrt(draws)."""
        return [torch.where(noise(x) >= 0, 1.0, -1.0).to(x) / math.sqrt(self.draws) for _ in range(self.draws)]


def log_density(
    denoise: Denoise,
    x_0: Latent,
    schedule: Schedule,
    noise: Noise,
    *,
    steps: int = 64,
    method: RungeKutta = RK4,
    trace: Trace | None = None,
    t_min: float = 1e-3,
) -> Tensor:
    """log p(x_0) in nats, (B,), without gradients.

    Args:
        denoise: (x_t, t) -> E[x_0 | x_t], differentiable in x_t.
        x_0: samples (B, ...).
        schedule: the forward process of `denoise`.
        noise: x -> N(0, 1) noise like x; the trace takes its signs from it.
        steps: of equal length in log-SNR, from t_min to t = 1 (or `LOGSNR_FLOOR`).
        method: `RK4` or `HEUN`.
        trace: `Hutchinson()` by default; `ExactTrace()` for tiny D.
        t_min: where the data lie, in (0, 1).

    Raises:
        UserError: fewer than 1 step, or t_min outside (0, 1).
    """
    if steps < 1 or not 0 < t_min < 1:
        raise UserError(f"a flow needs steps >= 1 and t_min in (0, 1), got {steps} and {t_min}; 64 and 0.001 are usual")
    x = x_0.detach().to(wide(x_0))
    probes = (trace or Hutchinson()).probes(x, noise)
    ends = schedule.logsnr(torch.tensor([t_min, 1.0], dtype=torch.float64)).clamp(min=LOGSNR_FLOOR)
    grid = torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64)

    def slope(logsnr: Tensor, u: Latent) -> tuple[Latent, Tensor]:
        a, t = float(logsnr.sigmoid().sqrt()), schedule.time(logsnr)
        alpha, sigma = schedule.at(t)
        scale = float((alpha**2 + sigma**2).sqrt())
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            found = denoise(scale * u, t.to(u.device).expand(len(u)))
            products = [torch.autograd.grad(found, u, v, retain_graph=True)[0] * v for v in probes]
        divergence = torch.stack(products).flatten(2).sum((0, 2)) - a * u[0].numel()
        return a / 2 * (found.detach() - a * u.detach()), a / 2 * divergence

    a = float(ends[0].sigmoid().sqrt())
    u, volume = a * x, x.new_full((len(x),), x[0].numel() * math.log(a))
    for start, stop in pairwise(grid):
        h, slopes = float(stop - start), list[tuple[Latent, Tensor]]()
        for node, row in zip(method.nodes, method.stages, strict=True):
            before = zip(row, slopes, strict=True)
            slopes.append(slope(start + node * h, u + h * sum((w * du for w, (du, _) in before), x.new_zeros(()))))
        for w, (du, divergence) in zip(method.weights, slopes, strict=True):
            u, volume = u + h * w * du, volume + h * w * divergence
    variance = float((-ends[1]).sigmoid())
    log_prior = -0.5 * (u.square() / variance + math.log(2 * math.pi * variance))
    log_p: Tensor = volume + log_prior.flatten(1).sum(1)
    return log_p


def dequantized(x_0: Latent, noise: Noise) -> Latent:
    """Pixels of 8 bits (B, ...) in [-1, 1] with uniform noise as wide as their cells, from the samples' own generators:
    a density on [-1 - 1/255, 1 + 1/255]."""
    u: Tensor = torch.special.ndtr(noise(x_0))
    return x_0 + CELL * (u - 0.5)


def bits_per_dimension(log_p: Tensor, x_0: Latent, cell: float = 1.0) -> Tensor:
    """-log2 p / D - log2(cell), (B,), of log densities (B,) in nats of samples (B, ...).

    `cell=CELL` for dequantised pixels; the default leaves the density of a continuous x_0, which may be negative.
    """
    return -log_p / (x_0[0].numel() * math.log(2)) - math.log2(cell)
