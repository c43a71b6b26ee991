"""What every guidance must do."""

from __future__ import annotations

import pytest
import torch

from calotype.condition import Condition
from calotype.diffusion import Cosine, Denoiser, Schedule, Velocity, guidances
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


def test_survives_a_config_file(guidance):
    assert from_plain(to_plain(guidance)) == guidance


@pytest.mark.parametrize("time", [0.0, 0.3, 1.0])
def test_gives_a_finite_x_0_of_the_right_shape(guidance, time):
    x_0 = guidance(DENOISER, condition(0.5, 1, 2), condition(0, 0, 0))(x, torch.full((3,), time))
    assert x_0.shape == x.shape and x_0.dtype == torch.float32 and x_0.isfinite().all()


def test_a_condition_that_equals_null_is_not_changed(guidance):
    t = torch.full((3,), 0.6)
    same = condition(0.5, 1, 2)
    assert torch.allclose(guidance(DENOISER, same, same)(x, t), DENOISER(x, t, same), atol=1e-6)


def test_works_where_the_sample_is_while_time_stays_on_the_cpu(guidance):
    cond, null = (Condition(vector=torch.empty(3, 1, device="meta")) for _ in range(2))
    assert guidance(DENOISER, cond, null)(x.to("meta"), torch.full((3,), 0.5)).device.type == "meta"


def test_samples_do_not_see_each_other(guidance):
    t = torch.tensor([0.3, 0.6, 0.9])
    cond, null = condition(0.5, 1, 2), condition(0, 0, 0)
    together = guidance(DENOISER, cond, null)(x, t)
    for i in range(3):
        alone = guidance(DENOISER, cond[i : i + 1], null[i : i + 1])(x[i : i + 1], t[i : i + 1])
        assert torch.allclose(alone, together[i : i + 1], atol=1e-6)
