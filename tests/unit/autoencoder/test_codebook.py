"""Codebooks against brute force, closed forms, and running means kept by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from calotype.autoencoder.bottleneck import codebook as module
from calotype.autoencoder.bottleneck.codebook import COUNT_DECAY, Codebook
from calotype.autoencoder.bottleneck.finite_scalar import FiniteScalarConfig
from calotype.autoencoder.bottleneck.usage import perplexity
from calotype.autoencoder.bottleneck.vector_quantized import ByGradient, MovingAverage, VectorQuantizedConfig


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_nearest_equals_brute_force_and_ties_go_to_the_first() -> None:
    book = Codebook(50, 3, learned=True)
    with torch.no_grad():
        book.codes.copy_(draw(50, 3))
        book.codes[20] = book.codes[7]
    v = torch.cat([draw(200, 3, seed=1), book.codes.detach()])
    exact = (v.double()[:, None] - book.codes.double()[None]).square().sum(2).argmin(1)
    assert torch.equal(book.nearest(v), exact)
    assert book.nearest(v)[200 + 20] == 7


@pytest.mark.parametrize("offset", [0.0, 20.0])
def test_autocast_does_not_round_the_search(offset: float) -> None:
    """Vectors come in half precision, and are then compared exactly, off the origin as well."""
    book = Codebook(256, 4, learned=True)
    with torch.no_grad():
        book.codes.copy_(draw(256, 4) + offset)
    half = (draw(2048, 4, seed=1) + offset).bfloat16()
    distance = (half.double()[:, None] - book.codes.detach().double()[None]).square().sum(2)
    with torch.autocast("cpu", torch.bfloat16):
        index = book.nearest(book.vectors(half))
        rounded = (book.codes.square().sum(1) - 2 * half @ book.codes.T).argmin(1)
    best = distance.min(1).values
    # float32 has 24 bits of |e|^2 + 2 v e to tell codes apart with.
    lost = distance.gather(1, index[:, None])[:, 0] - best
    assert float(lost.max()) <= 1e-6 * max(1.0, 4 * offset**2)
    assert not torch.equal(rounded, index), "what autocast would have made of it"


def test_the_search_in_parts_is_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    book, v = Codebook(50, 3, learned=True), draw(200, 3, seed=1)
    whole = book.nearest(v)
    monkeypatch.setattr(module, "SEARCHED", 50 * 7)
    assert torch.equal(book.nearest(v), whole)
    monkeypatch.setattr(module, "SEARCHED", 1)
    assert torch.equal(book.nearest(v), whole), "even a book larger than one part is searched, vector by vector"


@pytest.mark.parametrize("offset", [0.0, 20.0])
def test_autocast_does_not_round_the_start(offset: float) -> None:
    v, a, b = draw(1024, 4) + offset, Codebook(64, 4, learned=True), Codebook(64, 4, learned=True)
    a.attend(v)
    with torch.autocast("cpu", torch.bfloat16):
        b.attend(v)
    assert torch.equal(a.codes, b.codes)


def test_cosine_compares_directions() -> None:
    book = Codebook(9, 4, learned=True, cosine=True)
    with torch.no_grad():
        book.codes.copy_(draw(9, 4) * 10)
    v = book.vectors(draw(40, 4, seed=1) * torch.rand(40, 1) * 5)
    exact = torch.cosine_similarity(v[:, None], book.codes[None], dim=2).argmax(1)
    assert torch.equal(book.nearest(v), exact)


def test_loss_and_its_gradients() -> None:
    """sg(h) - e moves the code with weight 1, h - sg(e) the encoder with beta; `legacy` swaps the weights."""
    for legacy, (to_code, to_encoder) in {False: (1.0, 0.25), True: (0.25, 1.0)}.items():
        config = VectorQuantizedConfig(size=8, learning=ByGradient(legacy=legacy), weight=2.0)
        q = config.build(3).eval()
        with torch.no_grad():
            q.codebook.codes.copy_(draw(8, 3))
        h = draw(2, 3, 4, 5, seed=1).requires_grad_()
        code = q(h)
        v = h.detach().movedim(1, -1).reshape(-1, 3)
        e = q.codebook.codes.detach()[q.codebook.nearest(v)]
        torch.testing.assert_close(code.penalties["codebook"], 2 * 1.25 * (v - e).square().mean())
        of_h, of_codes = torch.autograd.grad(code.penalties["codebook"], (h, q.codebook.codes))
        by_hand = 2 * to_encoder * 2 * (v - e) / v.numel()
        torch.testing.assert_close(of_h.movedim(1, -1).reshape(-1, 3), by_hand)
        n = torch.zeros(8, 3).index_add_(0, q.codebook.nearest(v), 2 * to_code * 2 * (e - v) / v.numel())
        torch.testing.assert_close(of_codes, n)


def test_the_gradient_passes_straight_through() -> None:
    q = VectorQuantizedConfig(size=8).build(3).eval()
    h, probe = draw(2, 3, 4, 5).requires_grad_(), draw(2, 3, 4, 5, seed=1)
    (gradient,) = torch.autograd.grad(q(h).read, h, probe)
    assert torch.equal(gradient, probe)


def test_moving_average_equals_its_sums() -> None:
    """m and N of van den Oord's appendix, kept apart, after ten batches."""
    q = VectorQuantizedConfig(size=6, learning=MovingAverage()).build(2).train()
    q(draw(4, 2, 3, 3))
    total, count = q.codebook.codes * q.codebook.used[:, None], q.codebook.used.clone()
    for k in range(1, 11):
        h = draw(4, 2, 3, 3, seed=k)
        v = h.movedim(1, -1).reshape(-1, 2)
        index = q.codebook.nearest(v)
        total = COUNT_DECAY * total + (1 - COUNT_DECAY) * torch.zeros(6, 2).index_add_(0, index, v)
        count = COUNT_DECAY * count + (1 - COUNT_DECAY) * torch.bincount(index, minlength=6)
        q(h)
        torch.testing.assert_close(q.codebook.codes, total / count[:, None])
        torch.testing.assert_close(q.codebook.used, count)


@pytest.mark.parametrize("learning", [ByGradient(), MovingAverage()])
def test_the_first_batch_sets_the_codes_where_the_vectors_are(learning: ByGradient | MovingAverage) -> None:
    """Eight far-apart clumps, eight codes times four: every clump gets a code, which the tiny first codes would not."""
    centres = torch.tensor(list(itertools.product((-9.0, 9.0), repeat=3)))
    which = torch.arange(8).repeat(64)
    h = (centres[which] + 0.1 * draw(512, 3)).T.reshape(1, 3, 16, 32)
    q = VectorQuantizedConfig(size=32, learning=learning).build(3).train()
    assert (q(h).read.detach() - h).abs().max() < 1.0


def test_dead_codes_are_revived() -> None:
    q = VectorQuantizedConfig(size=64, learning=MovingAverage(), revive=0.125).build(2).train()
    q(draw(8, 2, 8, 8))
    with torch.no_grad():  # all but four codes are thrown far away
        q.codebook.codes[4:] = 1e4 + draw(60, 2)
    used = []
    for k in range(500):
        code = q(draw(8, 2, 8, 8, seed=k))
        used.append(float(code.metrics["codes_used"]))
    assert used[0] <= 4 / 64 and used[-1] > 0.9
    still = replace(q.config, revive=0.0).build(2).train()
    still.load_state_dict(q.state_dict())
    with torch.no_grad():
        still.codebook.codes[4:] = 1e4 + draw(60, 2)
    for k in range(500):
        code = still(draw(8, 2, 8, 8, seed=k))
    assert float(code.metrics["codes_used"]) <= 4 / 64, "without revival they stay dead"


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("learning", [ByGradient(), MovingAverage()])
def test_a_book_that_is_dead_from_the_start_comes_to_life(learning: ByGradient | MovingAverage, cosine: bool) -> None:
    """512 codes a thousand away from everything, in one direction; few serve all vectors until the others are moved."""
    q = VectorQuantizedConfig(size=512, learning=learning, revive=0.1, cosine=cosine).build(4).train()
    with torch.no_grad():
        q.codebook.codes.copy_(1e3 + draw(512, 4))
        q.codebook.batches.fill_(1)  # k-means has been missed
    shares = [float(q(draw(16, 4, 16, 16, seed=k)).metrics["codes_used"]) for k in range(30)]
    assert shares[0] < 0.1 and min(shares[1:]) > 0.9, "moved once that is seen, and used from then on"
    assert shares[0] == 1 / 512 or cosine
    stayed = int((q.codebook.codes.detach().abs().amax(1) > 100).sum())
    assert stayed <= round(512 * shares[0]), "all but those that served at first"


def test_dead_codes_move_to_different_vectors() -> None:
    q = VectorQuantizedConfig(size=64, learning=MovingAverage(), revive=0.5).build(2).train()
    q(draw(1, 2, 8, 8))
    q.codebook.used.zero_()
    q.codebook.used[0] = 64
    q.codebook.attend(draw(64, 2, seed=1))
    assert len(q.codebook.codes[1:].unique(dim=0)) == 63


@pytest.mark.parametrize("learning", [ByGradient(), MovingAverage()])
def test_a_bad_batch_does_not_stay_in_the_codes(learning: ByGradient | MovingAverage) -> None:
    """What the trainer undoes are buffers, but learned codes are a parameter; one NaN among them is nearest to all."""
    q = VectorQuantizedConfig(size=32, learning=learning, revive=0.1).build(4).train()
    h = draw(2, 4, 8, 8)
    q(h)
    q.codebook.used[5] = 0.0
    before = [b.clone() for b in q.buffers()]
    q(h * math.nan)
    for buffer, kept in zip(q.buffers(), before, strict=True):
        buffer.copy_(kept)
    assert q.codebook.codes.isfinite().all()
    q(h)
    assert q.codebook.used[5] > 0, "it is moved by the next good one"


def test_more_dead_codes_than_vectors_do_not_share_a_place() -> None:
    book, v = Codebook(64, 2, learned=False, revive=0.5), draw(16, 2)
    book.batches.fill_(1)
    book.used[0] = 64
    book.attend(v)
    moved = book.codes[1:]
    assert len(moved.unique(dim=0)) == 63
    assert all((moved == x).all(1).any() for x in v), "every vector has got a code of its own"
    assert float(torch.cdist(moved, v).min(1).values.max()) < 0.6, "and the copies lie next to one"


@pytest.mark.parametrize(("betas", "rates"), [((0.9, 0.999), 70), ((0.5, 0.9), 2.1)])
def test_moments_of_the_old_place_do_not_carry_a_moved_code_away(betas: tuple[float, float], rates: float) -> None:
    """The worst history that there is, gradients in the ratio b1 / b2, then a move and silence."""
    book, lr = Codebook(8, 3, learned=True), 1e-3
    optimizer = torch.optim.AdamW(book.parameters(), lr=lr, betas=betas, eps=1e-30, weight_decay=0.0)
    book.codes.grad = torch.ones_like(book.codes)
    for k in reversed(range(150)):
        book.codes.grad.fill_((betas[0] / betas[1]) ** k)
        optimizer.step()
    # As late as it gets: without the corrections of the first steps, which make them smaller.
    optimizer.state[book.codes]["step"].fill_(1e6)
    with torch.no_grad():
        book.codes.copy_(draw(8, 3))
    book.codes.grad.zero_()
    for _ in range(300):
        optimizer.step()
    far = float((book.codes.detach() - draw(8, 3)).abs().max()) / lr
    assert 0.9 * rates < far < rates


def test_revival_repeats_itself_after_a_restart() -> None:
    config = VectorQuantizedConfig(size=64, learning=MovingAverage(), revive=0.5)
    whole, first = config.build(2).train(), config.build(2).train()
    first.load_state_dict(whole.state_dict())
    for k in range(6):
        whole(draw(1, 2, 4, 4, seed=k))
    for k in range(3):
        first(draw(1, 2, 4, 4, seed=k))
    second = config.build(2).train()
    second.load_state_dict(first.state_dict())
    for k in range(3, 6):
        second(draw(1, 2, 4, 4, seed=k))
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), second.buffers(), strict=True))


@pytest.mark.parametrize("cosine", [False, True])
def test_small_codes_are_searched_in_the_small_space(cosine: bool) -> None:
    q = VectorQuantizedConfig(size=16, width=2, cosine=cosine).build(8).eval()
    h = draw(2, 8, 3, 3)
    index = q.indices(h)
    assert q.codebook.codes.shape == (16, 2) and index.shape == (2, 3, 3)
    by_hand = q.up(q.codebook.table()[index].movedim(-1, 1))
    torch.testing.assert_close(q.project(h), by_hand)


@pytest.mark.parametrize(("n", "value"), [([5, 5, 5, 5], 4.0), ([7, 0, 0, 0], 1.0), ([0, 3, 3, 0], 2.0), ([0, 0], 1.0)])
def test_perplexity(n: list[int], value: float) -> None:
    assert perplexity(torch.tensor(n).float()).item() == pytest.approx(value)


@pytest.mark.parametrize("levels", [(8, 5, 4), (4, 3), (7,), (16, 16)])
def test_finite_scalar_reaches_its_grid_and_nothing_else(levels: tuple[int, ...]) -> None:
    q = FiniteScalarConfig(levels).build(len(levels))
    code = q(draw(64, len(levels), 32, 32) * 4)
    index = q.indices(code.z)
    assert index.unique().tolist() == list(range(math.prod(levels)))
    for channel, n in zip(code.read.unbind(1), levels, strict=True):
        expected = (torch.arange(n) - n // 2) / (n // 2)
        torch.testing.assert_close(channel.unique(), expected)
    assert len(torch.cat([code.read.movedim(1, -1).flatten(0, 2), index.view(-1, 1)], 1).unique(dim=0)) == math.prod(
        levels
    ), "one number per code"
    assert float(code.metrics["codes_used"]) == 1.0
    assert q(torch.zeros(1, len(levels), 1, 1)).z.abs().max() < 1e-6, "bound(0) = 0"


@pytest.mark.parametrize(
    "change", [{"size": 0}, {"size": 2**40}, {"width": 0}, {"weight": -1.0}, {"beta": float("nan")}, {"revive": -1.0}]
)
def test_wrong_vq_configs(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(VectorQuantizedConfig(), **change)


@pytest.mark.parametrize("levels", [(), (2, 5), (4096, 4096)])
def test_wrong_levels(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="levels must"):
        FiniteScalarConfig(levels)


def test_levels_for_other_channels() -> None:
    with pytest.raises(ValueError, match="3 levels were given for 4"):
        FiniteScalarConfig((3, 3, 3)).build(4)
