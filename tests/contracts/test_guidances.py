"""What every guidance must do."""

from __future__ import annotations

import pytest
import torch

from calotype.condition import Condition
from calotype.diffusion import Cosine, Denoiser, Schedule, Velocity, Windowed, guidances
from calotype.diffusion.variance import LearnedRange, predictor
from calotype.diffusion.wrappers import classifier, energy, keep_known, upsample
from calotype.registry import from_plain, to_plain

SCHEDULE = Schedule(Cosine())


@pytest.fixture(params=[*guidances])
def guidance(request):
    return guidances[request.param]()


def toy(x, time, cond):
    """A network that listens: its answer depends on the sample, the time and the condition."""
    return torch.tanh(x + cond.vector[:, :1, None, None]) * (1 + time.view(-1, 1, 1, 1) / 1000)


def condition(*values: float) -> Condition:
    return Condition(vector=torch.tensor(values)[:, None])


x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
DENOISER = Denoiser(toy, SCHEDULE, Velocity())


@pytest.fixture(params=[DENOISER, Windowed(DENOISER, 3, 2, batch=2)], ids=["whole", "windowed"])
def denoiser(request):
    return request.param


def test_survives_a_config_file(guidance):
    assert from_plain(to_plain(guidance)) == guidance


@pytest.mark.parametrize("time", [0.0, 0.3, 1.0])
def test_gives_a_finite_x_0_of_the_right_shape(guidance, denoiser, time):
    x_0 = guidance(denoiser, condition(0.5, 1, 2), condition(0, 0, 0))(x, torch.full((3,), time))
    assert x_0.shape == x.shape and x_0.dtype == torch.float32 and x_0.isfinite().all()


def test_a_condition_that_equals_null_is_not_changed(guidance, denoiser):
    t = torch.full((3,), 0.6)
    same = condition(0.5, 1, 2)
    assert torch.allclose(guidance(denoiser, same, same)(x, t), denoiser(x, t, same), atol=1e-6)


def test_works_where_the_sample_is_while_time_stays_on_the_cpu(guidance, denoiser):
    cond, null = (Condition(vector=torch.empty(3, 1, device="meta")) for _ in range(2))
    assert guidance(denoiser, cond, null)(x.to("meta"), torch.full((3,), 0.5)).device.type == "meta"


def test_samples_do_not_see_each_other(guidance, denoiser):
    t = torch.tensor([0.3, 0.6, 0.9])
    cond, null = condition(0.5, 1, 2), condition(0, 0, 0)
    together = guidance(denoiser, cond, null)(x, t)
    for i in range(3):
        alone = guidance(denoiser, cond[i : i + 1], null[i : i + 1])(x[i : i + 1], t[i : i + 1])
        assert torch.allclose(alone, together[i : i + 1], atol=1e-6)


def test_keeps_a_learned_variance(guidance):
    """That of the condition: v is the condition's number here."""
    network = lambda x, time, cond: torch.cat([toy(x, time, cond), cond.vector[:, :1, None, None] + 0 * x], 1)  # noqa: E731
    denoiser = Denoiser(network, SCHEDULE, Velocity(), variance=LearnedRange())
    x_0, v = predictor(guidance(denoiser, condition(0.5, 1, 2), condition(0, 0, 0)))(x, torch.full((3,), 0.6))
    assert torch.allclose(v, torch.tensor([0.5, 1, 2]).view(3, 1, 1, 1).expand_as(x_0))


def test_says_the_same_alone_and_with_its_variance(guidance, denoiser):
    denoise, t = guidance(denoiser, condition(0.5, 1, 2), condition(0, 0, 0)), torch.full((3,), 0.6)
    assert torch.equal(denoise(x, t), predictor(denoise)(x, t).x_0)


def test_can_be_differentiated_for_what_is_wrapped_around_it(guidance, denoiser):
    denoise, t = guidance(denoiser, condition(0.5, 1, 2), condition(0, 0, 0)), torch.full((3,), 0.6)
    y = x.double().requires_grad_()
    (g,) = torch.autograd.grad(denoise(y, t).sum(), y)
    h = torch.zeros_like(x).double()
    h[1, 0, 2, 2] = 1e-5
    with torch.no_grad():
        slope = (denoise(x + h, t) - denoise(x - h, t)).sum() / 2e-5
    assert torch.allclose(g[1, 0, 2, 2], slope, rtol=1e-5)


def test_composes_with_every_wrapper(guidance, denoiser):
    denoise, t = guidance(denoiser, condition(0.5, 1, 2), condition(0, 0, 0)), torch.full((3,), 0.6)
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., 1] = True
    for wrapped in (
        classifier(denoise, SCHEDULE, lambda x, t: -x.square().flatten(1).sum(1)),
        energy(denoise, SCHEDULE, lambda x_0, t: -x_0.square().flatten(1).sum(1)),
        upsample(denoise, SCHEDULE, 2),
    ):
        with torch.no_grad():
            x_0 = wrapped(x, t)
            kept = keep_known(wrapped, x, mask)(x, t)
        assert x_0.isfinite().all() and not torch.allclose(x_0, denoise(x, t))
        assert torch.equal(kept[..., 1], x[..., 1]) and torch.equal(kept[..., 0], x_0[..., 0])
