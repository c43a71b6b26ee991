from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from calotype.rng import Draws, SampleNoise, fold, generator

POSITIONS = st.lists(st.one_of(st.integers(), st.text(max_size=8)), max_size=4)


@given(st.integers(), POSITIONS)
def test_fold_is_deterministic_and_fits_a_torch_seed(seed: int, positions: list[int | str]) -> None:
    value = fold(seed, *positions)
    assert value == fold(seed, *positions)
    assert 0 <= value < 2**63


def test_fold_is_the_same_in_every_process_and_release() -> None:
    # BLAKE2b with an 8 byte digest of "0|" and of "7|'noise'|3|", halved: a change here would change every picture.
    assert fold(0) == int.from_bytes(_blake(b"0|"), "little") // 2
    assert fold(7, "noise", 3) == int.from_bytes(_blake(b"7|'noise'|3|"), "little") // 2


def _blake(data: bytes) -> bytes:
    import hashlib

    return hashlib.blake2b(data, digest_size=8).digest()


def test_fold_depends_on_every_argument_and_on_their_order() -> None:
    values = {fold(1, 2), fold(2, 1), fold(1, "2"), fold(1, 2, 0), fold(12), fold(1), fold(1, "a", "b"), fold(1, "ab")}
    assert len(values) == 8


def test_generator_is_positioned() -> None:
    a, b, c = (torch.rand(4, generator=generator(1, "x", k)) for k in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_draws_follow_the_sample_not_its_place_in_the_batch() -> None:
    like = torch.empty(3, 2, 4)
    forward = Draws(5, 9, [10, 11, 12]).normal("eps", like)
    backward = Draws(5, 9, [12, 11, 10]).normal("eps", like)
    assert torch.equal(forward, backward.flip(0))
    assert torch.equal(Draws(5, 9, [11]).normal("eps", like[:1]), forward[1:2])


def test_draws_differ_by_seed_step_sample_and_purpose() -> None:
    like = torch.empty(1, 64)
    draws = [
        Draws(0, 0, [0]).normal("eps", like),
        Draws(1, 0, [0]).normal("eps", like),
        Draws(0, 1, [0]).normal("eps", like),
        Draws(0, 0, [1]).normal("eps", like),
        Draws(0, 0, [0]).normal("posterior", like),
    ]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert not torch.isclose(a, b).any()


def test_a_sample_that_comes_twice_in_a_batch_gets_noise_of_its_own() -> None:
    batch = {"index": torch.tensor([4, 5, 4]), "epoch": torch.tensor([0, 0, 1])}
    noise = Draws.of(0, 0, batch).normal("eps", torch.empty(3, 8))
    assert not torch.isclose(noise[0], noise[2]).any()
    assert torch.equal(noise[:2], Draws.of(0, 0, {"index": torch.tensor([4, 5])}).normal("eps", torch.empty(2, 8)))


def test_draws_do_not_touch_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    Draws(0, 0, [0, 1]).normal("eps", torch.empty(2, 8))
    SampleNoise.range(0, 2).initial((3,))
    assert torch.equal(before, torch.get_rng_state())


def test_normal_is_standard_and_uniform_is_uniform() -> None:
    draws = Draws(3, 0, range(200))
    eps = draws.normal("eps", torch.empty(200, 500))
    assert abs(eps.mean()) < 0.02  # 100,000 values: standard error 0.003
    assert abs(eps.std() - 1) < 0.02
    u = draws.uniform("t", 500)
    assert u.shape == (200, 500)
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01


def test_normal_takes_dtype_of_like() -> None:
    assert Draws(0, 0, [0]).normal("eps", torch.empty(1, 2, dtype=torch.float64)).dtype == torch.float64


def test_sample_noise_does_not_depend_on_the_batch() -> None:
    whole = SampleNoise.range(7, 5)
    parts = [SampleNoise.range(7, 2), SampleNoise.range(7, 3, start=2)]
    x = whole.initial((4, 8, 8))
    assert torch.equal(x, torch.cat([p.initial((4, 8, 8)) for p in parts]))
    for _ in range(2):  # later draws too
        fresh = whole(x)
        assert torch.equal(fresh, torch.cat([p(x[a:b]) for p, a, b in zip(parts, (0, 2), (2, 5), strict=True)]))
    assert not torch.equal(fresh, x)


def test_sample_noise_accepts_any_seed() -> None:
    assert SampleNoise([-1, 2**70]).initial((2,)).shape == (2, 2)
