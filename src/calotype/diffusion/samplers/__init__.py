"""Samplers, one file each. Every module in this package is imported, and so registered, when a sampler is looked up.

docs/concepts/sampler.md has the table of their orders and costs.
"""

from calotype.diffusion.samplers.base import Sampler, Step, samplers
from calotype.diffusion.samplers.churn import Churn
from calotype.diffusion.samplers.ddim import DDIM
from calotype.diffusion.samplers.ddpm import DDPM
from calotype.diffusion.samplers.dpmpp2m import DPMpp2M
from calotype.diffusion.samplers.dpmpp2m_sde import DPMpp2MSDE
from calotype.diffusion.samplers.euler import Euler
from calotype.diffusion.samplers.euler_ancestral import EulerAncestral
from calotype.diffusion.samplers.heun import Heun
from calotype.diffusion.samplers.inversion import invert
from calotype.diffusion.samplers.plms import PLMS
from calotype.diffusion.samplers.unipc import UniPC

__all__ = [
    "DDIM",
    "DDPM",
    "PLMS",
    "Churn",
    "DPMpp2M",
    "DPMpp2MSDE",
    "Euler",
    "EulerAncestral",
    "Heun",
    "Sampler",
    "Step",
    "UniPC",
    "invert",
    "samplers",
]
