"""Our bottlenecks against those of vector-quantize-pytorch, on the same codes and the same vectors.

Where both mean the same thing they agree to rounding. Where they do not, the test says how:

* its moving average divides sums by Laplace-smoothed counts, which pulls codes that are hardly used towards zero; with
  its `eps` near 0 it is ours;
* its learnable codebook penalises |v - e|^2 once, with both gradients: the paper's two terms with beta = 1;
* its FSQ bounds by (L - 1)(1 + .001) / 2, ours by (L - 1)(1 - .001) / 2 as in the paper's listing, so codes may differ
  for vectors within a thousandth of a boundary.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from vector_quantize_pytorch import FSQ, VectorQuantize

from calotype.autoencoder.bottleneck.codebook import COUNT_DECAY
from calotype.autoencoder.bottleneck.finite_scalar import FiniteScalarConfig
from calotype.autoencoder.bottleneck.vector_quantized import (
    ByGradient,
    MovingAverage,
    VectorQuantized,
    VectorQuantizedConfig,
)

K, D = 24, 6


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ours(config: VectorQuantizedConfig, codes: Tensor) -> VectorQuantized:
    q = config.build(D).train()
    with torch.no_grad():
        q.codebook.codes.copy_(codes)
        q.codebook.batches.fill_(1)  # the codes are given: no k-means
    return q


def theirs(codes: Tensor, **options: object) -> VectorQuantize:
    q = VectorQuantize(D, K, accept_image_fmap=True, rotation_trick=False, eps=1e-12, decay=COUNT_DECAY, **options)
    with torch.no_grad():
        q._codebook.embed.copy_(codes[None])
    return q.train()


def test_same_codes_same_picture_same_gradient() -> None:
    codes, h, probe = draw(K, D), draw(3, D, 5, 4, seed=1), draw(3, D, 5, 4, seed=2)
    a = ours(VectorQuantizedConfig(size=K, learning=MovingAverage(), beta=0.25), codes)
    b = theirs(codes, commitment_weight=0.25)
    x, y = h.clone().requires_grad_(), h.clone().requires_grad_()
    code = a(x)
    read, index, loss = b(y)
    assert torch.equal(ours(a.config, codes).indices(h), index)
    torch.testing.assert_close(code.read, read)
    torch.testing.assert_close(code.penalties["codebook"], loss.sum())
    ((code.read * probe).sum() + code.penalties["codebook"]).backward()
    ((read * probe).sum() + loss.sum()).backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_moving_averages_agree_over_many_batches() -> None:
    codes, used = draw(K, D), 5 + 5 * torch.rand(K, generator=torch.Generator().manual_seed(3))
    a = ours(VectorQuantizedConfig(size=K, learning=MovingAverage()), codes)
    b = theirs(codes)
    with torch.no_grad():
        a.codebook.used.copy_(used)
        b._codebook.cluster_size.copy_(used[None])
        b._codebook.embed_avg.copy_((codes * used[:, None])[None])
    for k in range(20):
        h = draw(4, D, 6, 6, seed=10 + k)
        a(h.clone().requires_grad_())
        b(h.clone().requires_grad_())
        torch.testing.assert_close(a.codebook.codes, b._codebook.embed[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a.codebook.used, b._codebook.cluster_size[0], rtol=1e-4, atol=1e-5)


def test_learned_codes_get_the_same_gradient() -> None:
    codes, h = draw(K, D), draw(3, D, 5, 4, seed=1)
    a = ours(VectorQuantizedConfig(size=K, learning=ByGradient(), beta=1.0), codes)
    b = theirs(codes, learnable_codebook=True, ema_update=False, commitment_weight=1.0)
    x, y = h.clone().requires_grad_(), h.clone().requires_grad_()
    code, (_, _, loss) = a(x), b(y)
    # The same number twice: once with the gradient of the codes, once with that of the vectors.
    torch.testing.assert_close(code.penalties["codebook"], 2 * loss.sum())
    code.penalties["codebook"].backward()
    loss.sum().backward()
    torch.testing.assert_close(a.codebook.codes.grad, b._codebook.embed.grad[0])
    torch.testing.assert_close(x.grad, y.grad)


def test_directions_are_compared_alike() -> None:
    codes, h = torch.nn.functional.normalize(draw(K, D), dim=1), draw(3, D, 5, 4, seed=1)
    a = ours(VectorQuantizedConfig(size=K, learning=MovingAverage(), cosine=True), codes)
    b = theirs(codes, use_cosine_sim=True).eval()
    read, index, _ = b(h)
    assert torch.equal(a.indices(h), index)
    torch.testing.assert_close(a.eval().project(h), read)


def test_directions_are_learned_alike() -> None:
    """Ours keeps the mean itself and compares its direction, theirs keeps the direction; loss and gradients agree."""
    codes, used = torch.nn.functional.normalize(draw(K, D), dim=1), 5 + draw(K, seed=3).abs()
    a = ours(VectorQuantizedConfig(size=K, learning=MovingAverage(), cosine=True, beta=0.25), codes)
    b = theirs(codes, use_cosine_sim=True, commitment_weight=0.25)
    with torch.no_grad():
        a.codebook.used.copy_(used)
        b._codebook.cluster_size.copy_(used[None])
        b._codebook.embed_avg.copy_((codes * used[:, None])[None])
    for k in range(20):
        h, probe = draw(4, D, 6, 6, seed=10 + k), draw(4, D, 6, 6, seed=50 + k)
        x, y = h.clone().requires_grad_(), h.clone().requires_grad_()
        code, (read, _, loss) = a(x), b(y)
        torch.testing.assert_close(code.read, read)
        torch.testing.assert_close(code.penalties["codebook"], loss.sum())
        ((code.read * probe).sum() + code.penalties["codebook"]).backward()
        ((read * probe).sum() + loss.sum()).backward()
        torch.testing.assert_close(x.grad, y.grad)
        torch.testing.assert_close(a.codebook.table(), b._codebook.embed[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (7, 5, 3), (8, 8, 8, 6), (4, 4)])
def test_finite_scalars_agree_away_from_boundaries(levels: tuple[int, ...]) -> None:
    h = 1.5 * draw(8, len(levels), 16, 16, seed=4)
    a, b = FiniteScalarConfig(levels).build(len(levels)), FSQ(list(levels), channel_first=True)
    read, index = b(h)
    mine = a(h)
    same = (mine.read - read).abs().amax(1) < 1e-5
    assert same.float().mean() > 0.97
    # Where they differ, some channel lies within the two bounds' difference of a boundary between two levels.
    n = torch.tensor(levels).view(-1, 1, 1)
    before = mine.z * (n // 2)
    near = ((before - before.floor() - 0.5).abs() < 2e-3 * n).any(1)
    assert bool((same | near).all())
    assert torch.equal(a.indices(mine.z)[same], index[same].long())
