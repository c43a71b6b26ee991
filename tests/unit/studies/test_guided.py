"""Ways to follow a class, with small random networks: what each is by definition, and that none costs another."""

import pytest
import torch
from torch import Tensor

from calotype.autoencoder.base import PixelSpace
from calotype.autoencoder.latent_space import LatentSpace
from calotype.condition import Condition
from calotype.conditioning.class_label import ClassLabel, ClassLabelConfig
from calotype.conditioning.conditioner import Conditioners
from calotype.diffusion.classifier import Classifier
from calotype.diffusion.denoiser import Denoiser
from calotype.diffusion.guidance import Autoguidance, ClassifierFree
from calotype.diffusion.parameterization import X0
from calotype.diffusion.schedule import Schedule
from calotype.generation.classifier import LatentClassifier
from calotype.generation.generate import Plan, images
from calotype.model import LatentDiffusion
from calotype.studies.guided import Makers, Setting

CLASSES = ("bag", "boot", "coat")
NAMES = ["bag", "coat", "coat", "boot", "bag"]
SCHEDULE = Schedule()
MEANS = torch.tensor([-0.75, 0.0, 0.75])


def posterior(x_t: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(log p(c | x_t), E[x_0 | x_t, c], E[x_0 | x_t]) for classes N(mean_c, I) of equal size."""
    alpha = SCHEDULE.at(time.double() / 1000)[0][:, None].to(x_t)
    d = x_t[0].numel()
    away = x_t.flatten(1)[:, None] - (alpha * MEANS)[..., None]  # (B, K, d)
    log_c = (-away.square().sum(-1) / 2).log_softmax(1)  # of unit variance at every t
    x_0 = MEANS[None, :, None] + alpha[..., None] * away
    assert x_0.shape == (len(x_t), 3, d)
    return log_c, x_0, (log_c.exp()[..., None] * x_0).sum(1)


def exact(x: Tensor, time: Tensor, cond: Condition) -> Tensor:
    """E[x_0 | x_t, c], for the class that the token's first number says, or none for 3."""
    _, x_0, mixed = posterior(x, time)
    assert cond.tokens is not None
    c = cond.tokens[:, 0, 0].round().long()
    every = torch.cat([x_0, mixed[:, None]], 1)
    return every[torch.arange(len(x)), c].view_as(x)


def model(shift: float = 0.0) -> LatentDiffusion:
    """The exact denoiser of three classes; `shift` adds to what it says, and moves its tokens so that no other model
    can read them."""
    label = ClassLabel(CLASSES, 2, 0.1)
    with torch.no_grad():
        label.embedding.weight.copy_(torch.arange(4.0)[:, None] + 10 * shift)

    def network(x: Tensor, time: Tensor, cond: Condition) -> Tensor:
        assert cond.tokens is not None
        return exact(x, time, Condition(tokens=cond.tokens - 10 * shift)) + shift

    denoiser = Denoiser(network, SCHEDULE, X0())
    denoiser.register_parameter("device", torch.nn.Parameter(torch.zeros(())))
    conditioner = Conditioners({"class": label}, {"class": ClassLabelConfig(2, 0.1)})
    return LatentDiffusion(PixelSpace(), denoiser, conditioner, side=4).eval()


def logits(x: Tensor, time: Tensor) -> Tensor:
    return posterior(x, time)[0]


@pytest.fixture
def makers() -> Makers:
    classifier = LatentClassifier(Classifier(logits, SCHEDULE), CLASSES, LatentSpace.of(PixelSpace()))
    return Makers(model(), model(0.25), classifier, steps=6)


@pytest.mark.parametrize("w", [0.5, 2.0, 3.0])
def test_equal_powers_are_equal_pictures(makers: Makers, w: float) -> None:
    """What the study's axis says: with exact networks three ways are one."""
    free = makers.samples(Setting("", w, w, ClassifierFree(w)), NAMES, 0)
    alone = makers.samples(Setting("", w, w, told=False, push=w), NAMES, 0)
    on_top = makers.samples(Setting("", w - 1, w, push=w - 1), NAMES, 0)
    assert free.std() > 0.1 and (free - makers.samples(Setting("", 1, 1), NAMES, 0)).abs().max() > 0.02
    torch.testing.assert_close(alone, free, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(on_top, free, atol=1e-4, rtol=1e-4)


def test_no_guidance_is_what_the_model_does_by_itself(makers: Makers) -> None:
    plan = Plan(guidance=ClassifierFree(1.0), steps=6)
    told = images(makers.model, {"label": NAMES}, plan, n=5, seed=3)
    assert torch.equal(makers.samples(Setting("", 1.0, 1.0), NAMES, 3), told)
    untold = images(makers.model, {}, plan, n=5, seed=3)
    assert torch.equal(makers.samples(Setting("", 0.0, 0.0, told=False), NAMES, 3), untold)
    assert not torch.equal(told, untold)


def test_the_worse_model_is_asked_in_its_own_words(makers: Makers) -> None:
    """It is wrong by 0.25 everywhere, so the way away from it is a shift by that; its tokens are no other model's."""
    found = makers.samples(Setting("", 3.0, 3.0, away=3.0), NAMES, 0)
    cond, null = makers.model.condition({"label": NAMES}, 5), makers.model.null(5)
    x, t = torch.randn(5, 3, 4, 4), torch.full((5,), 0.5)
    same = Autoguidance(3.0, worse=makers.model.denoiser)(makers.model.denoiser, cond, null)(x, t)
    shifted = makers._steer(Setting("", 3.0, 3.0, away=3.0), NAMES)(makers.model.denoiser.bind(cond), slice(0, 5))
    torch.testing.assert_close(shifted(x, t), same - 2 * 0.25, atol=1e-5, rtol=1e-5)
    assert found.mean() < makers.samples(Setting("", 1.0, 1.0), NAMES, 0).mean() - 0.1


def test_a_sample_is_the_same_in_any_company(makers: Makers) -> None:
    setting = Setting("", 2.0, 3.0, ClassifierFree(2.0), push=1.0, away=1.5)
    together, alone = makers.samples(setting, NAMES, 0), makers.samples(setting, NAMES[:2], 0)
    torch.testing.assert_close(together[:2], alone)
    assert together.shape == (5, 3, 4, 4) and together.abs().max() <= 1
