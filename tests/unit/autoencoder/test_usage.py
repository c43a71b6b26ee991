"""Usage over a period: counts by brute force, the rule of collapse at its edges."""

import math

import pytest
import torch

from calotype.autoencoder.bottleneck.base import BottleneckConfig
from calotype.autoencoder.bottleneck.finite_scalar import FiniteScalarConfig
from calotype.autoencoder.bottleneck.usage import CodeUsage, Usage
from calotype.autoencoder.bottleneck.vector_quantized import VectorQuantizedConfig

CONFIGS = [VectorQuantizedConfig(size=40), FiniteScalarConfig((5, 4, 3))]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_counts_are_those_of_all_batches_together() -> None:
    usage, g = Usage(50), torch.Generator().manual_seed(0)
    batches = [torch.randint(0, 30, (4, 3, 3), generator=g) for _ in range(7)]
    for index in batches:
        usage.count(index)
    everything = torch.cat([b.flatten() for b in batches])
    p = torch.bincount(everything).double() / len(everything)
    seen = usage.take()
    assert (seen.size, seen.vectors, seen.used) == (50, len(everything), len(everything.unique()))
    assert seen.share == seen.used / 50
    assert seen.perplexity == pytest.approx(math.exp(-sum(float(q) * math.log(q) for q in p if q > 0)))
    assert usage.take() == CodeUsage(50, 0, 0, 1.0), "taken is taken"


def test_a_batch_cannot_tell_what_an_epoch_can() -> None:
    """Every batch uses ten other codes: a tenth in each, all of them together."""
    usage = Usage(100)
    for k in range(10):
        index = torch.arange(10 * k, 10 * k + 10)
        usage.count(index)
    assert usage.take().perplexity == pytest.approx(100)


@pytest.mark.parametrize(
    ("size", "vectors", "perplexity", "collapsed"),
    [
        (512, 10_000, 300.0, False),
        (512, 10_000, 52.0, False),
        (512, 10_000, 51.0, True),
        (512, 100, 9.9, True),  # a hundred vectors can choose a hundred codes at most
        (512, 100, 10.1, False),
        (9, 10_000, 1.0, True),  # one code for all is a collapse of any book
        (2, 10_000, 1.0, False),  # of two codes, one may really be enough
        (512, 5, 1.0, False),  # five vectors say nothing
    ],
)
def test_the_rule_of_collapse(size: int, vectors: int, perplexity: float, collapsed: bool) -> None:
    usage = CodeUsage(size, vectors, min(size, vectors, math.ceil(perplexity)), perplexity)
    assert usage.collapsed == collapsed
    assert str(size) in usage.warning() and "fewer codes" in usage.warning()


@pytest.mark.parametrize(("config", "word"), [*zip(CONFIGS, ("revive", "levels"), strict=True)])
def test_the_warning_names_what_this_kind_of_code_has(config: BottleneckConfig, word: str) -> None:
    usage = config.build(3).usage
    assert usage is not None and word in usage.take().warning()


@pytest.mark.parametrize("config", CONFIGS)
def test_only_training_counts(config: BottleneckConfig) -> None:
    torch.manual_seed(0)
    channels = 3
    q = config.build(channels)
    h = draw(2, q.incoming, 4, 5)
    q.eval()(h)
    with torch.no_grad():
        q.train()(h)
    assert q.usage is not None and q.usage.take().vectors == 0
    q.train()(h)
    q(h)
    assert q.usage.take().vectors == 2 * 2 * 4 * 5


@pytest.mark.parametrize("config", CONFIGS)
def test_counts_survive_a_stop(config: BottleneckConfig) -> None:
    torch.manual_seed(0)
    whole, other = config.build(3).train(), config.build(3).train()
    for k in range(4):
        whole(draw(2, 3, 4, 4, seed=k))
    other.load_state_dict(whole.state_dict())
    assert other.usage is not None and whole.usage is not None
    assert other.usage.take() == whole.usage.take()
