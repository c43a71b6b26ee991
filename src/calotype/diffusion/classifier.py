"""A classifier of noisy samples: log p(y | x_t, t).

Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, section 4: what classifier guidance asks. It has to know the
noise of the very process that it guides, so it owns a schedule as a denoiser does.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from calotype.diffusion.clock import Clock
from calotype.diffusion.schedule import Schedule, rows, wide
from calotype.diffusion.wrappers.classifier import LogProb
from calotype.types import Latent, Time


class LogitNetwork(Protocol):
    """What a classifier needs of a network."""

    @abstractmethod
    def __call__(self, x: Latent, time: Time) -> Tensor:
        """Logits (B, K) of x (B, C, H, W) of about unit variance; `time` (B,) float32 is what the clock shows."""


class Classifier(nn.Module):
    """A network of logits and the schedule of the noise that it has learned to see through.

    Args:
        network: maps (x_t / sqrt(alpha^2 + sigma^2), clock(t)) to logits.
        schedule: the forward process.
        clock: what the network is told about time; by default the schedule's.
    """

    def __init__(self, network: LogitNetwork, schedule: Schedule, clock: Clock | None = None) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.clock = clock or schedule.clock

    def forward(self, x_t: Latent, t: Time) -> Tensor:
        """Logits (B, K) in float32 (float64 if x_t is); t (B,) in [0, 1]."""
        c_in = 1 / torch.hypot(*self.schedule.at(t))
        time = self.clock(t.double()).to(x_t.device, torch.float32)
        logits: Tensor = self.network(rows(c_in, x_t) * x_t, time)
        return logits.to(wide(x_t))

    def log_prob(self, y: Tensor) -> LogProb:
        """(x_t, t) -> log p(y_i | x_t_i, t_i) (B,) for the class indices y (B,) long."""

        def log_prob(x_t: Latent, t: Time) -> Tensor:
            log_p: Tensor = self(x_t, t).log_softmax(1)
            return log_p.gather(1, y.to(log_p.device)[:, None])[:, 0]

        return log_prob
