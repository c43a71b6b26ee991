"""Where every peer's first-stage trainer is broken: which loss reaches which weights.

See also the toy-network tests of the trainer. Here the real networks are used, tiny.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from calotype.autoencoder.bottleneck.base import BottleneckConfig
from calotype.autoencoder.bottleneck.gaussian import GaussianConfig
from calotype.autoencoder.bottleneck.vector_quantized import VectorQuantizedConfig
from calotype.autoencoder.latent import LatentAutoencoder, LatentAutoencoderConfig
from calotype.losses.adversarial import Hinge, adaptive_weight
from calotype.losses.critic_penalty import LeCamConfig, R1Config
from calotype.losses.perceptual import Perceptual
from calotype.nn.discriminator import PatchDiscriminatorConfig
from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.rng import Draws
from calotype.tasks.base import Loss, Progress
from calotype.tasks.onset import AtFraction, AtPlateau
from calotype.tasks.reconstruct import Reconstruct, ReconstructionLoss
from calotype.training.throughput import count_flops

LOSS = ReconstructionLoss(start=AtFraction(0.5), warmup=0.1)


def build(loss: ReconstructionLoss = LOSS, bottleneck: BottleneckConfig | None = None) -> Reconstruct:
    torch.manual_seed(0)
    network = EncoderDecoderConfig(channels=8, multipliers=(1, 2), blocks=1, z_channels=2)
    autoencoder = LatentAutoencoderConfig(2, network, bottleneck or GaussianConfig()).build()
    return Reconstruct(autoencoder, PatchDiscriminatorConfig(channels=8, layers=2).build(), Perceptual(), loss)


@pytest.fixture
def task() -> Reconstruct:
    return build()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    return {"image": torch.rand(2, 3, 32, 32, generator=g) * 2 - 1, "index": torch.arange(2)}


DRAWS = Draws(seed=3, step=5, indices=[0, 1])


def gradients(module: nn.Module) -> list[Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None]


def run(task: Reconstruct, batch: dict[str, Tensor], step: int) -> Iterator[Loss]:
    return task.losses(batch, Progress(step, 100), DRAWS)


def test_before_the_start_there_is_one_loss(task: Reconstruct, batch: dict[str, Tensor]) -> None:
    assert [loss.phase for loss in run(task, batch, 0)] == ["autoencoder"]
    assert [loss.phase for loss in run(task, batch, 50)] == ["autoencoder", "discriminator"]


def test_the_perceptual_term_reaches_encoder_and_decoder(task: Reconstruct, batch: dict[str, Tensor]) -> None:
    x = batch["image"]
    x_hat, _ = task.autoencoder.reconstruct(x)
    task.perceptual(x, x_hat).mean().backward()
    for part in (task.autoencoder.encoder, task.autoencoder.decoder):
        assert all(float(g.abs().sum()) > 0 for g in gradients(part)[:1])
        assert len(gradients(part)) == len(list(part.parameters()))
    assert not gradients(task.perceptual)


def test_no_step_leaves_gradients_in_the_other_network(task: Reconstruct, batch: dict[str, Tensor]) -> None:
    losses = run(task, batch, 90)
    next(losses).value.backward()
    assert gradients(task.autoencoder) and not gradients(task.discriminator)
    before = [g.clone() for g in gradients(task.autoencoder)]
    next(losses).value.backward()
    assert gradients(task.discriminator)
    assert all(torch.equal(a, b) for a, b in zip(before, gradients(task.autoencoder), strict=True))
    assert all(p.requires_grad for p in task.discriminator.parameters())


def plain_total(task: Reconstruct, batch: dict[str, Tensor], voice: float) -> tuple[Tensor, Tensor]:
    """The loss as the paper writes it, by plain autograd through everything."""
    x = batch["image"]
    x_hat, code = task.autoencoder.reconstruct(x, lambda like: DRAWS.normal("posterior", like))
    rec = (x - x_hat).abs().mean() + task.loss.perceptual * task.perceptual(x, x_hat).mean()
    rec = task.likelihood(rec)
    g = Hinge().generator(task.discriminator(x_hat))
    last = task.autoencoder.last_weight
    (d_rec,) = torch.autograd.grad(rec, last, retain_graph=True)
    (d_g,) = torch.autograd.grad(g, last, retain_graph=True)
    w = voice * adaptive_weight(d_rec, d_g, task.loss.weight)
    return rec + w * g + code.rate / x[0].numel(), w


@pytest.mark.parametrize("learn_scale", [False, True])
@pytest.mark.parametrize(("step", "voice"), [(65, 0.5), (90, 1.0)])
def test_loss_and_gradients_equal_the_formula(
    batch: dict[str, Tensor], step: int, voice: float, learn_scale: bool
) -> None:
    task = build(replace(LOSS, learn_scale=learn_scale))
    if task.likelihood.logvar is not None:
        torch.nn.init.constant_(task.likelihood.logvar, 0.3)
    task.discriminator.eval()  # fixed batch-norm statistics: both passes see the same function
    total, w = plain_total(task, batch, voice)
    total.backward()
    parameters = list(task.trainable("autoencoder").parameters())
    assert len(parameters) == len(list(task.autoencoder.parameters())) + learn_scale
    wanted = [p.grad.clone() for p in parameters]
    task.zero_grad(set_to_none=True)
    loss = next(run(task, batch, step))
    loss.value.backward()
    assert float(loss.value) == pytest.approx(float(total), rel=1e-5)
    assert float(loss.metrics["adaptive_weight"]) == pytest.approx(float(w), rel=1e-4)
    for p, g in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-3, atol=1e-6)


def test_the_discriminator_learns_alone_before_it_is_heard(task: Reconstruct) -> None:
    voices = [task.loss.voice(Progress(s, 100), begun=50) for s in (50, 60, 65, 70, 100)]
    assert [round(v, 2) for v in voices] == [0, 0, 0.5, 1, 1]
    assert task.loss.voice(Progress(99, 100), begun=None) == 0


def test_a_step_of_each_phase_lowers_its_loss(task: Reconstruct, batch: dict[str, Tensor]) -> None:
    optimizers = {p: torch.optim.Adam(task.trainable(p).parameters(), 1e-3) for p in task.phases}
    values: dict[str, list[float]] = {p: [] for p in task.phases}
    for _ in range(15):
        for loss in run(task, batch, 50):
            values[loss.phase].append(float(loss.value))
            optimizers[loss.phase].zero_grad()
            loss.value.backward()
            optimizers[loss.phase].step()
    assert all(v[-1] < v[0] for v in values.values())


def test_preview_pairs_original_and_reconstruction(task: Reconstruct, batch: dict[str, Tensor]) -> None:
    picture = task.preview(batch, DRAWS)["reconstructions"]
    assert picture.shape == (4, 3, 32, 32)
    torch.testing.assert_close(picture[0], batch["image"][0])


def test_weights_of_the_loss_are_checked() -> None:
    with pytest.raises(ValueError, match="perceptual must be >= 0"):
        ReconstructionLoss(perceptual=-1.0)


def test_the_scale_of_the_errors_is_learned_to_its_optimum(batch: dict[str, Tensor]) -> None:
    """d/ds (E e^-s + s) = 0 at s = log E, E the weighted mean error."""
    task = build(replace(LOSS, learn_scale=True))
    logvar = task.likelihood.logvar
    assert logvar is not None
    optimizer = torch.optim.Adam([logvar], 0.05)
    for _ in range(300):
        (loss,) = run(task, batch, 0)
        (logvar.grad,) = torch.autograd.grad(loss.value, logvar)
        optimizer.step()
    error = loss.metrics["l1"] + loss.metrics["perceptual"]
    assert float(logvar) == pytest.approx(float(torch.as_tensor(error).log()), abs=1e-2)


def test_the_adaptive_weight_is_bounded(batch: dict[str, Tensor]) -> None:
    losses = [next(run(build(replace(LOSS, largest=largest)), batch, 90)) for largest in (1e4, 0.1)]
    free, bounded = (float(loss.metrics["adaptive_weight"]) for loss in losses)
    assert free > 0.1 * LOSS.weight and bounded == pytest.approx(0.1 * LOSS.weight)


@pytest.mark.parametrize("penalty", [R1Config(), LeCamConfig()])
def test_a_penalty_joins_the_discriminators_loss_alone(
    batch: dict[str, Tensor], penalty: R1Config | LeCamConfig
) -> None:
    plain, restrained = list(run(build(), batch, 90)), list(run(build(replace(LOSS, penalty=penalty)), batch, 90))
    assert float(plain[0].value) == pytest.approx(float(restrained[0].value), rel=1e-6)
    extra = float(restrained[1].metrics["penalty"])
    assert extra > 0 and float(restrained[1].value) == pytest.approx(float(plain[1].value) + extra, rel=1e-5)
    restrained[1].value.backward()


@pytest.mark.parametrize("penalty", [R1Config(), LeCamConfig()])
def test_flops_of_a_penalty_can_be_counted(batch: dict[str, Tensor], penalty: R1Config | LeCamConfig) -> None:
    """Counting hooks every module, and a hooked leaf is something that autograd.grad refuses to look at."""
    task = build(replace(LOSS, penalty=penalty))
    assert count_flops(lambda: [loss.value.backward() for loss in run(task, batch, 90)]) > 1e6


def test_a_plateau_starts_the_discriminator(batch: dict[str, Tensor]) -> None:
    """Without a step of the optimizer nothing improves: two windows later it begins."""
    task = build(replace(LOSS, start=AtPlateau(window=3)))
    told = [len(list(run(task, batch, step))) for step in range(8)]
    assert told == [1] * 5 + [2] * 3


def test_what_a_run_remembers_is_what_its_optimizers_own() -> None:
    task = build(replace(LOSS, learn_scale=True, start=AtPlateau(), penalty=LeCamConfig()))
    first, second = (set(task.trainable(phase).state_dict()) for phase in task.phases)
    assert {"likelihood.logvar", "onset.since", "watch.epoch"} <= first and "penalty.anchors" in second
    assert not first & second


def test_collapse_is_told_once_per_epoch_in_which_it_begins(batch: dict[str, Tensor]) -> None:
    """All places alike: one code serves them all."""
    grey = {"image": torch.zeros(8, 3, 32, 32), "index": torch.arange(8)}
    task = build(bottleneck=VectorQuantizedConfig(size=16)).train()
    torch.nn.init.zeros_(task.autoencoder.quant_conv.weight)
    draws = Draws(seed=0, step=0, indices=list(range(8)))
    warnings = []
    for epoch in (0, 0, 1, 1, 2, 3):
        loss = next(task.losses(grey | {"epoch": torch.full((8,), epoch)}, Progress(0, 100), draws))
        warnings.append(loss.warnings)
        assert ("epoch_perplexity" in loss.metrics) == (len(warnings) in (3, 5, 6))
    assert [len(w) for w in warnings] == [0, 0, 0, 0, 1, 0], "in the second epoch of it"
    assert "16" in warnings[4][0] and "revive" in warnings[4][0]


def test_latent_autoencoder_shapes(task: Reconstruct, batch: dict[str, Tensor]) -> None:
    autoencoder: LatentAutoencoder = task.autoencoder
    z = autoencoder.encode(batch["image"])
    assert z.shape == (2, *autoencoder.latent_shape(32, 32)) == (2, 2, 16, 16)
    assert autoencoder.decode(z).shape == batch["image"].shape
    with pytest.raises(ValueError, match="not a multiple"):
        autoencoder.encode(batch["image"][..., :31])
