"""The adaptive weight and the adversarial pair, against their formulas."""

import math

import pytest
import torch
from torch import nn

from calotype.losses.adversarial import (
    Hinge,
    adaptive_weight,
    adversarials,
    gradient_at,
    value_with_gradient,
)


def test_adaptive_weight_is_the_ratio_of_gradient_norms() -> None:
    torch.manual_seed(0)
    last, critic = nn.Linear(5, 3, dtype=torch.float64), nn.Linear(3, 1, dtype=torch.float64)
    h, target = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    out = last(h)
    rec, g = (out - target).abs().mean(), -critic(out).mean()
    (d_rec,) = torch.autograd.grad(rec, last.weight, retain_graph=True)
    (d_g,) = torch.autograd.grad(g, last.weight, retain_graph=True)
    # By hand: d rec / dW = sum_i sign(out - target)_i h_i^T / 21, d g / dW = -w_critic mean(h)^T.
    by_hand_rec = torch.einsum("bo,bi->oi", (out - target).sign(), h).div(21)
    by_hand_g = -critic.weight.detach()[0][:, None] * h.mean(0)[None]
    torch.testing.assert_close(d_rec, by_hand_rec)
    torch.testing.assert_close(d_g, by_hand_g)
    w = adaptive_weight(d_rec, d_g, 0.8)
    assert not w.requires_grad
    assert w.item() == pytest.approx(0.8 * float(by_hand_rec.norm()) / (float(by_hand_g.norm()) + 1e-4), rel=1e-12)


def test_adaptive_weight_is_clipped() -> None:
    assert float(adaptive_weight(torch.tensor([1e9]), torch.tensor([0.0]), 0.5)) == 0.5e4
    assert float(adaptive_weight(torch.tensor([0.0]), torch.tensor([1.0]), 0.5)) == 0.0


def test_value_with_gradient_has_both() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    wanted = torch.randn(4, 3)
    value = value_with_gradient(x, wanted, torch.tensor(3.25))
    assert float(value) == pytest.approx(3.25)
    value.backward()
    torch.testing.assert_close(x.grad, wanted)


def test_gradient_at_leaves_the_graph() -> None:
    w = torch.tensor(2.0, requires_grad=True)
    x = w * 3.0
    g = gradient_at(x.square(), x)
    assert float(g) == pytest.approx(12.0)
    x.backward()
    assert float(w.grad) == 3.0


def test_hinge_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 0.5])
    assert float(Hinge().discriminator(real, fake)) == pytest.approx(0.5 * (0.5 + 0.75))
    assert float(Hinge().generator(fake)) == pytest.approx(1.25)


@pytest.mark.parametrize("name", list(adversarials))
def test_every_pair_pulls_the_right_way(name: str) -> None:
    loss = adversarials.create(name)
    real, fake = (torch.zeros(8, requires_grad=True) for _ in range(2))
    loss.discriminator(real, fake).backward()
    assert (real.grad < 0).all() and (fake.grad > 0).all()  # descent raises D(x), lowers D(x_hat)
    fake.grad = None
    loss.generator(fake).backward()
    assert (fake.grad < 0).all()  # descent raises D(x_hat)
    assert math.isfinite(float(loss.discriminator(torch.tensor([1e4]), torch.tensor([1e4]))))
