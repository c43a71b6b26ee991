"""Calotype: latent diffusion, the whole chain, correct by test."""

from calotype.runtime import tune_allocator

__version__ = "0.1.0"

tune_allocator()
