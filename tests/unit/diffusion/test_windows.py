"""Windows against the whole, wherever the whole can be known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from calotype.condition import Condition
from calotype.diffusion import (
    DDIM,
    DDPM,
    X0,
    Autoguidance,
    ClassifierFree,
    Cosine,
    Denoiser,
    DPMpp2M,
    Schedule,
    UniformGrid,
    Velocity,
    Windowed,
)
from calotype.diffusion.variance import LearnedRange
from calotype.diffusion.windows import stretched
from calotype.diffusion.wrappers import energy, keep_known, likeness, upsample
from calotype.errors import UserError
from calotype.rng import SampleNoise

SCHEDULE = Schedule(Cosine())
NOTHING = Condition()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pointwise(x, time, cond):
    """Listens to everything, and looks nowhere but where it answers."""
    level = time.view(-1, 1, 1, 1) / 1000
    told = 0 if cond.vector is None else cond.vector[:, :1, None, None]
    told = told if cond.tokens is None else told + (cond.tokens[..., :1] * cond.mask[..., None]).sum(1)[..., None, None]
    told = told if cond.spatial is None else told + cond.spatial[:, :1]
    return torch.tanh(x * (1 + level) + told)


def condition(n: int, *size: int, seed: int = 1) -> Condition:
    """Every route, different in every sample."""
    mask = torch.ones(n, 3, dtype=torch.bool)
    mask[:, 2] = False
    return Condition(draw(n, 3, 4, seed=seed), mask, draw(n, 2, *size, seed=seed + 1), draw(n, 5, seed=seed + 2))


@given(st.integers(1, 60), st.integers(1, 30), st.data())
def test_the_weights_of_all_windows_sum_to_one(length, size, data):
    stride = data.draw(st.integers(1, size))
    total = torch.zeros(length, dtype=torch.float64)
    for place, weight in stretched(length, size, stride):
        assert place.stop - place.start == len(weight) == min(size, length) and place.start >= 0
        assert (weight > 0).all() and (weight <= 1).all()
        total[place] += weight
    assert torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-12)


def test_windows_stand_a_stride_apart_and_the_last_fits():
    assert [place.start for place, _ in stretched(20, 8, 4)] == [0, 4, 8, 12]
    assert [place.start for place, _ in stretched(21, 8, 4)] == [0, 4, 8, 12, 13]
    assert [place.start for place, _ in stretched(8, 8, 4)] == [place.start for place, _ in stretched(5, 8, 4)] == [0]


@pytest.mark.parametrize("stride", [16, 24, 32, 48])
def test_nothing_jumps_where_a_window_ends(stride):
    (_, first), (_, second) = stretched(64 + stride, 64, stride)
    overlap = 64 - stride
    assert torch.equal(first[:stride], torch.ones(stride, dtype=torch.float64))  # alone
    assert first[-1] < 0.01 and second[0] < 0.01 and (first.diff().abs() <= 4 / overlap).all()
    assert torch.allclose(second[:overlap].flip(0), first[stride:])  # both sides alike


@pytest.mark.parametrize("size", [(13, 22), (16, 16), (7, 40), (40, 7)])
@pytest.mark.parametrize("window", [8, (8, 12), (5, 16), 16])
def test_a_pointwise_network_says_the_same(size, window):
    denoiser, x, t = Denoiser(pointwise, SCHEDULE, Velocity()), draw(2, 3, *size), torch.tensor([0.3, 0.8])
    cond = condition(2, *size)
    windowed = Windowed(denoiser, window, stride=4 if window != (5, 16) else (2, 9), batch=3)
    assert torch.allclose(windowed(x, t, cond), denoiser(x, t, cond), atol=1e-6)
    everywhere = condition(2, 1, 1)
    assert torch.allclose(windowed(x, t, everywhere), denoiser(x, t, everywhere), atol=1e-6)


def test_a_convolution_says_the_same_where_no_window_ends_within_its_reach():
    """Two 3 x 3 layers see 2 positions far. A window that ends with the picture is padded as the picture is."""
    first, second = draw(6, 2, 3, 3), draw(2, 6, 3, 3, seed=1)

    def network(x, time, cond):
        return F.conv2d(F.conv2d(x, first, padding=1).tanh(), second, padding=1)

    denoiser, x, t = Denoiser(network, SCHEDULE, X0()), draw(1, 2, 24, 44), torch.tensor([0.4])
    difference = (Windowed(denoiser, (16, 12), (8, 8))(x, t, NOTHING) - denoiser(x, t, NOTHING)).abs()[0].amax(0)
    inside = torch.ones(24, 44, dtype=torch.bool)
    for end in (8, 16):
        inside[end - 2 : end + 2] = False
    for end in (8, 12, 16, 20, 24, 28, 32, 36):
        inside[:, end - 2 : end + 2] = False
    assert inside.sum() > 50 and difference[inside].max() < 1e-5
    assert difference[~inside].max() > 1e-2  # elsewhere they see less than the whole


def test_each_window_counts_by_its_weight():
    """A network that answers with its window's mean, by hand."""
    x, t = draw(1, 1, 10, 9), torch.tensor([0.5])
    denoiser = Denoiser(lambda x, time, cond: x.mean((2, 3), keepdim=True).expand_as(x), SCHEDULE, X0())
    expected = torch.zeros(10, 9, dtype=torch.float64)
    for rows, a in stretched(10, 6, 3):
        for columns, b in stretched(9, 4, 2):
            expected[rows, columns] += torch.outer(a, b) * x[0, 0, rows, columns].mean()
    assert torch.allclose(Windowed(denoiser, (6, 4))(x, t, NOTHING)[0, 0].double(), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (5, 8), (8, 3)])
def test_a_sample_no_larger_than_a_window_is_the_denoisers_own_to_the_last_bit(size):
    denoiser, x, t = Denoiser(pointwise, SCHEDULE, Velocity()), draw(3, 2, *size), torch.tensor([0.0, 0.5, 1.0])
    cond = condition(3, *size)
    for given_ in (cond, condition(3, 1, 1), NOTHING):
        assert torch.equal(Windowed(denoiser, 8, batch=1)(x, t, given_), denoiser(x, t, given_))


def test_the_batch_changes_no_picture():
    kernel = draw(2, 2, 5, 5)
    denoiser = Denoiser(lambda x, time, cond: F.conv2d(x, kernel, padding=2) + cond.spatial[:, :2], SCHEDULE, X0())
    x, t, cond = draw(3, 2, 20, 14), torch.tensor([0.2, 0.5, 0.9]), condition(3, 20, 14)
    one, *others = (Windowed(denoiser, 8, batch=batch)(x, t, cond) for batch in (1, 2, 7, 1000))
    assert all(torch.allclose(one, other, rtol=0, atol=1e-5 * one.abs().max()) for other in others)
    alone = torch.cat([Windowed(denoiser, 8)(x[i : i + 1], t[i : i + 1], cond[i : i + 1]) for i in range(3)])
    assert torch.allclose(one, alone, rtol=0, atol=1e-5 * one.abs().max())


@pytest.mark.parametrize("side", [24, 48, 96])
def test_the_network_never_sees_more_than_a_batch_of_windows(side):
    seen = []

    def network(x, time, cond):
        seen.append(max(v.numel() for v in (x, cond.spatial)))
        assert x.shape[2:] == cond.spatial.shape[2:] == (8, 8) and len(x) == len(time) == len(cond.vector) <= 4
        return pointwise(x, time, cond)

    windowed = Windowed(Denoiser(network, SCHEDULE, Velocity()), 8, batch=4)
    ClassifierFree(2.0)(windowed, condition(2, side, side), condition(2, side, side, seed=9))(
        draw(2, 2, side, side), torch.tensor([0.3, 0.6])
    )
    assert max(seen) == 4 * 2 * 8 * 8 and len(seen) == 2 * 2 * (side // 4 - 1) ** 2 / 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_answers_in_float32_or_better(dtype):
    windowed = Windowed(Denoiser(pointwise, SCHEDULE, Velocity()), 4)
    x_0 = windowed(draw(1, 1, 9, 9).to(dtype), torch.tensor([0.5]), NOTHING)
    assert x_0.dtype == torch.promote_types(dtype, torch.float32)


def test_a_learned_variance_is_blended_too():
    network = lambda x, time, cond: torch.cat([pointwise(x, time, cond), x.sin()], 1)  # noqa: E731
    denoiser = Denoiser(network, SCHEDULE, Velocity(), variance=LearnedRange())
    windowed, x, t = Windowed(denoiser, 4, 3), draw(2, 2, 9, 7), torch.tensor([0.3, 0.9])
    for blended, whole in zip(windowed.predict(x, t, NOTHING), denoiser.predict(x, t, NOTHING), strict=True):
        assert torch.allclose(blended, whole, atol=1e-6)
    assert windowed.variance == LearnedRange() and windowed.schedule == SCHEDULE


PLAIN = Denoiser(pointwise, SCHEDULE, Velocity())
OTHER = Denoiser(lambda x, time, cond: 0.7 * x, SCHEDULE, Velocity())
GUIDANCES = {
    "rescaled": lambda windowed: ClassifierFree(4.0, rescale=0.7),
    "interval": lambda windowed: ClassifierFree(4.0, interval=(-2, 3)),
    "autoguidance": lambda windowed: Autoguidance(2.0, rescale=0.5, worse=Windowed(OTHER, 4) if windowed else OTHER),
}


@pytest.mark.parametrize("sampler", [DDIM(), DPMpp2M(), DDPM()], ids=str)
@pytest.mark.parametrize("name", GUIDANCES)
def test_guidance_and_known_parts_act_on_the_whole(name, sampler):
    """Statistics are those of the whole sample and noise is drawn for it: with a pointwise network nothing differs."""
    cond, null = condition(2, 10, 7), condition(2, 10, 7, seed=8)
    known, mask = draw(2, 1, 10, 7, seed=5), torch.arange(7).view(1, 1, 1, 7) < 3
    times, ends = UniformGrid()(SCHEDULE, 6), []
    for denoiser in (PLAIN, Windowed(PLAIN, (4, 5), 2, batch=3)):
        guidance = GUIDANCES[name](denoiser is not PLAIN)
        denoise = keep_known(guidance(denoiser, cond, null), known, mask)
        *_, last = sampler(denoise, draw(2, 1, 10, 7), times, SCHEDULE, SampleNoise([1, 2]))
        ends.append(last.x)
    assert torch.allclose(*ends, atol=1e-4)


def test_gradients_go_through():
    x, t, cond = draw(2, 1, 9, 11), torch.tensor([0.3, 0.6]), condition(2, 9, 11)
    score = likeness(draw(2, 1, 9, 11, seed=3), std=0.5)
    pulled, same = (energy(d.bind(cond), SCHEDULE, score)(x, t) for d in (PLAIN, Windowed(PLAIN, 4, 3, batch=5)))
    assert torch.allclose(pulled, same, rtol=1e-4, atol=1e-5) and not torch.allclose(pulled, PLAIN(x, t, cond))


def test_what_the_model_predicts_at_its_own_size_guides_the_windows():
    seen = []

    def network(x, time, cond):
        seen.append(tuple(x.shape[2:]))
        return pointwise(x, time, cond)

    windowed = Windowed(Denoiser(network, SCHEDULE, Velocity()), 8)
    denoise = upsample(windowed.bind(condition(1, 1, 1)), SCHEDULE, 2, share=1.0)
    assert denoise(draw(1, 2, 16, 16), torch.tensor([0.9])).isfinite().all() and set(seen) == {(8, 8)}


def test_works_where_the_sample_is_while_time_stays_on_the_cpu():
    cond = Condition(spatial=torch.empty(2, 1, 9, 9, device="meta"), vector=torch.empty(2, 3, device="meta"))
    assert Windowed(PLAIN, 4)(torch.empty(2, 1, 9, 9, device="meta"), torch.rand(2), cond).device.type == "meta"


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": 4, "stride": 5}, {"size": (4, 8), "stride": 6}, {"size": 4, "stride": 0}]
)
def test_windows_with_gaps_are_refused(wrong):
    with pytest.raises(UserError, match="a stride from 1 to their size"):
        Windowed(PLAIN, **wrong)
    with pytest.raises(UserError, match="batch of at least 1"):
        Windowed(PLAIN, 4, batch=0)


def test_a_spatial_condition_of_another_size_is_refused():
    with pytest.raises(UserError, match=r"\(9, 9\) positions.*got \(8, 8\)"):
        Windowed(PLAIN, 4)(draw(1, 1, 9, 9), torch.tensor([0.5]), condition(1, 8, 8))
