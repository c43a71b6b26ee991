"""A walk that begins with a picture: noise it as far as wished, and take the rest of the steps.

    times = part_of(grid(schedule, 50), 0.75)               # the last 37 of 50 steps
    x = start_from(x_0, eps, times, schedule)               # alpha x_0 + sigma eps at the first of them
    *_, last = sampler(denoise, x, times, schedule, noise)

Meng et al. 2022 (SDEdit), https://arxiv.org/abs/2108.01073, section 3.
"""

from __future__ import annotations

from torch import Tensor

from calotype.diffusion.schedule import Schedule
from calotype.errors import UserError
from calotype.types import Latent


def part_of(times: Tensor, strength: float) -> Tensor:
    """The last int(n strength) of n steps, as diffusers counts them: their times, one more than steps.

    One begins at the noise level of the first, at which the denoiser is asked first. (CompVis' img2img begins with the
    noise of one step earlier, and tells the network of less than it sees.)

    Args:
        times: of a grid, (n + 1,).
        strength: 1 keeps all steps; 0 none, and leaves the time of the data alone.

    Raises:
        UserError: strength outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise UserError(
            f"strength must lie in [0, 1], got {strength}; 0 returns the picture, 1 begins where sampling without "
            "one begins, 0.75 is usual"
        )
    steps = len(times) - 1
    return times[steps - int(steps * strength) :]


def start_from(x_0: Latent, eps: Latent, times: Tensor, schedule: Schedule) -> Latent:
    """alpha x_0 + sigma eps at times[0], what a sampler begins with; x_0 itself if there are no steps to take.

    Args:
        x_0: clean samples (B, ...).
        eps: N(0, 1) noise like x_0.
        times: of a grid, or part of one, (n + 1,).
        schedule: the forward process.
    """
    return schedule.perturb(x_0, eps, times[0].expand(len(x_0))) if len(times) > 1 else x_0
