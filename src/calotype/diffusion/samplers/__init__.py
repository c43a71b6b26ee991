"""Samplers, one file each. Every module in this package is imported, and so registered, when a sampler is looked up."""

from calotype.diffusion.samplers.base import Sampler, Step, samplers
from calotype.diffusion.samplers.ddim import DDIM
from calotype.diffusion.samplers.ddpm import DDPM
from calotype.diffusion.samplers.dpmpp2m import DPMpp2M

__all__ = ["DDIM", "DDPM", "DPMpp2M", "Sampler", "Step", "samplers"]
