"""R1 and LeCam against their formulas, computed by hand."""

import pytest
import torch
from torch import Tensor, nn

from calotype.losses.critic_penalty import LeCamConfig, R1Config, critic_penalties


def pictures(n: int = 3) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def critic() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Softplus(), nn.Conv2d(4, 1, 2)).double()


def test_r1_is_the_squared_gradient_per_patch() -> None:
    d, x = critic(), pictures().requires_grad_()
    real = d(x)
    assert real.shape == (3, 1, 2, 2)
    value = R1Config(weight=10.0).build()(x, real, real)
    # By central differences, pixel by pixel.
    h, total = 1e-5, 0.0
    with torch.no_grad():
        for i in range(x.numel()):
            e = torch.zeros(x.numel(), dtype=torch.float64)
            e[i] = h
            e = e.view_as(x)
            total += float(((d(x + e) - d(x - e)).sum() / (2 * h)) ** 2)
    assert float(value.detach()) == pytest.approx(10.0 / 2 * total / 3 / 4, rel=1e-6)


def test_r1_of_a_linear_critic_is_exact_and_does_not_see_the_size_of_the_picture() -> None:
    """Non-overlapping patches with weights w: the gradient at every pixel is w."""
    w = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for side in (4, 8, 16):
        x = torch.zeros(2, 3, side, side, dtype=torch.float64, requires_grad=True)
        real = torch.nn.functional.conv2d(x, w, stride=4)
        assert float(R1Config(weight=2.0).build()(x, real, real)) == pytest.approx(float(w.square().sum()))


def test_r1_teaches_the_critic() -> None:
    d, x = critic(), pictures().requires_grad_()
    value = R1Config().build()(x, d(x), d(x))
    value.backward()
    assert float(d[0].weight.grad.abs().sum()) > 0


def test_lecam_follows_running_means() -> None:
    penalty = LeCamConfig(weight=0.5, decay=0.9).build()
    g, a_real, a_fake = torch.Generator().manual_seed(3), 0.0, 0.0
    for step in range(5):
        real, fake = (torch.randn(2, 1, 3, 3, generator=g) for _ in range(2))
        value = penalty(real, real, fake)
        keep = 0.0 if step == 0 else 0.9
        a_real = keep * a_real + (1 - keep) * float(real.mean())
        a_fake = keep * a_fake + (1 - keep) * float(fake.mean())
        wanted = 0.5 * ((real - a_fake).clamp_min(0).square().mean() + (a_real - fake).clamp_min(0).square().mean())
        assert float(value) == pytest.approx(float(wanted), rel=1e-4)


def test_lecam_pulls_the_logits_together() -> None:
    penalty = LeCamConfig().build()
    real, fake = torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), -3.0)
    real.requires_grad_(), fake.requires_grad_()
    penalty(real, real, fake).backward()
    assert (real.grad > 0).all() and (fake.grad < 0).all()


def test_lecam_survives_a_stop() -> None:
    real = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(4))
    a, b = LeCamConfig().build(), LeCamConfig().build()
    a(real, real, -real)
    b.load_state_dict(a.state_dict())
    assert float(a(real, 2 * real, real)) == float(b(real, 2 * real, real))


@pytest.mark.parametrize("name", [*critic_penalties])
def test_every_penalty_is_a_finite_scalar_that_the_critic_feels(name: str) -> None:
    d, penalty = critic(), critic_penalties.create(name).build().double()
    x = pictures().requires_grad_(penalty.differentiates)
    real, fake = d(x), d(pictures().flip(-1))
    value = penalty(x, real, fake)
    assert value.ndim == 0 and value.isfinite() and value >= 0
    value.backward()
    assert sum(float(p.grad.abs().sum()) for p in d.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize(
    "wrong", [lambda: R1Config(0.0), lambda: LeCamConfig(weight=-1.0), lambda: LeCamConfig(decay=1.0)]
)
def test_senseless_numbers_are_refused(wrong) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="must"):
        wrong()
