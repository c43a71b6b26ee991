"""Tables and timestep spacings, entry by entry those of diffusers' schedulers."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from calotype.diffusion import (
    BetaSigmoid,
    CosineTable,
    Grid,
    Leading,
    Linear,
    Linspace,
    ScaledLinear,
    Schedule,
    Tabulated,
    Trailing,
    ZeroTerminal,
)

F64 = torch.float64
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
TABLES = {
    "linear": (Linear(), {"beta_schedule": "linear"}),
    "scaled_linear": (ScaledLinear(), SD),
    "squaredcos_cap_v2": (CosineTable(), {"beta_schedule": "squaredcos_cap_v2"}),
    "sigmoid": (BetaSigmoid(), {"beta_schedule": "sigmoid"}),
}
STEPS = [1, 2, 3, 7, 12, 16, 30, 48, 50, 61, 64, 300, 998]


@pytest.mark.parametrize("name", TABLES)
def test_betas(name: str) -> None:
    table, options = TABLES[name]
    theirs = DDPMScheduler(**options)
    # theirs are computed in float32, the sigmoid's and the cosine's through differences from 1
    assert torch.allclose(table.betas().float(), theirs.betas, rtol=1e-5, atol=1e-7)
    alpha, _ = Schedule(table).at((torch.arange(1000, dtype=F64) + 1) / 1000)
    assert torch.allclose((alpha**2).float(), theirs.alphas_cumprod, rtol=2e-4)


def test_zero_terminal_snr() -> None:
    theirs = DDIMScheduler(**SD, rescale_betas_zero_snr=True).alphas_cumprod
    alpha, _ = Schedule(ZeroTerminal()).at((torch.arange(1000, dtype=F64) + 1) / 1000)
    assert torch.allclose((alpha**2).float(), theirs, rtol=2e-4, atol=1e-9) and alpha[-1] == theirs[-1] == 0


SPACINGS = {
    "ddim trailing": (Trailing(), DDIMScheduler, {"timestep_spacing": "trailing"}),
    "ddim leading": (Leading(), DDIMScheduler, {"timestep_spacing": "leading"}),
    "ddim leading 1": (Leading(1), DDIMScheduler, {"timestep_spacing": "leading", "steps_offset": 1}),
    "ddim linspace": (Linspace(), DDIMScheduler, {"timestep_spacing": "linspace"}),
    "ddpm leading": (Leading(), DDPMScheduler, {"timestep_spacing": "leading"}),
    "euler linspace": (Linspace(rounded=False), EulerDiscreteScheduler, {"timestep_spacing": "linspace"}),
    "euler leading": (Leading(1), EulerDiscreteScheduler, {"timestep_spacing": "leading", "steps_offset": 1}),
    "euler trailing": (Trailing(), EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
    "dpm linspace": (Linspace(skip_first=True), DPMSolverMultistepScheduler, {"timestep_spacing": "linspace"}),
    "dpm leading": (Leading(1, True), DPMSolverMultistepScheduler, {"timestep_spacing": "leading", "steps_offset": 1}),
    "dpm trailing": (Trailing(), DPMSolverMultistepScheduler, {"timestep_spacing": "trailing"}),
    "deis leading": (Leading(skip_first=True), DEISMultistepScheduler, {"timestep_spacing": "leading"}),
    "unipc linspace": (Linspace(skip_first=True), UniPCMultistepScheduler, {"timestep_spacing": "linspace"}),
}


@pytest.mark.parametrize("name", SPACINGS)
@pytest.mark.parametrize("steps", STEPS)
def test_spacing(name: str, steps: int) -> None:
    grid, cls, options = SPACINGS[name]
    scheduler = cls(**SD, **options)
    scheduler.set_timesteps(steps)
    expected = scheduler.timesteps.double()
    # their "trailing" stops at a number that rounding may leave a little above 0, and then lists an entry -1
    assert len(expected) == steps or (name.endswith("trailing") and expected[steps:].tolist() == [-1])
    assert torch.allclose(indices(grid, ScaledLinear(), steps), expected[:steps], rtol=1e-6, atol=1e-9)


def indices(grid: Grid, table: Tabulated, steps: int) -> torch.Tensor:
    schedule = Schedule(table)
    return schedule.clock(grid(schedule, steps)[:-1])
