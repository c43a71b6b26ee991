"""What a network is told about time."""

from __future__ import annotations

import torch

from calotype.diffusion import X0, Clock, Cosine, Denoiser, Linear, ScaledLinear, Schedule


def test_a_continuous_schedule_shows_a_thousand_t():
    t = torch.tensor([0.0, 0.25, 1.0])
    assert torch.equal(Schedule(Cosine()).clock(t), 1000 * t)


def test_a_table_shows_its_index():
    index = torch.arange(1000, dtype=torch.float64)
    assert torch.allclose(Schedule(ScaledLinear()).clock((index + 1) / 1000), index, atol=1e-9)
    assert torch.allclose(
        Schedule(Linear(steps=40)).clock(torch.tensor([0.025, 0.5, 1.0])), torch.tensor([0.0, 19, 39])
    )


def test_below_the_first_entry_the_network_is_told_the_first_entry():
    assert torch.equal(Schedule(ScaledLinear()).clock(torch.tensor([0.0, 0.0005])), torch.zeros(2))


def test_the_network_of_a_tabulated_denoiser_sees_whole_indices_on_stable_diffusions_grid():
    seen = []

    def network(x, time, cond):
        seen.append(time)
        return x

    denoiser = Denoiser(network, Schedule(ScaledLinear()), X0())
    for i in (999, 979, 19, 0):
        denoiser(torch.zeros(2, 1, 1, 1), torch.full((2,), (i + 1) / 1000), None)
        assert seen[-1].dtype == torch.float32
        assert torch.allclose(seen[-1], torch.full((2,), float(i)), atol=1e-4)


def test_a_denoiser_can_be_given_another_clock():
    denoiser = Denoiser(lambda x, time, cond: time.view(-1, 1, 1, 1) + 0 * x, Schedule(), X0(), Clock(10.0, 1.0))
    assert denoiser(torch.zeros(1, 1, 1, 1), torch.tensor([0.5]), None).item() == 6
