"""Churn: noise added on purpose, so that the steps that follow can correct earlier errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from calotype.diffusion.schedule import Schedule
from calotype.errors import UserError
from calotype.types import Latent, Noise


@dataclass(frozen=True)
class Churn:
    """Back in time before every step, from S = sigma / alpha to (1 + gamma) S, gamma = min(amount / N, sqrt(2) - 1).

    Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 2, lines 4 to 6. It ends at t = 1: where a schedule
    offers no more noise, less is added, and none to a sample without signal.

    Args:
        amount: S_churn, not negative; 0 is no churn, the paper has 30 to 80. N is the number of steps.
        low, high: S_tmin and S_tmax, the range of sigma / alpha in which there is churn; `None` is no upper end.
        noise: S_noise, positive, by which the standard deviation of the new noise is multiplied; the paper has 1.003 to
            1.007, against the blurring of imperfect denoisers, and an exact one wants 1.

    Raises:
        UserError: a field outside its range.
    """

    amount: float = 0.0
    low: float = 0.0
    high: float | None = None
    noise: float = 1.0

    def __post_init__(self) -> None:
        if not (self.amount >= 0 and 0 < self.noise < math.inf):
            raise UserError(
                f"churn needs amount >= 0 and a finite noise > 0, got {self.amount} and {self.noise}; 0 and 1 turn it "
                "off"
            )
        if not 0 <= self.low < (math.inf if self.high is None else self.high):
            raise UserError(f"churn needs 0 <= low < high, got {self.low} and {self.high}; swap or widen them")

    def __call__(self, schedule: Schedule, x: Latent, t: Tensor, steps: int, noise: Noise) -> tuple[Latent, Tensor]:
        """x (B, ...) at t and t itself, or both a little later; t a scalar in (0, 1], `steps` N of the walk."""
        gamma = min(self.amount / steps, math.sqrt(2) - 1)
        later = schedule.time(schedule.logsnr(t) - 2 * math.log1p(gamma))
        (a_t, s_t), (a, s) = schedule.at(t), schedule.at(later)
        if gamma == 0 or a == 0 or not self._acts(float(s_t / a_t)):
            return x, t
        # from the time that the denoiser will be told, since a curve ends at t = 1 and its inverse rounds
        added = ((s / a) ** 2 - (s_t / a_t) ** 2).clamp(min=0).sqrt()
        return a * (x / a_t + self.noise * added * noise(x)), later

    def _acts(self, sigma: float) -> bool:
        return self.low <= sigma and (self.high is None or sigma <= self.high)
