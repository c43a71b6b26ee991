"""Known pixels stay known, and are shown at the right level of noise."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import DDIM, Cosine, GaussianMixture, Schedule, UniformGrid, samplers
from calotype.diffusion.schedule import rows
from calotype.diffusion.wrappers import keep_known, keep_known_renoised, latent_mask, paste
from calotype.rng import SampleNoise

OPEN, CLOSED = Schedule(Cosine(None, None)), Schedule(Cosine())
G = torch.Generator().manual_seed(0)
KNOWN = torch.randn(2, 3, 4, 4, generator=G, dtype=torch.float64)
MASK = torch.rand(2, 1, 4, 4, generator=G) < 0.5
NOISE = torch.randn(2, 3, 4, 4, generator=G, dtype=torch.float64)
EXACT = GaussianMixture.gaussian(torch.zeros(3, 4, 4), 0.7)


def walk(denoise, schedule, sampler):
    x = NOISE * float(schedule.at(torch.ones(()))[1])
    return [*sampler(denoise, x, UniformGrid()(schedule, 5), schedule, SampleNoise([1, 2]))]


@pytest.mark.parametrize("name", [*samplers])
@pytest.mark.parametrize("schedule", [OPEN, CLOSED], ids=str)
def test_known_pixels_are_bit_identical_at_the_end(name, schedule):
    for denoise in (
        keep_known(EXACT.denoise(schedule), KNOWN, MASK),
        keep_known_renoised(EXACT.denoise(schedule), KNOWN, MASK, schedule, SampleNoise([3, 4])),
    ):
        last = walk(denoise, schedule, samplers[name]())[-1]
        where = MASK.expand_as(KNOWN)
        assert torch.equal(last.x_0[where], KNOWN[where])
        assert torch.allclose(last.x[where], KNOWN[where], atol=5e-3), (
            "before pasting, what the end of the curve leaves"
        )
        result = paste(last.x, KNOWN, MASK)
        assert torch.equal(result[where], KNOWN[where]) and torch.equal(result[~where], last.x[~where])


def test_an_open_schedule_ends_there_by_itself():
    last = walk(keep_known(EXACT.denoise(OPEN), KNOWN, MASK), OPEN, DDIM())[-1]
    assert torch.equal(last.x[MASK.expand_as(KNOWN)], KNOWN[MASK.expand_as(KNOWN)])


def test_a_deterministic_walk_matches_the_noise_that_it_began_with():
    for step in walk(keep_known(EXACT.denoise(OPEN), KNOWN, MASK), OPEN, DDIM()):
        alpha, sigma = (float(v) for v in OPEN.at(step.t))
        where = MASK.expand_as(KNOWN)
        assert torch.allclose(step.x[where], (alpha * KNOWN + sigma * NOISE)[where], atol=1e-5)


def test_the_renoised_form_shows_known_pixels_with_fresh_noise_of_the_right_level():
    shown = []

    def denoise(x, t):
        shown.append((x, t))
        return torch.zeros_like(x)

    fresh = [*torch.randn(5, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1))]
    noises = iter(fresh)
    walk(keep_known_renoised(denoise, KNOWN, MASK, OPEN, lambda x: next(noises)), OPEN, DDIM())
    where = MASK.expand_as(KNOWN)
    for (x, t), eps in zip(shown, fresh, strict=True):
        alpha, sigma = (rows(v, x) for v in OPEN.at(t))
        assert torch.allclose(x[where], (alpha * KNOWN + sigma * eps)[where], atol=1e-6)


def test_the_unknown_part_hears_of_the_known_one():
    """Two pixels, correlation 0.9, one known: with many stochastic steps the other comes near its conditional mean
    0.9 * 1.5. Without replacement it would have mean 0."""
    schedule = CLOSED
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)

    def exact(x, t):
        alpha, sigma = (v[:, None, None] for v in schedule.at(t))
        gain = alpha * covariance @ torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(2).double())
        return (gain @ x[..., None])[..., 0]

    known, mask = torch.tensor([[1.5, 0.0]], dtype=torch.float64), torch.tensor([[True, False]])
    g = torch.Generator().manual_seed(0)

    def noise(x):
        return torch.randn(x.shape, generator=g, dtype=torch.float64)

    x = noise(torch.empty(2000, 2))
    for denoise in (keep_known(exact, known, mask), keep_known_renoised(exact, known, mask, schedule, noise)):
        *_, last = samplers["ddpm"]()(denoise, x, UniformGrid()(schedule, 60), schedule, noise)
        assert torch.equal(last.x_0[:, 0], torch.full((2000,), 1.5, dtype=torch.float64))
        assert 0.9 < float(last.x[:, 1].mean()) < 1.5


def test_a_latents_mask_is_known_where_all_its_pixels_are():
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    mask[..., 3, 4] = False
    small = latent_mask(mask, 2)
    cells = [mask[0, 0, i : i + 2, j : j + 2] for i in range(0, 8, 2) for j in range(0, 8, 2)]
    brute = torch.tensor([bool(cell.all()) for cell in cells]).view(4, 4)
    assert torch.equal(small[0, 0], brute) and int((~small).sum()) == 1
    assert int((~latent_mask(mask, 2, margin=1)).sum()) == 9


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match="a mask must be bool"):
        keep_known(EXACT.denoise(OPEN), KNOWN, MASK.float())
    with pytest.raises(ValueError, match="does not broadcast"):
        keep_known(EXACT.denoise(OPEN), KNOWN, MASK[..., :3])
    with pytest.raises(ValueError, match="does not broadcast"):
        keep_known(EXACT.denoise(OPEN), KNOWN, MASK[:1].expand(3, 1, 4, 4))
    with pytest.raises(ValueError, match="multiples of 3"):
        latent_mask(MASK, 3)
