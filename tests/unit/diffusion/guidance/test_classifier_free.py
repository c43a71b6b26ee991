"""Classifier-free guidance against closed forms."""

from __future__ import annotations

import pytest
import torch

from calotype.condition import Condition
from calotype.diffusion import (
    DDIM,
    DDPM,
    X0,
    ClassifierFree,
    Cosine,
    Denoiser,
    Epsilon,
    GaussianMixture,
    Schedule,
    Unguided,
    UniformGrid,
    Velocity,
)
from calotype.diffusion.guidance import DynamicThreshold
from calotype.diffusion.parameterization import Mixed
from calotype.diffusion.variance import LearnedRange, predictor
from calotype.errors import UserError

F64 = torch.float64
SCHEDULE = Schedule(Cosine())


class Gaussians(torch.nn.Module):
    """A perfect x_0 network for data N(m, 0.5^2), where m is the condition; counts its calls and rows."""

    def __init__(self):
        super().__init__()
        self.calls: list[Condition] = []

    def forward(self, x, time, cond):
        self.calls.append(cond)
        t = (time / 1000).to(x)
        alpha, sigma = (v.view(-1, 1, 1, 1) for v in SCHEDULE.at(t))
        m = cond.vector.to(x)[:, :, None, None]
        gain = alpha * 0.25 / (alpha**2 * 0.25 + sigma**2)
        return m + gain * (x - alpha * m)


def mean_of(m: float, n: int = 1) -> Condition:
    return Condition(vector=torch.full((n, 1), m))


def sample(guidance, steps=40, sampler=None):
    x = torch.linspace(-2, 2, 5, dtype=F64).view(5, 1, 1, 1)
    denoise = guidance(Denoiser(Gaussians(), SCHEDULE, X0()), mean_of(1.0, 5), mean_of(0.25, 5))
    *_, last = (sampler or DDIM())(denoise, x, UniformGrid()(SCHEDULE, steps), SCHEDULE, torch.zeros_like)
    return last.x.flatten()


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
def test_two_gaussians_shift_the_mean_linearly(scale):
    """Guided prediction = the exact one for N(m_null + scale (m - m_null), s^2): every quantile moves by the same."""
    moved = sample(ClassifierFree(scale)) - sample(Unguided())
    # what is left of x's mean at t = 1 is alpha(1) times the data's: the walk starts centred on 0, not on that
    assert torch.allclose(moved, torch.full_like(moved, (scale - 1) * 0.75), atol=2e-3 * abs(scale - 1) + 1e-6)


def test_is_linear_in_the_scale_to_rounding():
    a, b, c = (sample(ClassifierFree(s)) for s in (2.0, 3.0, 4.0))
    assert torch.allclose(c - b, b - a, atol=1e-6)


@pytest.mark.parametrize("p", [X0(), Epsilon(), Velocity()], ids=str)
def test_means_the_same_in_every_prediction(p):
    """x_null + s (x_cond - x_null) for x_0 is F_null + s (F_cond - F_null) read as x_0."""
    f_cond, f_null, x = torch.randn(3, 2, 1, 4, 4, dtype=F64)
    denoiser = Denoiser(lambda x, time, cond: cond.spatial, SCHEDULE, p)
    t = torch.tensor([0.3, 0.8], dtype=F64)
    guided = ClassifierFree(4.0)(denoiser, Condition(spatial=f_cond), Condition(spatial=f_null))(x, t)
    direct = denoiser(x, t, Condition(spatial=f_null + 4 * (f_cond - f_null)))
    assert torch.allclose(guided, direct, rtol=1e-10)


def test_scale_one_is_bit_identical_and_never_asks_for_null():
    network = Gaussians()
    denoiser = Denoiser(network, SCHEDULE, Velocity())
    cond, null = mean_of(1.0, 3), mean_of(-5.0, 3)
    x, t = torch.randn(3, 1, 4, 4), torch.tensor([0.1, 0.5, 1.0])
    guided = ClassifierFree(1.0, interval=(-5.0, 5.0), rescale=0.7)(denoiser, cond, null)(x, t)
    assert len(network.calls) == 1 and network.calls[0] is cond
    assert torch.equal(guided, denoiser(x, t, cond))
    assert torch.equal(guided, Unguided()(denoiser, cond, null)(x, t))


def test_both_conditions_share_one_network_call():
    network = Gaussians()
    denoise = ClassifierFree(3.0)(Denoiser(network, SCHEDULE, X0()), mean_of(1.0, 2), mean_of(0.0, 2))
    denoise(torch.randn(2, 1, 4, 4), torch.tensor([0.5, 0.5]))
    assert [c.vector.flatten().tolist() for c in network.calls] == [[1, 1, 0, 0]]


def test_outside_the_interval_only_the_condition_is_asked():
    network = Gaussians()
    denoiser = Denoiser(network, SCHEDULE, X0())
    denoise = ClassifierFree(3.0, interval=(-2.0, 2.0))(denoiser, mean_of(1.0, 2), mean_of(0.0, 2))
    x = torch.randn(2, 1, 4, 4)
    for t, rows in ((0.05, 2), (0.5, 4), (0.95, 2)):
        network.calls.clear()
        denoise(x, torch.full((2,), t))
        assert [len(c.vector) for c in network.calls] == [rows]


def test_the_interval_is_judged_per_sample():
    denoiser = Denoiser(Gaussians(), SCHEDULE, X0())
    cond, null = mean_of(1.0, 2), mean_of(0.0, 2)
    x, t = torch.randn(2, 1, 4, 4), torch.tensor([0.05, 0.5])
    x_0 = ClassifierFree(3.0, interval=(-2.0, 2.0))(denoiser, cond, null)(x, t)
    assert torch.allclose(x_0[0], denoiser(x, t, cond)[0], atol=1e-6)
    assert torch.allclose(x_0[1], ClassifierFree(3.0)(denoiser, cond, null)(x, t)[1])


@pytest.mark.parametrize("rescale", [0.3, 1.0])
def test_rescale_brings_the_standard_deviation_back(rescale):
    f_cond, f_null, x = torch.randn(3, 2, 3, 8, 8, dtype=F64)
    denoiser = Denoiser(lambda x, time, cond: cond.spatial, SCHEDULE, X0())
    args = denoiser, Condition(spatial=f_cond), Condition(spatial=f_null)
    t = torch.tensor([0.5, 0.5], dtype=F64)
    plain, rescaled = ClassifierFree(5.0)(*args)(x, t), ClassifierFree(5.0, rescale=rescale)(*args)(x, t)
    for i in range(2):
        factor = rescale * f_cond[i].std() / plain[i].std() + 1 - rescale
        assert torch.allclose(rescaled[i], plain[i] * factor)


def test_works_inside_a_stochastic_sampler():
    assert sample(ClassifierFree(2.0), sampler=DDPM()).isfinite().all()


MIXTURE = GaussianMixture(
    torch.tensor([[-1.0], [0.8]], dtype=F64), torch.tensor([0.5, 0.3], dtype=F64), torch.tensor([0.4, 0.6], dtype=F64)
)
CLASS = GaussianMixture(MIXTURE.means[1:], MIXTURE.stds[1:], torch.ones(1, dtype=F64))


class Exact(torch.nn.Module):
    """The perfect x_0 network of the mixture: condition 1 is the class, 0 is null."""

    def forward(self, x, time, cond):
        t = time.double() / 1000
        wished = cond.vector[:, :1, None, None].to(x) > 0.5
        two, one = (m.denoise(SCHEDULE)(x.flatten(1), t).view_as(x) for m in (MIXTURE, CLASS))
        return torch.where(wished, one, two)


def tilted_density(x_0, scale):
    """p(x_0) p(y | x_0)^scale, up to a constant."""
    parts = MIXTURE.weights * (-((x_0[:, None] - MIXTURE.means[:, 0]) ** 2) / (2 * MIXTURE.stds**2)).exp()
    parts = parts / MIXTURE.stds
    return parts.sum(1) * (parts[:, 1] / parts.sum(1)) ** scale


@pytest.mark.parametrize("scale", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("t", [0.05, 0.25, 0.5, 0.75, 0.95])
def test_is_the_denoiser_of_the_tilted_density_at_every_t(scale, t):
    """(x_t + sigma^2 d/dx log[p_t(x) p_t(y | x)^scale]) / alpha, with p_t and its derivative integrated numerically."""
    x_0 = torch.linspace(-8, 8, 200_001, dtype=F64)
    time = torch.tensor([float(torch.tensor(1000 * t)) / 1000], dtype=F64)
    alpha, sigma = (float(v) for v in SCHEDULE.at(time))
    component = MIXTURE.weights * (-((x_0[:, None] - MIXTURE.means[:, 0]) ** 2) / (2 * MIXTURE.stds**2)).exp()
    component = component / MIXTURE.stds
    denoise = ClassifierFree(scale)(Denoiser(Exact(), SCHEDULE, X0()), mean_of(1.0), mean_of(0.0))
    for x in (-1.5, -0.2, 0.7, 1.6):
        kernel = (-((x - alpha * x_0) ** 2) / (2 * sigma**2)).exp()[:, None]
        pull = -(x - alpha * x_0)[:, None] / sigma**2 * kernel
        p, p_y = (component * kernel).sum(), (component[:, 1:] * kernel).sum()
        d, d_y = (component * pull).sum() / p, (component[:, 1:] * pull).sum() / p_y
        expected = (x + sigma**2 * (d + scale * (d_y - d))) / alpha
        found = denoise(torch.full((1, 1, 1, 1), x, dtype=F64), time)
        assert torch.allclose(found.squeeze(), expected, rtol=1e-5, atol=1e-6)  # the network reads time in float32


@pytest.mark.parametrize("scale", [0.5, 2.0, 5.0])
def test_near_t_0_its_score_is_that_of_the_tilted_density(scale):
    x = torch.tensor([-1.2, -0.4, 0.1, 0.9, 1.3], dtype=F64, requires_grad=True)
    (expected,) = torch.autograd.grad(tilted_density(x, scale).log().sum(), x)
    time = torch.full((5,), 2e-3, dtype=F64)
    alpha, sigma = SCHEDULE.at(time)
    denoise = ClassifierFree(scale)(Denoiser(Exact(), SCHEDULE, X0()), mean_of(1.0, 5), mean_of(0.0, 5))
    x_0 = denoise(x.detach().view(5, 1, 1, 1), time).flatten()
    assert torch.allclose((alpha * x_0 - x.detach()) / sigma**2, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("p", [Epsilon(), Mixed()], ids=str)
def test_a_quantity_that_is_undefined_without_signal_is_not_rescaled_there(p):
    denoiser = Denoiser(lambda x, time, cond: cond.spatial, Schedule(Cosine(None, None)), Velocity())
    args = denoiser, Condition(spatial=torch.ones(1, 3, 8, 8)), Condition(spatial=torch.zeros(1, 3, 8, 8))
    with pytest.raises(UserError, match=r"rescale_of .* undefined at t = 1.* rescale x0 or velocity"):
        ClassifierFree(5.0, rescale=0.7, rescale_of=p)(*args)
    ClassifierFree(5.0, rescale_of=p)(*args)


def test_standard_deviations_can_be_those_of_the_networks_own_output():
    f_cond, f_null, x = torch.randn(3, 2, 3, 8, 8, dtype=F64)
    for p in (X0(), Epsilon(), Velocity()):
        denoiser = Denoiser(lambda x, time, cond: cond.spatial, SCHEDULE, p)
        t = torch.tensor([0.3, 0.7], dtype=F64)
        guidance = ClassifierFree(5.0, rescale=0.7, rescale_of=p)
        guided = guidance(denoiser, Condition(spatial=f_cond), Condition(spatial=f_null))(x, t)
        f = f_null + 5 * (f_cond - f_null)
        ratio = f_cond.std((1, 2, 3), keepdim=True) / f.std((1, 2, 3), keepdim=True)
        direct = denoiser(x, t, Condition(spatial=f * (0.7 * ratio + 0.3)))
        assert torch.allclose(guided, direct, rtol=1e-9), p


def test_the_threshold_comes_last_and_everywhere():
    denoiser = Denoiser(lambda x, time, cond: cond.spatial, SCHEDULE, X0())
    f_cond, f_null, x = torch.randn(3, 2, 3, 8, 8)
    cond, null = Condition(spatial=f_cond), Condition(spatial=f_null)
    threshold, t = DynamicThreshold(0.9), torch.tensor([0.05, 0.5])
    plain = ClassifierFree(4.0, interval=(-2.0, 2.0), rescale=0.7)(denoiser, cond, null)(x, t)
    clipped = ClassifierFree(4.0, interval=(-2.0, 2.0), rescale=0.7, threshold=threshold)(denoiser, cond, null)(x, t)
    assert torch.equal(clipped, threshold(plain))
    alone = ClassifierFree(1.0, threshold=threshold)(denoiser, cond, null)(x, t)
    assert torch.equal(alone, threshold(denoiser(x, t, cond)))


def test_without_wishes_nothing_is_contrasted_and_nothing_is_paid():
    calls = []

    def network(x, time, cond):
        calls.append(len(x))
        return x / 2

    x, t = torch.randn(2, 1, 4, 4), torch.tensor([0.3, 0.6])
    denoiser = Denoiser(network, SCHEDULE, X0())
    assert torch.equal(ClassifierFree(7.0)(denoiser, Condition(), Condition())(x, t), denoiser(x, t, Condition()))
    assert calls == [2, 2]


def test_a_null_that_does_not_fit_is_explained():
    denoiser = Denoiser(Gaussians(), SCHEDULE, X0())
    with pytest.raises(UserError, match="the condition has vector and null has none; take the null of the same"):
        ClassifierFree(3.0)(denoiser, mean_of(1.0), Condition())
    with pytest.raises(UserError, match="null has vector and the condition has none"):
        ClassifierFree(3.0)(denoiser, Condition(), mean_of(1.0))
    with pytest.raises(UserError, match="2 conditions and 1 times null"):
        ClassifierFree(3.0)(denoiser, mean_of(1.0, 2), mean_of(0.0))
    ClassifierFree(1.0)(denoiser, mean_of(1.0), Condition())(torch.zeros(1, 1, 1, 1), torch.ones(1))


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 1001.0])
def test_a_scale_that_is_no_scale_is_refused(scale):
    with pytest.raises(UserError, match="scale must lie in"):
        ClassifierFree(scale)


def test_a_learned_variance_is_kept():
    denoiser = Denoiser(
        lambda x, time, cond: torch.cat(
            [x * cond.vector[:, :1, None, None], cond.vector[:, :1, None, None] + 0 * x], 1
        ),
        SCHEDULE,
        X0(),
        variance=LearnedRange(),
    )
    x, t = torch.randn(2, 1, 4, 4), torch.tensor([0.3, 0.6])
    for guidance in (ClassifierFree(1.0), ClassifierFree(3.0), ClassifierFree(3.0, threshold=DynamicThreshold())):
        x_0, v = predictor(guidance(denoiser, mean_of(0.5, 2), mean_of(0.1, 2)))(x, t)
        assert torch.equal(v, torch.full_like(x_0, 0.5))


def test_wrong_fields_are_explained():
    with pytest.raises(UserError, match="lowest, highest"):
        ClassifierFree(interval=(2.0, -2.0))
    with pytest.raises(UserError, match=r"rescale must lie in \[0, 1\]"):
        ClassifierFree(rescale=1.5)
