"""Diffusion as pure mathematics: imports torch and nothing of the networks.

    Schedule          how noisy it is when                          schedule.py, curves/, path.py
    Parameterization  what a network's output means                 parameterization.py
    Denoiser          network -> (x_t, t) -> E[x_0 | x_t]           denoiser.py, clock.py
    Objective         what training minimises                       objective.py, weighting.py, times.py, distance.py
    Guidance          conditions made louder                        guidance/
    Classifier        noisy samples -> log p(y | x_t)               classifier.py
    classifier, energy, keep_known, upsample: Denoise -> Denoise    wrappers/
    Sampler, Grid     from noise to data                            samplers/, grids.py
    GaussianMixture   data for which all of this has exact answers  oracle.py

Time runs from 0 (clean) to 1 (noise) everywhere; table indices exist only inside `Tabulated` and `Clock`.
"""

from calotype.diffusion.classifier import Classifier
from calotype.diffusion.clock import Clock
from calotype.diffusion.curves import (
    VPSDE,
    AbarLinear,
    AbarSigmoid,
    Betas,
    BetaSigmoid,
    Clamped,
    Cosine,
    CosineTable,
    Curve,
    Flow,
    Interpolated,
    Laplace,
    Linear,
    LogLinear,
    LogNormal,
    ScaledLinear,
    Shifted,
    Sqrt,
    Tabulated,
    ZeroTerminal,
    curves,
)
from calotype.diffusion.denoiser import Denoiser, Network
from calotype.diffusion.distance import Distance, MeanSquare, MultiScale, distances
from calotype.diffusion.grids import (
    CurveGrid,
    Grid,
    Karras,
    Leading,
    Linspace,
    LogSNRGrid,
    Trailing,
    UniformGrid,
    grids,
)
from calotype.diffusion.guidance import (
    Autoguidance,
    ClassifierFree,
    DynamicThreshold,
    ForeignNull,
    Guidance,
    Unguided,
    guidances,
)
from calotype.diffusion.objective import Objective
from calotype.diffusion.oracle import GaussianMixture
from calotype.diffusion.parameterization import (
    EDM,
    X0,
    Coefficients,
    Epsilon,
    FlowVelocity,
    Mixed,
    Parameterization,
    Velocity,
    parameterizations,
)
from calotype.diffusion.path import LinearPath, Path, VarianceExploding, VariancePreserving, paths
from calotype.diffusion.samplers import DDIM, DDPM, DPMpp2M, Sampler, Step, samplers
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.times import (
    CosMapTimes,
    CurveTimes,
    DiscreteTimes,
    LogitNormalTimes,
    ModeTimes,
    StratifiedTimes,
    TimeSampler,
    UniformTimes,
    time_samplers,
)
from calotype.diffusion.weighting import (
    P2,
    MinSNR,
    Sigmoid,
    SoftMinSNR,
    TruncatedSNR,
    UniformEDM,
    UniformEpsilon,
    UniformFlow,
    UniformVelocity,
    UniformX0,
    Weighting,
    weightings,
)

__all__ = [
    "DDIM",
    "DDPM",
    "EDM",
    "P2",
    "VPSDE",
    "X0",
    "AbarLinear",
    "AbarSigmoid",
    "Autoguidance",
    "BetaSigmoid",
    "Betas",
    "Clamped",
    "Classifier",
    "ClassifierFree",
    "Clock",
    "Coefficients",
    "CosMapTimes",
    "Cosine",
    "CosineTable",
    "Curve",
    "CurveGrid",
    "CurveTimes",
    "DPMpp2M",
    "Denoiser",
    "DiscreteTimes",
    "Distance",
    "DynamicThreshold",
    "Epsilon",
    "Flow",
    "FlowVelocity",
    "ForeignNull",
    "GaussianMixture",
    "Grid",
    "Guidance",
    "Interpolated",
    "Karras",
    "Laplace",
    "Leading",
    "Linear",
    "LinearPath",
    "Linspace",
    "LogLinear",
    "LogNormal",
    "LogSNRGrid",
    "LogitNormalTimes",
    "MeanSquare",
    "MinSNR",
    "Mixed",
    "ModeTimes",
    "MultiScale",
    "Network",
    "Objective",
    "Parameterization",
    "Path",
    "Sampler",
    "ScaledLinear",
    "Schedule",
    "Shifted",
    "Sigmoid",
    "SoftMinSNR",
    "Sqrt",
    "Step",
    "StratifiedTimes",
    "Tabulated",
    "TimeSampler",
    "Trailing",
    "TruncatedSNR",
    "Unguided",
    "UniformEDM",
    "UniformEpsilon",
    "UniformFlow",
    "UniformGrid",
    "UniformTimes",
    "UniformVelocity",
    "UniformX0",
    "VarianceExploding",
    "VariancePreserving",
    "Velocity",
    "Weighting",
    "ZeroTerminal",
    "curves",
    "distances",
    "grids",
    "guidances",
    "parameterizations",
    "paths",
    "samplers",
    "time_samplers",
    "weightings",
]
