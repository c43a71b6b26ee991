"""Pictures of any size through an autoencoder in bounded memory, with the result of the pass over the whole picture.

Cutting the picture and coding the pieces leaves seams: GroupNorm would take its statistics from each piece, attention
would look at no other, and convolutions would see zeros where the neighbour lies. Here the *network* is cut instead.
What lies between two statistics, norm + SiLU + convolution + residual, is one sweep over the map in tiles:

    sweep: for every tile    y[tile] = f(x[tile + halo], statistics of x)    statistics of y += those of y[tile]

so that every position is computed from the numbers that the untiled network would use; the results differ by rounding
alone. Maps wait for the next sweep in memory while they fit, in a temporary file otherwise (`spool`). Attention reads
its keys tile by tile with a running softmax (`attention`). Time is linear in the pixels, but for attention, which
compares every position with every other at any tile size.

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, is the network. Nothing here is specific to trained weights.

    encode(autoencoder, image) -> z        decode(autoencoder, z) -> image       sides that are multiples of the factor
    reconstruct(autoencoder, image)        any size, tiled where the untiled pass would take too much memory
    Bounded(autoencoder).encode(image)     sides that are multiples, tiled likewise
    stream(autoencoder, picture, write)    the same, reading and writing regions: the picture need not be a tensor
"""

from calotype.autoencoder.tiling.maps import Box, Map, Picture
from calotype.autoencoder.tiling.run import MEMORY, TILE, Bounded, decode, encode, fits, reconstruct, stream

__all__ = [
    "MEMORY",
    "TILE",
    "Bounded",
    "Box",
    "Map",
    "Picture",
    "decode",
    "encode",
    "fits",
    "reconstruct",
    "stream",
]
