"""Diffusion as pure mathematics: imports torch and nothing of the networks.

    Schedule          how noisy it is when                          schedule.py, curves/, path.py
    Parameterization  what a network's output means                 parameterization.py
    Denoiser          network -> (x_t, t) -> E[x_0 | x_t]           denoiser.py, clock.py
    Windowed          a denoiser of larger samples, by windows      windows.py
    Objective         what training minimises                       objective.py, weighting.py, times.py, distance.py
    Guidance          conditions made louder                        guidance/
    Classifier        noisy samples -> log p(y | x_t)               classifier.py
    classifier, energy, keep_known, upsample: Denoise -> Denoise    wrappers/
    Sampler, Grid     from noise to data, or from a picture         samplers/, grids.py, start.py
    Variance          of the reverse steps, fixed or learned        variance.py
    bounds, densities what data cost in bits                        likelihood.py, probability_flow.py, readout.py
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
from calotype.diffusion.denoiser import ConditionalDenoise, Denoiser, Network
from calotype.diffusion.distance import Distance, MeanSquare, MultiScale, distances
from calotype.diffusion.grids import (
    CurveGrid,
    Enlarged,
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
from calotype.diffusion.readout import Discretized, Gaussian, Readout, readouts
from calotype.diffusion.samplers import (
    DDIM,
    DDPM,
    PLMS,
    DPMpp2M,
    DPMpp2MSDE,
    Euler,
    EulerAncestral,
    Heun,
    Sampler,
    Step,
    UniPC,
    invert,
    samplers,
)
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.start import part_of, start_from
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
from calotype.diffusion.variance import FixedLarge, FixedSmall, LearnedRange, Variance, variances
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
from calotype.diffusion.windows import Windowed

__all__ = [
    "DDIM",
    "DDPM",
    "EDM",
    "P2",
    "PLMS",
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
    "ConditionalDenoise",
    "CosMapTimes",
    "Cosine",
    "CosineTable",
    "Curve",
    "CurveGrid",
    "CurveTimes",
    "DPMpp2M",
    "DPMpp2MSDE",
    "Denoiser",
    "DiscreteTimes",
    "Discretized",
    "Distance",
    "DynamicThreshold",
    "Enlarged",
    "Epsilon",
    "Euler",
    "EulerAncestral",
    "FixedLarge",
    "FixedSmall",
    "Flow",
    "FlowVelocity",
    "ForeignNull",
    "Gaussian",
    "GaussianMixture",
    "Grid",
    "Guidance",
    "Heun",
    "Interpolated",
    "Karras",
    "Laplace",
    "Leading",
    "LearnedRange",
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
    "Readout",
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
    "UniPC",
    "UniformEDM",
    "UniformEpsilon",
    "UniformFlow",
    "UniformGrid",
    "UniformTimes",
    "UniformVelocity",
    "UniformX0",
    "Variance",
    "VarianceExploding",
    "VariancePreserving",
    "Velocity",
    "Weighting",
    "Windowed",
    "ZeroTerminal",
    "curves",
    "distances",
    "grids",
    "guidances",
    "invert",
    "parameterizations",
    "part_of",
    "paths",
    "readouts",
    "samplers",
    "start_from",
    "time_samplers",
    "variances",
    "weightings",
]
