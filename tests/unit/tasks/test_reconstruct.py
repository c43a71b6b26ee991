"""Where every peer's first-stage trainer is broken: which loss reaches which weights.

See also the toy-network tests of the trainer. Here the real networks are used, tiny.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from calotype.autoencoder.latent import LatentAutoencoder, LatentAutoencoderConfig
from calotype.losses.adversarial import Hinge, adaptive_weight
from calotype.losses.perceptual import Perceptual
from calotype.nn.discriminator import PatchDiscriminatorConfig
from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.rng import Draws
from calotype.tasks.base import Loss, Progress
from calotype.tasks.reconstruct import Reconstruct, ReconstructionLoss


@pytest.fixture
def task() -> Reconstruct:
    torch.manual_seed(0)
    network = EncoderDecoderConfig(channels=8, multipliers=(1, 2), blocks=1, z_channels=2)
    autoencoder = LatentAutoencoderConfig(channels=2, network=network).build()
    discriminator = PatchDiscriminatorConfig(channels=8, layers=2).build()
    return Reconstruct(autoencoder, discriminator, Perceptual(), ReconstructionLoss(start=0.5, warmup=0.1))


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
    g = Hinge().generator(task.discriminator(x_hat))
    last = task.autoencoder.last_weight
    (d_rec,) = torch.autograd.grad(rec, last, retain_graph=True)
    (d_g,) = torch.autograd.grad(g, last, retain_graph=True)
    w = voice * adaptive_weight(d_rec, d_g, task.loss.weight)
    return rec + w * g + code.rate / x[0].numel(), w


@pytest.mark.parametrize(("step", "voice"), [(65, 0.5), (90, 1.0)])
def test_loss_and_gradients_equal_the_formula(
    task: Reconstruct, batch: dict[str, Tensor], step: int, voice: float
) -> None:
    task.discriminator.eval()  # fixed batch-norm statistics: both passes see the same function
    total, w = plain_total(task, batch, voice)
    total.backward()
    wanted = [p.grad.clone() for p in task.autoencoder.parameters()]
    task.zero_grad(set_to_none=True)
    loss = next(run(task, batch, step))
    loss.value.backward()
    assert float(loss.value) == pytest.approx(float(total), rel=1e-5)
    assert float(loss.metrics["adaptive_weight"]) == pytest.approx(float(w), rel=1e-4)
    for p, g in zip(task.autoencoder.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-3, atol=1e-6)


def test_the_discriminator_learns_alone_before_it_is_heard(task: Reconstruct) -> None:
    loss = task.loss
    assert [loss.learns(Progress(s, 100)) for s in (49, 50)] == [False, True]
    assert [round(loss.voice(Progress(s, 100)), 2) for s in (50, 60, 65, 70, 100)] == [0, 0, 0.5, 1, 1]


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


def test_latent_autoencoder_shapes(task: Reconstruct, batch: dict[str, Tensor]) -> None:
    autoencoder: LatentAutoencoder = task.autoencoder
    z = autoencoder.encode(batch["image"])
    assert z.shape == (2, *autoencoder.latent_shape(32, 32)) == (2, 2, 16, 16)
    assert autoencoder.decode(z).shape == batch["image"].shape
    with pytest.raises(ValueError, match="not a multiple"):
        autoencoder.encode(batch["image"][..., :31])
