"""Calculations that must not depend on how many processes share them.

Every case is a function without arguments that takes its `share` of fixed data and returns tensors by name, so that the
same function runs on one rank and on two. Run as a script, `rank_cases.py FOLDER RANK SIZE` is one rank: it runs all
cases in order and leaves FOLDER/CASE-RANK.safetensors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from calotype import ranks
from calotype.autoencoder.bottleneck.base import BottleneckConfig
from calotype.autoencoder.bottleneck.finite_scalar import FiniteScalarConfig
from calotype.autoencoder.bottleneck.gaussian import GaussianConfig
from calotype.autoencoder.bottleneck.vector_quantized import ByGradient, MovingAverage, VectorQuantizedConfig
from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.autoencoder.statistics import FirstBatch, Global, PerChannel, Posterior
from calotype.losses.critic_penalty import CriticPenaltyConfig, LeCamConfig, R1Config
from calotype.losses.perceptual import Perceptual
from calotype.nn.batch_norm import BatchNorm2d
from calotype.nn.discriminator import PatchDiscriminatorConfig
from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.rng import Draws
from calotype.tasks.base import Progress
from calotype.tasks.onset import AtFraction
from calotype.tasks.reconstruct import Reconstruct, ReconstructionLoss
from calotype.training.optim import OptimizerConfig
from calotype.training.phase import Phase
from calotype.types import Batch

Case = Callable[[], dict[str, Tensor]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def share(x: Tensor) -> Tensor:
    """This rank's part of a batch."""
    return x.chunk(ranks.size())[ranks.index()]


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# --- collectives ------------------------------------------------------------------------------------------------------


@case
def collectives() -> dict[str, Tensor]:
    x = numbers(2, 5)[ranks.index()]
    out = {"size": torch.tensor(ranks.size()), "index": torch.tensor(ranks.index())}
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        out[f"mean {dtype}"], out[f"total {dtype}"] = ranks.mean(x.to(dtype)), ranks.total(x.to(dtype))
        out[f"gathered {dtype}"] = ranks.gathered(x[:, None].to(dtype))
        out[f"first {dtype}"] = ranks.first(x.to(dtype))
    out["total integers"] = ranks.total(torch.arange(3) + ranks.index())
    strided = numbers(2, 3, 4)[ranks.index()].T
    out["total strided"], out["first strided"] = ranks.total(strided), ranks.first(strided)
    out["untouched"] = x  # no collective writes into what it is given
    lengths = (3, 0)
    out["gathered unequal"] = ranks.gathered(torch.full((lengths[ranks.index()], 2), 1.0 + ranks.index()))
    many = [
        numbers(3, 2)[ranks.index()],
        numbers(2, 70, seed=1)[ranks.index()].float(),
        numbers(2, seed=2)[ranks.index()],
    ]
    many.append(numbers(2, 4, 3, seed=3)[ranks.index()].T)
    ranks.average(many)
    return out | {f"average {k}": v for k, v in enumerate(many)}


@case
def derivatives() -> dict[str, Tensor]:
    """L_r = w_r total(x^3)^2 and its first two derivatives, with weights that differ between ranks."""
    x = numbers(2, 4, seed=3)[ranks.index()].requires_grad_()
    w = torch.tensor([1.0, 3.0], dtype=torch.float64)[ranks.index()]
    loss = (w * ranks.total(x**3).square()).sum()
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    y = numbers(2, 4, seed=3)[ranks.index()].requires_grad_()
    (of_mean,) = torch.autograd.grad((w * ranks.mean(y**3).square()).sum(), y)
    return {"first": first, "second": second, "of mean": of_mean}


# --- batch normalisation ----------------------------------------------------------------------------------------------


def normalised(norm: nn.BatchNorm2d, x: Tensor) -> dict[str, Tensor]:
    """Output, gradients (also of a penalty on the gradient, as R1 needs it) and running statistics of three batches."""
    torch.manual_seed(1)
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.bias)
    norm.to(x.dtype)
    out = {}
    for step in range(3):
        x = (x * 1.3 + step).detach().requires_grad_()
        y = norm(x)
        (slope,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        loss = y.cos().mul(1 + y).sum() + slope.square().sum()
        d_x, d_weight, d_bias = torch.autograd.grad(loss, [x, norm.weight, norm.bias])
        out |= {f"{step} y": y.detach(), f"{step} d x": d_x}
        out |= {f"{step} d weight": ranks.total(d_weight), f"{step} d bias": ranks.total(d_bias)}
        out |= {f"{step} {name}": buffer.clone() for name, buffer in norm.named_buffers()}
    norm.eval()
    return out | {"evaluation": norm(x).detach()}


@case
def batch_norm() -> dict[str, Tensor]:
    return normalised(BatchNorm2d(3), share(numbers(6, 3, 4, 5) * 2 + 100))


@case
def batch_norm_unequal() -> dict[str, Tensor]:
    """Ranks with 5 and 1 pictures: the statistics weigh pictures, not ranks."""
    x = numbers(6, 3, 4, 5)
    return normalised(BatchNorm2d(3), x if ranks.size() == 1 else x.split([5, 1])[ranks.index()])


@case
def batch_norm_single() -> dict[str, Tensor]:
    return normalised(BatchNorm2d(3), share(numbers(6, 3, 4, 5, dtype=torch.float32)))


@case
def batch_norm_of_each() -> dict[str, Tensor]:
    """What it would be without talking; the comparison has to see it."""
    return normalised(nn.BatchNorm2d(3), share(numbers(6, 3, 4, 5)))


@case
def batch_norm_half() -> dict[str, Tensor]:
    y = BatchNorm2d(3)(share(numbers(6, 3, 4, 5, dtype=torch.bfloat16)))
    return {"y": y.detach()}


# --- statistics of latents --------------------------------------------------------------------------------------------


@case
def latent_statistics() -> dict[str, Tensor]:
    mu, s, index = share(numbers(7, 3, 4, 4) * 3 + 50), share(numbers(7, 3, 4, 4, seed=1).abs()), share(torch.arange(7))
    posterior = Posterior(mu, s, lambda like: Draws(0, 0, index.tolist()).normal("statistics", like))
    out = {}
    for rule in (PerChannel(), Global(), FirstBatch(7)):
        name = type(rule).__name__
        out[f"{name} mean"], out[f"{name} std"] = rule.measure([posterior], 3)
        # A rank without any picture still has its say.
        lonely = [posterior] if ranks.index() == 0 else []
        if ranks.size() == 1:
            lonely = [Posterior(mu[:4], s[:4], lambda like: Draws(0, 0, range(4)).normal("statistics", like))]
        out[f"{name} lonely mean"], out[f"{name} lonely std"] = rule.measure(lonely, 3)
    return out


# --- the first stage --------------------------------------------------------------------------------------------------

STEPS = 3
PICTURES = 8
SIDE = 16


class Edges(nn.Module):
    """Features of a small random network, instead of the real one's: quick."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.first(x).tanh()
        return h, self.second(h).tanh()


def task(bottleneck: BottleneckConfig, loss: ReconstructionLoss) -> Reconstruct:
    torch.manual_seed(0)
    network = EncoderDecoderConfig(channels=8, multipliers=(1, 2), blocks=1, z_channels=3)
    autoencoder = LatentAutoencoderConfig(channels=3, network=network, bottleneck=bottleneck).build()
    return Reconstruct(autoencoder, PatchDiscriminatorConfig(channels=8, layers=2).build(), Perceptual(Edges()), loss)


def part_of_batch() -> Batch:
    """Pictures whose two halves differ, so that no half is like the whole."""
    x = numbers(PICTURES, 3, SIDE, SIDE, dtype=torch.float32).mul(0.3)
    x[PICTURES // 2 :] = x[PICTURES // 2 :].mul(1.5).add(0.4)
    index = torch.arange(PICTURES)
    return {"image": share(x.clamp(-1, 1)), "index": share(index), "epoch": share(torch.zeros_like(index))}


ADVERSARIAL = ReconstructionLoss(start=AtFraction(0.0), warmup=0.0, learn_scale=True)


def first_stage(
    bottleneck: BottleneckConfig, penalty: CriticPenaltyConfig | None = None, kind: type[Reconstruct] = Reconstruct
) -> dict[str, Tensor]:
    """Three steps of both phases: every gradient, its norm, the adaptive weight; then all weights and buffers."""
    learner = task(bottleneck, replace(ADVERSARIAL, penalty=penalty))
    learner.__class__ = kind
    # A large eps keeps Adam from making whole steps out of the rounding of gradients that vanish.
    optimizer = OptimizerConfig(lr=1e-3, eps=1e-2)
    phases = {name: Phase(name, learner.trainable(name), optimizer, 0.9) for name in learner.phases}
    out: dict[str, Tensor] = {}
    learner.train()
    for step in range(STEPS):
        batch = part_of_batch()
        for loss in learner.losses(batch, Progress(step, STEPS), Draws.of(3, step, batch)):
            phase, where = phases[loss.phase], f"{step} {loss.phase}"
            norm = phase.backward(loss.value)
            out[f"{where} gradient"] = torch.cat([p.grad.flatten() for p in phase.parameters if p.grad is not None])
            out[f"{where} norm"] = norm
            if "adaptive_weight" in loss.metrics:
                out[f"{where} weight"] = torch.as_tensor(loss.metrics["adaptive_weight"])
            phase.step(float(norm), 1e-3)
    # Flat, lest a tensor looks like a part of a batch.
    for name, phase in phases.items():
        out |= {f"{name}.{key}": value.flatten() for key, value in phase.module.state_dict().items()}
    return {key: value.reshape(-1) for key, value in out.items()}


@case
def first_stage_gaussian() -> dict[str, Tensor]:
    return first_stage(GaussianConfig(1e-3))


@case
def first_stage_finite_scalar() -> dict[str, Tensor]:
    return first_stage(FiniteScalarConfig((5, 5, 4)))


@case
def first_stage_codes_by_gradient() -> dict[str, Tensor]:
    return first_stage(VectorQuantizedConfig(size=48, learning=ByGradient()))


@case
def first_stage_codes_by_means() -> dict[str, Tensor]:
    return first_stage(VectorQuantizedConfig(size=48, learning=MovingAverage()))


@case
def first_stage_revival_by_gradient() -> dict[str, Tensor]:
    return first_stage(VectorQuantizedConfig(size=48, learning=ByGradient(), revive=0.5))


@case
def first_stage_revival_by_means() -> dict[str, Tensor]:
    return first_stage(VectorQuantizedConfig(size=48, learning=MovingAverage(), revive=0.5))


@case
def first_stage_few_vectors() -> dict[str, Tensor]:
    """More codes than vectors: the k-means start fills up with noisy copies."""
    return first_stage(VectorQuantizedConfig(size=PICTURES * (SIDE // 2) ** 2 + 100, learning=MovingAverage()))


@case
def first_stage_r1() -> dict[str, Tensor]:
    return first_stage(GaussianConfig(), R1Config())


@case
def first_stage_lecam() -> dict[str, Tensor]:
    return first_stage(GaussianConfig(), LeCamConfig())


@case
def first_stage_norms_of_each() -> dict[str, Tensor]:
    """With batch normalisation by rank; the comparison has to see it."""
    with patch.object(BatchNorm2d, "forward", nn.BatchNorm2d.forward):
        return first_stage(GaussianConfig(1e-3))


class WeightOfEach(Reconstruct):
    """With an adaptive weight by rank."""

    def _at_last_layer(self, x_hat: Tensor, gradient: Tensor) -> Tensor:
        (g,) = torch.autograd.grad(x_hat, self.autoencoder.last_weight, gradient, retain_graph=True)
        return g


@case
def first_stage_weight_of_each() -> dict[str, Tensor]:
    return first_stage(GaussianConfig(1e-3), kind=WeightOfEach)


class OneLoss(nn.Module):
    """The autoencoder's loss as a module's forward, which is what torch's own data parallelism wraps."""

    def __init__(self, learner: Reconstruct) -> None:
        super().__init__()
        self.side = learner.trainable("autoencoder")
        self.losses = learner.losses

    def forward(self, batch: Batch) -> Tensor:
        return next(iter(self.losses(batch, Progress(0, 10), Draws.of(3, 0, batch)))).value


@case
def reconstruction_alone() -> dict[str, Tensor]:
    """Before the discriminator speaks: our gradients, and beside them those of DistributedDataParallel on two ranks."""
    learner, batch = task(GaussianConfig(1e-3), replace(ADVERSARIAL, start=AtFraction(1.0))), part_of_batch()
    phase = Phase("autoencoder", learner.trainable("autoencoder"), OptimizerConfig(), None)
    wrapped: nn.Module = OneLoss(learner)
    phase.backward(wrapped(batch))
    ours = torch.cat([p.grad.flatten() for p in phase.parameters])
    for p in phase.parameters:
        p.grad = None
    if ranks.size() > 1:
        wrapped = nn.parallel.DistributedDataParallel(wrapped)
    wrapped(batch).backward()
    return {"ours": ours, "theirs": torch.cat([p.grad.flatten() for p in phase.parameters])}


def main() -> None:
    folder, rank, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), size)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    try:
        for name, function in CASES.items():
            save_file(
                {k: v.detach().contiguous() for k, v in function().items()}, folder / f"{name}-{rank}.safetensors"
            )
    finally:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
