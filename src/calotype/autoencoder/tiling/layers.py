"""How each layer of the autoencoder goes over a map in tiles.

    tiled(layer, x, room) -> map

One rule per class. A rule spends x: it closes it, writes over it or reads it from the view that it returns. What it
returns may be a view; a layer that needs statistics, or reads positions more than once, stores it first.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype.autoencoder.tiling.attention import Attended
from calotype.autoencoder.tiling.maps import Box, Convolved, Doubled, Map, Pointwise, Sum
from calotype.autoencoder.tiling.spool import Room, Spool
from calotype.nn.encoder_decoder import Decoder, Encoder, Level, Middle, SelfAttention
from calotype.nn.layers import Downsample, ResBlock, Upsample


class Normed(Map):
    """GroupNorm with the statistics of the whole map: (x - mean) / sqrt(var + eps) weight + bias.

    Wu & He 2018, https://arxiv.org/abs/1803.08494, eq. (1) to (6)."""

    def __init__(self, norm: nn.GroupNorm, x: Spool) -> None:
        super().__init__(x.height, x.width)
        mean, var = x.moments.groups(norm.num_groups)
        each = norm.num_channels // norm.num_groups
        scale = (var + norm.eps).rsqrt().repeat_interleave(each).float().to(norm.weight.device) * norm.weight
        self._x = x
        self._mean = mean.repeat_interleave(each).float().to(norm.weight.device).view(-1, 1, 1)
        self._scale, self._bias = scale.view(-1, 1, 1), norm.bias.view(-1, 1, 1)

    def read(self, box: Box) -> Tensor:
        """The box, in the dtype of x."""
        x = self._x.read(box)
        return x.float().sub(self._mean).mul_(self._scale).add_(self._bias).to(x.dtype)


def _activated(norm: nn.GroupNorm, x: Spool) -> Map:
    return Pointwise(lambda h: F.silu(h, inplace=True), Normed(norm, x))


@singledispatch
def tiled(layer: nn.Module, x: Map, room: Room) -> Map:
    """The layer's output for x.

    Raises:
        TypeError: there is no rule for this class.
    """
    raise TypeError(
        f"there is no rule how a {type(layer).__name__} goes over a picture in tiles; register one with "
        "`calotype.autoencoder.tiling.layers.tiled.register`, or run the autoencoder untiled"
    )


@tiled.register
def _(layer: nn.Identity, x: Map, room: Room) -> Map:
    return x


@tiled.register
def _(layer: nn.Conv2d, x: Map, room: Room) -> Map:
    if layer.stride != (1, 1):
        raise TypeError(f"a convolution with a stride needs a rule of its own that knows its borders, got {layer}")
    return Convolved(layer, x)


@tiled.register
def _(layer: ResBlock, x: Map, room: Room) -> Map:
    if layer.embed is not None or layer.resample is not None or (layer.training and layer.dropout.p):
        raise TypeError(
            "residual blocks with a time embedding, that resample, or with dropout in training, do not go in tiles"
        )
    x = room.keep(x)
    h = room.keep(tiled(layer.conv1, _activated(layer.norm1, x), room))
    # The skip reads x at its own position, whether it is the identity or a 1x1 convolution.
    out = room.keep(Sum(tiled(layer.skip, x, room), tiled(layer.conv2, _activated(layer.norm2, h), room)), over=x)
    h.close()
    return out


@tiled.register
def _(layer: SelfAttention, x: Map, room: Room) -> Map:
    x = room.keep(x)
    h = Normed(layer.norm, x)
    key_values = room.keep(
        Pointwise(lambda t: torch.cat([F.conv2d(t, f.weight, f.bias) for f in (layer.key, layer.value)], 1), h)
    )
    a = Attended(tiled(layer.query, h, room), key_values, room)
    out = room.keep(Sum(x, tiled(layer.out, a, room)), over=x)
    key_values.close()
    return out


@tiled.register
def _(layer: Downsample, x: Map, room: Room) -> Map:
    x = room.keep(x)
    # Symmetric padding is the layer's own; asymmetric padding, right and below, is what is read beyond the border.
    out = room.keep(Convolved(layer.conv, x, x.height // 2, x.width // 2))
    x.close()
    return out


@tiled.register
def _(layer: Upsample, x: Map, room: Room) -> Map:
    x = room.keep(x)
    out = room.keep(tiled(layer.conv, Doubled(x), room))
    x.close()
    return out


@tiled.register
def _(layer: Level, x: Map, room: Room) -> Map:
    for block, attention in zip(layer.blocks, layer.attentions, strict=True):
        x = tiled(attention, tiled(block, x, room), room)
    return x


@tiled.register
def _(layer: Middle, x: Map, room: Room) -> Map:
    for part in (layer.block1, layer.attention, layer.block2):
        x = tiled(part, x, room)
    return x


@tiled.register
def _(layer: Encoder, x: Map, room: Room) -> Map:
    x = tiled(layer.levels[0], tiled(layer.conv_in, x, room), room)
    for downsample, level in zip(layer.downsamples, layer.levels[1:], strict=True):
        x = tiled(level, tiled(downsample, x, room), room)
    return tiled(layer.conv_out, _activated(layer.norm, room.keep(tiled(layer.middle, x, room))), room)


@tiled.register
def _(layer: Decoder, x: Map, room: Room) -> Map:
    x = tiled(layer.levels[0], tiled(layer.middle, tiled(layer.conv_in, x, room), room), room)
    for upsample, level in zip(layer.upsamples, layer.levels[1:], strict=True):
        x = tiled(level, tiled(upsample, x, room), room)
    return tiled(layer.conv_out, _activated(layer.norm, room.keep(x)), room)
