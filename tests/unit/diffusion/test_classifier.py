"""The classifier's readings: probabilities, time and scale of what its network is shown."""

from __future__ import annotations

import torch

from calotype.diffusion import Cosine, Linear, LogLinear, Schedule, VarianceExploding
from calotype.diffusion.classifier import Classifier

x, t = torch.randn(3, 2, 4, 4), torch.tensor([0.1, 0.5, 0.9])


def test_log_prob_is_the_logarithm_of_a_distribution():
    logits = torch.randn(3, 5)
    classifier = Classifier(lambda x, time: logits, Schedule())
    parts = torch.stack([classifier.log_prob(torch.full((3,), k))(x, t) for k in range(5)])
    assert torch.allclose(parts.exp().sum(0), torch.ones(3))
    expected = (logits.exp() / logits.exp().sum(1, keepdim=True)).log()
    assert torch.allclose(parts.T, expected, atol=1e-6)


def test_the_network_is_told_time_by_the_schedules_clock_and_shown_unit_variance():
    seen = {}

    def network(x, time):
        seen.update(x=x, time=time)
        return x.flatten(1)

    for schedule in (Schedule(Cosine()), Schedule(Linear())):
        Classifier(network, schedule)(x, t)
        assert torch.allclose(seen["time"], schedule.clock(t)) and seen["time"].dtype == torch.float32
        assert torch.allclose(seen["x"], x, rtol=1e-6), "a variance preserving path needs no scaling"


def test_the_network_is_shown_unit_variance_on_every_path():
    seen = []
    schedule = Schedule(LogLinear(-6, 6), VarianceExploding())
    Classifier(lambda x, time: seen.append(x) or x.flatten(1), schedule)(x, t)
    _, sigma = schedule.at(t)
    assert torch.allclose(seen[0], x / (1 + sigma**2).sqrt().view(-1, 1, 1, 1), rtol=1e-5)
