"""The patch-adversarial loss and the weight that balances it.

    w = clip(|d nll / d W| / (|d g / d W| + 1e-4), 0, largest) * weight          W: the decoder's last layer

Esser et al. 2021 (VQGAN), https://arxiv.org/abs/2012.09841, eq. (6) and (7); hinge form of Lim & Ye 2017,
https://arxiv.org/abs/1705.02894.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.registry import Registry


@runtime_checkable
class Adversarial(Protocol):
    """A pair of losses on discriminator logits of any shape."""

    def generator(self, fake: Tensor) -> Tensor:
        """What the autoencoder minimises, a scalar."""
        ...

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator minimises, a scalar."""
        ...


adversarials: Registry[Adversarial] = Registry("adversarial", "calotype.losses")


@adversarials.register("hinge")
@dataclass(frozen=True)
class Hinge:
    """D: 1/2 [mean relu(1 - D(x)) + mean relu(1 + D(x_hat))]; G: -mean D(x_hat)."""

    def generator(self, fake: Tensor) -> Tensor:
        """-mean D(x_hat)."""
        return -fake.mean()

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """1/2 [mean relu(1 - D(x)) + mean relu(1 + D(x_hat))]."""
        return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


@adversarials.register("log")
@dataclass(frozen=True)
class Log:
    """The paper's log form, non-saturating for the generator.

    D: 1/2 [mean softplus(-D(x)) + mean softplus(D(x_hat))]; G: mean softplus(-D(x_hat)). Goodfellow et al. 2014."""

    def generator(self, fake: Tensor) -> Tensor:
        """mean softplus(-D(x_hat))."""
        return F.softplus(-fake).mean()

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """1/2 [mean softplus(-D(x)) + mean softplus(D(x_hat))]."""
        return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, weight: float, largest: float = 1e4) -> Tensor:
    """The balance w of the module docstring, a detached scalar.

    Args:
        reconstruction: d nll / d W, any shape.
        adversarial: d g / d W, same shape.
        weight: the constant factor ("disc_weight").
        largest: bound of the ratio.
    """
    ratio = reconstruction.norm() / (adversarial.norm() + 1e-4)
    balance: Tensor = (ratio.clamp(0.0, largest) * weight).detach()
    return balance


def value_with_gradient(x: Tensor, gradient: Tensor, value: Tensor | float = 0.0) -> Tensor:
    """A scalar that equals `value` and whose gradient with respect to `x` is `gradient`.

    Lets a loss whose gradient at `x` is already known be driven on through the graph behind `x` without running the
    networks between `x` and the loss a second time.
    """
    product = (x * gradient.detach()).sum()
    return product - product.detach() + (value.detach() if isinstance(value, Tensor) else value)


def gradient_at(value: Tensor, x: Tensor) -> Tensor:
    """d value / d x, leaving the graph behind `x` intact."""
    (g,) = torch.autograd.grad(value, x, retain_graph=True)
    return g
