"""Diffusion as pure mathematics: imports torch and nothing of the networks.

    Schedule          how noisy it is when                          schedule.py, curves.py
    Parameterization  what a network's output means                 parameterization.py
    Denoiser          network -> (x_t, t) -> E[x_0 | x_t]           denoiser.py, clock.py
    Objective         what training minimises                       objective.py, weighting.py, times.py
    Guidance          conditions made louder                        guidance.py
    Sampler, Grid     from noise to data                            samplers/, times.py
    GaussianMixture   data for which all of this has exact answers  oracle.py

Time runs from 0 (clean) to 1 (noise) everywhere; table indices exist only inside `Tabulated` and `Clock`.
"""

from calotype.diffusion.clock import Clock
from calotype.diffusion.curves import Cosine, Curve, Linear, ScaledLinear, Tabulated, curves
from calotype.diffusion.denoiser import Denoiser, Network
from calotype.diffusion.guidance import ClassifierFree, Guidance, Unguided, guidances
from calotype.diffusion.objective import Objective
from calotype.diffusion.oracle import GaussianMixture
from calotype.diffusion.parameterization import (
    X0,
    Coefficients,
    Epsilon,
    Parameterization,
    Velocity,
    parameterizations,
)
from calotype.diffusion.samplers import DDIM, DDPM, DPMpp2M, Sampler, Step, samplers
from calotype.diffusion.schedule import Path, Schedule, VariancePreserving, paths
from calotype.diffusion.times import (
    DiscreteTimes,
    Grid,
    Karras,
    LogSNRGrid,
    StratifiedTimes,
    TimeSampler,
    UniformGrid,
    UniformTimes,
    grids,
    time_samplers,
)
from calotype.diffusion.weighting import MinSNR, UniformEpsilon, UniformVelocity, Weighting, weightings

__all__ = [
    "DDIM",
    "DDPM",
    "X0",
    "ClassifierFree",
    "Clock",
    "Coefficients",
    "Cosine",
    "Curve",
    "DPMpp2M",
    "Denoiser",
    "DiscreteTimes",
    "Epsilon",
    "GaussianMixture",
    "Grid",
    "Guidance",
    "Karras",
    "Linear",
    "LogSNRGrid",
    "MinSNR",
    "Network",
    "Objective",
    "Parameterization",
    "Path",
    "Sampler",
    "ScaledLinear",
    "Schedule",
    "Step",
    "StratifiedTimes",
    "Tabulated",
    "TimeSampler",
    "Unguided",
    "UniformEpsilon",
    "UniformGrid",
    "UniformTimes",
    "UniformVelocity",
    "VariancePreserving",
    "Velocity",
    "Weighting",
    "curves",
    "grids",
    "guidances",
    "parameterizations",
    "paths",
    "samplers",
    "time_samplers",
    "weightings",
]
