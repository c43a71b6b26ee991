"""DDIM backwards and forwards."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import DDIM, Cosine, GaussianMixture, Karras, Schedule, UniformGrid
from calotype.diffusion.curves.density import Flow
from calotype.diffusion.path import LinearPath
from calotype.diffusion.samplers import invert
from calotype.errors import UserError

F64 = torch.float64
SCHEDULES = [Schedule(Cosine()), Schedule(Cosine(None, None)), Schedule(Flow(), LinearPath())]
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0], [0.8]], dtype=F64), torch.tensor([0.5, 0.3], dtype=F64), torch.tensor([0.4, 0.6], dtype=F64)
)
X = torch.tensor([[0.9], [-1.1], [0.1]], dtype=F64)


def there_and_back(schedule: Schedule, down: torch.Tensor, refinements: int) -> float:
    denoise = MIXTURE.denoise(schedule)
    *_, top = invert(denoise, X, down.flip(0), schedule, refinements)
    *_, bottom = DDIM()(denoise, top.x, down, schedule, torch.zeros_like)
    return (bottom.x - X).square().mean().sqrt().item()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_round_trip_has_an_error_of_first_order(schedule):
    errors = [there_and_back(schedule, UniformGrid()(schedule, n), 0) for n in (80, 160)]
    assert 1.6 < errors[0] / errors[1] < 2.6 and errors[1] < 0.1, errors


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_refinements_make_it_exact(schedule):
    down = UniformGrid()(schedule, 60)
    assert there_and_back(schedule, down, 40) < 1e-9 < there_and_back(schedule, down, 0)


def test_refinements_need_few_steps_on_a_path_that_does_not_keep_the_variance():
    """Without the factor of the correction ten steps and twenty refinements leave 3e-5."""
    schedule = Schedule(Cosine(), LinearPath())
    assert there_and_back(schedule, UniformGrid()(schedule, 10), 20) < 1e-6


def test_a_point_is_inverted_exactly_by_any_steps():
    """x_0 known: at t the sample shows eps, and at every s it is alpha_s x_0 + sigma_s eps."""
    schedule, point = SCHEDULES[1], torch.tensor([0.7], dtype=F64)
    denoise = GaussianMixture.gaussian(point, 0.0).denoise(schedule)
    times = torch.tensor([0.2, 0.5, 1.0], dtype=F64)
    a, s = schedule.at(times)
    for refinements in (0, 2):
        steps = [*invert(denoise, a[0] * point + s[0] * X, times, schedule, refinements)]
        for a_s, s_s, step in zip(a[1:], s[1:], steps, strict=True):
            assert torch.allclose(step.x, a_s * point + s_s * X, rtol=1e-12)


def test_the_noise_of_data_is_normal():
    """Exact samples become N(0, 1): mean and variance to four standard errors, and as much for the steps."""
    schedule, g = SCHEDULES[0], torch.Generator().manual_seed(0)
    x = MIXTURE.draw(torch.randn(5000, 1, generator=g, dtype=F64), torch.rand(5000, generator=g))
    *_, top = invert(MIXTURE.denoise(schedule), x, Karras()(schedule, 200).flip(0), schedule)
    eps = top.x / schedule.at(top.t)[1]
    assert eps.mean().item() == pytest.approx(0, abs=0.11) and eps.var().item() == pytest.approx(1, abs=0.16)


def test_asks_nothing_at_no_noise_and_nothing_unasked():
    asked: list[float] = []

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked.append(t[0].item())
        assert not torch.is_grad_enabled()
        return MIXTURE.denoise(SCHEDULES[0])(x, t)

    walk = invert(denoise, X, torch.linspace(0, 1, 4, dtype=F64), SCHEDULES[0], refinements=1)
    assert not asked
    next(walk)
    assert asked == pytest.approx([1 / 3, 1 / 3]) and torch.is_grad_enabled()
    [*_] = walk
    assert asked == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])


def test_a_grid_the_wrong_way_round_is_refused():
    with pytest.raises(UserError, match="flip the grid"):
        next(invert(MIXTURE.denoise(SCHEDULES[0]), X, UniformGrid()(SCHEDULES[0], 3), SCHEDULES[0]))
    with pytest.raises(UserError, match="refinements >= 0"):
        next(invert(MIXTURE.denoise(SCHEDULES[0]), X, UniformGrid()(SCHEDULES[0], 3).flip(0), SCHEDULES[0], -1))
