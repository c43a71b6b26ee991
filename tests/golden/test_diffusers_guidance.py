"""Guidance against the formulas of a peer."""

from __future__ import annotations

import pytest
import torch

from calotype.condition import Condition
from calotype.diffusion import ClassifierFree, Cosine, Denoiser, DynamicThreshold, Epsilon, Schedule, Velocity

pytest.importorskip("diffusers")

F_COND, F_NULL, X = torch.randn(3, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
T = torch.tensor([0.3, 0.7])


@pytest.mark.parametrize("p", [Epsilon(), Velocity()], ids=str)
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_classifier_free_guidance_of_the_networks_output(p, rescale):
    from diffusers.guiders import ClassifierFreeGuidance

    schedule = Schedule(Cosine())
    denoiser = Denoiser(lambda x, time, cond: cond.spatial, schedule, p)
    ours = ClassifierFree(5.0, rescale=rescale, rescale_of=p)(
        denoiser, Condition(spatial=F_COND), Condition(spatial=F_NULL)
    )(X, T)
    guider = ClassifierFreeGuidance(guidance_scale=5.0, guidance_rescale=rescale)
    guider.set_state(step=0, num_inference_steps=1, timestep=torch.tensor(0))
    theirs = guider.forward(F_COND, F_NULL).pred
    torch.testing.assert_close(ours, denoiser(X, T, Condition(spatial=theirs)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("largest", [1.0, 1.7, 100.0])
def test_dynamic_thresholding(largest):
    from diffusers import DDPMScheduler

    peer = DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=largest)
    x = 2 * X
    torch.testing.assert_close(DynamicThreshold(0.9, largest)(x), peer._threshold_sample(x))
