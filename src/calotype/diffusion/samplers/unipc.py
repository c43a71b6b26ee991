"""UniPC: a predictor of any order, and a corrector that costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from calotype.diffusion.samplers.base import Sampler, Step, samplers
from calotype.diffusion.samplers.ddim import ddim_step
from calotype.diffusion.schedule import Schedule
from calotype.errors import UserError
from calotype.types import Denoise, Latent, Noise


@dataclass(frozen=True, eq=False)
class _Point:
    """A prediction x_0 at the half log-SNR l = log(alpha / sigma)."""

    l: Tensor  # noqa: E741
    x_0: Latent


@samplers.register("unipc")
@dataclass(frozen=True)
class UniPC(Sampler):
    """Zhao et al. 2023, https://arxiv.org/abs/2302.04867, algorithms 5 to 8, in data prediction. The probability flow
    from t to s is DDIM's step with a mean of x_0 over u, the share of the step's length h in log(alpha / sigma):

        x_s = sigma_s / sigma_t x_t + (alpha_s - alpha_t sigma_s / sigma_t) D,    D = E[x_0(u)],  u ~ e^(h u) on (0, 1)
        D = m_0 + sum_k w_k (m_k - m_0) / r_k,    sum_k w_k r_k^(i-1) = E[u^i],  i = 1 ... K

    with m_0 the prediction at t and m_k those at the places r_k of the step: the p - 1 steps before for the predictor
    (r < 0), and s itself for the corrector (r = 1). The corrector repeats a step once the prediction at its end is
    known, which is the next step's m_0 anyway. Where K = 1 the paper replaces w_1 by B(h) / (2 B_2(h)).

    The corrector makes p = 2 a method of order 3. p = 3, which has to begin with lower orders, is hardly better in the
    limit, and unstable at ten steps and fewer with strong guidance. On arrival at t = 0, where h is infinite, the last
    step is DDIM's and the one before it has p = 2 at most: diffusers' defaults (`lower_order_final`), with which this
    agrees step by step (but for its "bh1", which has no number there). What `Step` shows is not yet corrected.

    Args:
        p: 1, 2 or 3.
        b: which B(h): 1 for -h ("bh1"), 2 for e^-h - 1 ("bh2").
        corrector: False is UniP, the predictor alone; with p = 2 and b = 2 that is DPM-Solver++(2M).

    Raises:
        UserError: p or b is not one of these.
    """

    order: ClassVar[int] = 3
    stochastic: ClassVar[bool] = False

    p: int = 2
    b: int = 2
    corrector: bool = True

    def __post_init__(self) -> None:
        if self.p not in (1, 2, 3) or self.b not in (1, 2):
            raise UserError(
                f"UniPC has p in 1, 2, 3 and b in 1, 2, got p = {self.p} and b = {self.b}; the usual is 2 and 2"
            )

    @torch.no_grad()
    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """See `Sampler`; `noise` is not used."""
        past: list[_Point] = []  # the latest first, all at finite log-SNR
        before: tuple[Latent, Tensor] | None = None  # where the last step began, if it can be corrected
        for i, (t, s) in enumerate(pairwise(times)):
            point = _Point(schedule.logsnr(t) / 2, denoise(x, t.expand(len(x))))
            if before is not None:
                x_before, t_before = before
                used = [*past[: self._order(times, i - 1, past)], point]
                x = ddim_step(schedule, x_before, self._mean(used, point.l), t_before, t)
            past = [p for p in [point, *past][:3] if p.l.isfinite()]
            used = past[: self._order(times, i, past)]
            d = self._mean(used, schedule.logsnr(s) / 2) if used[1:] else point.x_0
            before = (x, t) if self.corrector and past else None
            x = ddim_step(schedule, x, d, t, s)
            yield Step(x, s, point.x_0)

    def _order(self, times: Tensor, i: int, past: Sequence[_Point]) -> int:
        left = len(times) - 1 - i if times[-1] == 0 else self.p
        return min(self.p, left, len(past))

    def _mean(self, points: Sequence[_Point], end: Tensor) -> Latent:
        """D over the step from points[0] to the half log-SNR `end`, through two or more points."""
        (l_0, m_0), others = (points[0].l, points[0].x_0), points[1:]
        h = end - l_0
        r = torch.stack([(point.l - l_0) / h for point in others])
        if len(others) > 1:
            vandermonde = torch.stack([r**i for i in range(len(others))])
            w = torch.linalg.solve(vandermonde, _moments(h, len(others)))
        else:
            w = torch.ones_like(r) / 2 if self.b == 2 else h / (-2 * torch.expm1(-h)) * torch.ones_like(r)
        d = m_0
        for w_k, r_k, point in zip(w, r, others, strict=True):
            d = d + w_k / r_k * (point.x_0 - m_0)
        return d


def _moments(h: Tensor, n: int) -> Tensor:
    """E[u], ..., E[u^n] for u in (0, 1) with density proportional to e^(h u), (n,); h > 0 a float64 scalar."""
    # J_i, the integral of h e^(-h (1 - u)) u^i, by parts
    j = [-torch.expm1(-h)]
    for i in range(1, n + 1):
        j.append(1 - i / h * j[-1])
    return torch.stack(j[1:]) / j[0]
