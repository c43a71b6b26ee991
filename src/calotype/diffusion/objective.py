"""What training minimises.

    loss_i = w(t_i) |F(x_t) - F*|^2,    x_t = alpha x_0 + sigma eps

with F* the parameterization's target, w the weighting converted to it, so that the loss does not depend on what the
network predicts, and |.|^2 a distance: the mean of squares, unless said otherwise. Choosing times at random with
another density or weighting them otherwise is interchangeable. A denoiser that learns its variance adds a loss for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from calotype.condition import Condition
from calotype.diffusion.denoiser import Denoiser
from calotype.diffusion.distance import Distance, MeanSquare
from calotype.diffusion.schedule import Schedule, rows, wide
from calotype.diffusion.times import TimeSampler, UniformTimes
from calotype.diffusion.variance import Prediction
from calotype.diffusion.weighting import Weighting
from calotype.types import Latent, Metrics, Time


@dataclass(frozen=True)
class Objective:
    """A weighting of noise levels, the time sampler it is used with, and what an error costs.

    A training step draws `t = objective.time_sampler(u)`, then calls the objective."""

    weighting: Weighting
    time_sampler: TimeSampler = field(default_factory=UniformTimes)
    distance: Distance = field(default_factory=MeanSquare)

    def check(self, schedule: Schedule) -> None:
        """Raise `UserError` if times or weighting are made for another schedule than this, which is trained on."""
        self.time_sampler.check(schedule)
        self.weighting.check(schedule)

    def __call__(
        self, denoiser: Denoiser, x_0: Latent, cond: Condition, t: Time, eps: Latent
    ) -> tuple[Tensor, Metrics]:
        """The loss of each sample.

        Args:
            x_0: clean latents (B, C, H, W).
            t: times (B,) in (0, 1].
            eps: N(0, 1) noise like x_0.

        Returns:
            The loss (B,) in float32, and metrics: "error_x0", the batch's unweighted mean |E[x_0 | x_t] - x_0|^2 in
            float64, for 1 / alpha^2 may be beyond float32,
            and those of `denoiser.variance.loss`.

        Raises:
            UserError: the distance is not defined for latents of this size.
        """
        x_0, eps = x_0.to(wide(x_0)), eps.to(wide(x_0))
        alpha, sigma = denoiser.schedule.at(t)
        _, c_out, _ = denoiser.parameterization.coefficients(alpha, sigma)
        target = denoiser.parameterization.target(x_0, eps, rows(alpha, x_0), rows(sigma, x_0))
        f, v = denoiser.outputs(denoiser.schedule.perturb(x_0, eps, t), t, cond)
        difference = f - target
        weight = self.weighting(alpha, sigma, c_out)
        error = MeanSquare()(difference.detach())
        predicted = Prediction(x_0 + rows(c_out, x_0) * difference, v)
        for_variance, metrics = denoiser.variance.loss(denoiser.schedule, x_0, t, predicted)
        loss = weight.to(error) * self.distance(difference) + for_variance
        return loss, {"error_x0": (c_out.double() ** 2 * error).mean(), **metrics}
