"""The classifier's task: its loss by hand, what counts, and that it learns a noisy class as well as Bayes allows."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from calotype.autoencoder.base import PixelSpace
from calotype.diffusion.classifier import Classifier
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.times import StratifiedTimes, UniformTimes
from calotype.rng import Draws
from calotype.tasks.base import Progress
from calotype.tasks.classify import Classify, recognised

SCHEDULE = Schedule()


class Brightness(torch.nn.Module):
    """Two logits that are linear in the mean of x; slope and offset depend on time by a small table."""

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.offset = (torch.nn.Parameter(torch.zeros(20)) for _ in range(2))

    def forward(self, x, time):
        k = (time / 50).long().clamp(0, 19)
        logit = self.slope[k] * x.flatten(1).mean(1) + self.offset[k]
        return torch.stack([-logit, logit], 1) / 2


def batch_of(n: int, seed: int = 0, labels: torch.Tensor | None = None):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (n,), generator=g)
    image = (2 * y - 1).view(-1, 1, 1, 1) * 0.2 + 0.5 * torch.randn(n, 3, 2, 2, generator=g)
    return {"index": torch.arange(n), "image": image, "label": y if labels is None else labels}


def step(task: Classify, batch, seed: int = 0):
    (loss,) = task.losses(batch, Progress(0, 1), Draws.of(seed, 0, batch))
    return loss


def test_the_loss_is_the_mean_surprise_at_the_class():
    network = Brightness()
    torch.nn.init.normal_(network.slope)
    task = Classify(Classifier(network, SCHEDULE), PixelSpace(), UniformTimes())
    batch = batch_of(8)
    draws = Draws.of(0, 0, batch)
    t = UniformTimes()(draws.uniform("time"))
    z_t = SCHEDULE.perturb(batch["image"], draws.normal("noise", batch["image"]), t)
    p = task.classifier(z_t, t).detach().double().softmax(1)
    surprise = [-float(p[i, y].log()) for i, y in enumerate(batch["label"])]
    assert float(step(task, batch).value.detach()) == pytest.approx(sum(surprise) / 8, rel=1e-5)


def test_pictures_without_a_class_do_not_count():
    network = Brightness()
    torch.nn.init.normal_(network.slope)
    task = Classify(Classifier(network, SCHEDULE), PixelSpace(), UniformTimes())
    batch = batch_of(8)
    some = {key: value[:5] for key, value in batch.items()}
    labels = batch["label"].clone()
    labels[5:] = -1
    part, few = step(task, batch | {"label": labels}), step(task, some)
    assert float(part.value.detach()) == pytest.approx(float(few.value.detach()), rel=1e-5)
    assert float(part.metrics["accuracy"]) == pytest.approx(float(few.metrics["accuracy"]))
    none = step(task, batch | {"label": torch.full((8,), -1)})
    assert not none.value.any() and none.metrics == {}


def test_accuracy_is_told_by_noise_level():
    task = Classify(Classifier(Brightness(), SCHEDULE), PixelSpace(), StratifiedTimes())
    with torch.no_grad():
        task.classifier.network.slope.fill_(5.0)
    loss = step(task, batch_of(4000))
    parts = [loss.metrics[f"accuracy_t_{a}"] for a in ("0.00_0.25", "0.25_0.50", "0.50_0.75", "0.75_1.00")]
    assert all(p > q for p, q in pairwise(parts))
    assert float(loss.metrics["accuracy"]) == pytest.approx(float(sum(parts) / 4), abs=1e-6), "equal slices of times"


def test_learns_the_noisy_class_as_well_as_bayes_rule():
    """x | y ~ N(+-0.2, 0.5^2) in 12 pixels: p(y | x_t) is logistic in the mean of x_t, with a known slope."""
    torch.manual_seed(0)
    network = Brightness()
    task = Classify(Classifier(network, SCHEDULE), PixelSpace(), StratifiedTimes())
    optimizer = torch.optim.Adam(network.parameters(), 0.2)
    for k in range(100):
        loss = step(task, batch_of(400, seed=k), seed=k).value
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batch = batch_of(20_000, seed=1000)
    draws = Draws.of(1000, 0, batch)
    t = StratifiedTimes()(draws.uniform("time"))
    alpha, sigma = SCHEDULE.at(t)
    z_t = SCHEDULE.perturb(batch["image"], draws.normal("noise", batch["image"]), t)
    logit = 2 * alpha * 0.2 * 12 / (alpha**2 * 0.25 + sigma**2) * z_t.flatten(1).mean(1)
    bayes = F.softplus(-(2 * batch["label"] - 1) * logit).mean()
    assert float(bayes) < 0.5 < float(torch.tensor(2.0).log())
    assert float(step(task, batch, seed=1000).value.detach()) == pytest.approx(float(bayes), abs=0.02)


def test_recognised_counts_right_answers_at_a_time():
    classifier = Classifier(Brightness(), SCHEDULE)
    with torch.no_grad():
        classifier.network.slope.fill_(5.0)
    batch = batch_of(2000)
    eps = torch.randn(2000, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    clean, noisy = (recognised(classifier, batch["image"], batch["label"], t, eps).float().mean() for t in (0.001, 1.0))
    assert clean == pytest.approx(0.917, abs=0.02)  # Phi(0.2 sqrt(12) / 0.5)
    assert noisy == pytest.approx(0.5, abs=0.04)
