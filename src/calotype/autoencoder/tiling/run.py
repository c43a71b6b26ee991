"""Encode, decode, reconstruct: the autoencoder's passes in tiles."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor

from calotype.autoencoder.base import Autoencoder, PixelSpace
from calotype.autoencoder.latent import LatentAutoencoder, LatentAutoencoderConfig
from calotype.autoencoder.tiling.layers import tiled
from calotype.autoencoder.tiling.maps import Box, Extended, Map, Picture, Pointwise
from calotype.autoencoder.tiling.spool import Room, Write
from calotype.types import Image, Latent, Noise

TILE = 512
"""Pixels; the working set of the published networks, 128 wide in float32, is then about a gigabyte."""

MEMORY = 1 << 30
"""Bytes of feature maps that are held before they go to temporary files."""


@torch.no_grad()
def encode(
    autoencoder: Autoencoder, image: Image, *, tile: int = TILE, memory: int = MEMORY, noise: Noise | None = None
) -> Latent:
    """What `autoencoder.encode(image, noise)` returns, up to rounding, in bounded memory.

    Beyond the image and the latents it takes `memory` and what a tile takes. One picture is coded at a time; the noise
    is drawn for all together, as the untiled pass does.

    Args:
        autoencoder: in evaluation mode.
        image: (B, 3, H, W) in [-1, 1].
        tile: side of a tile in pixels of the image.
        memory: bytes of feature maps held in memory; what exceeds them waits in temporary files.
        noise: draws a posterior sample; None takes the mode.

    Raises:
        ValueError: the tile or a side is no multiple of the factor.
        TypeError: an autoencoder, or a layer of it, that there is no rule for.
        DiskFull: no room for temporary files.
    """
    _check(autoencoder, tile, memory)
    _, height, width = autoencoder.latent_shape(*image.shape[-2:])
    if isinstance(autoencoder, PixelSpace):
        return autoencoder.encode(image, noise)
    network = _latent(autoencoder)
    # The standard deviations are as large as the latents, and wanted for a sample only.
    channels = autoencoder.channels * (1 if noise is None else 2)
    out = torch.empty(len(image), channels, height, width, device=image.device)
    for x, z in zip(torch.split(image, 1), torch.split(out, 1), strict=True):
        with _room(network, x.shape[2], tile, memory) as room:
            room.fill(_posterior(network, Picture.of(x), room, spread=noise is not None), _into(z))
    if noise is None:
        return out
    mean, std = out.chunk(2, 1)
    return mean + std * noise(mean)


@torch.no_grad()
def decode(autoencoder: Autoencoder, z: Latent, *, tile: int = TILE, memory: int = MEMORY) -> Image:
    """What `autoencoder.decode(z)` returns, up to rounding, in bounded memory; see `encode`.

    Args:
        autoencoder: in evaluation mode.
        z: normalised latents (B, C, H / f, W / f).
        tile: side of a tile in pixels of the image.
        memory: bytes of feature maps held in memory.

    Raises:
        ValueError: the tile is no multiple of the factor.
        TypeError: an autoencoder, or a layer of it, that there is no rule for.
        DiskFull: no room for temporary files.
    """
    _check(autoencoder, tile, memory)
    if isinstance(autoencoder, PixelSpace):
        return autoencoder.decode(z)
    network, f = _latent(autoencoder), autoencoder.factor
    image = torch.empty(len(z), network.decoder.conv_out.out_channels, z.shape[2] * f, z.shape[3] * f, device=z.device)
    for some_z, x in zip(torch.split(z, 1), torch.split(image, 1), strict=True):
        with _room(network, x.shape[2], tile, memory) as room:
            room.fill(_developed(network, Picture.of(some_z), room), _into(x))
    return image


class Bounded:
    """The latents of pictures of any size: an autoencoder's encoder, in tiles where the whole pass does not fit.

    Args:
        autoencoder: in evaluation mode.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.autoencoder, self.factor, self.channels = autoencoder, autoencoder.factor, autoencoder.channels

    def encode(self, image: Image) -> Latent:
        """(B, 3, H, W) in [-1, 1] -> (B, channels, H / factor, W / factor), without noise; see `encode`."""
        if fits(self.autoencoder, *image.shape[-2:]):
            return self.autoencoder.encode(image)
        return encode(self.autoencoder, image)


@torch.no_grad()
def reconstruct(autoencoder: Autoencoder, image: Image, *, tile: int = TILE, memory: int = MEMORY) -> Image:
    """decode(encode(image)) for pictures of any size, (B, 3, H, W) in [-1, 1] -> the same shape, clamped.

    Pictures are continued to multiples of the factor by reflection (by repetition where they are smaller than what is
    missing) and cropped again. They go untiled if they fit; see `fits` and, for arguments and errors, `encode`.
    """
    out = torch.empty_like(image)
    for x, y in zip(torch.split(image, 1), torch.split(out, 1), strict=True):
        stream(autoencoder, Picture.of(x), _into(y), tile=tile, memory=memory)
    return out


@torch.no_grad()
def stream(autoencoder: Autoencoder, picture: Map, write: Write, *, tile: int = TILE, memory: int = MEMORY) -> None:
    """`reconstruct` of one picture that is read and written region by region.

    Args:
        autoencoder: in evaluation mode.
        picture: tells the values (1, 3, h, w) in [-1, 1] of any box, perhaps more than once.
        write: is given every box of the reconstruction once, as (1, 3, h, w) in [-1, 1].
        tile, memory: see `encode`.

    Raises:
        ValueError, TypeError, DiskFull: see `encode`.
    """
    _check(autoencoder, tile, memory)
    f = autoencoder.factor
    height, width = picture.height, picture.width
    whole = Extended(picture, height + -height % f, width + -width % f)
    if fits(autoencoder, height, width, memory):
        x = whole.read(Box(0, 0, whole.height, whole.width)).to(_device(autoencoder))
        y = autoencoder.decode(autoencoder.encode(x))
        write(Box(0, 0, height, width), y[:, :, :height, :width].clamp(-1, 1))
        return

    def crop(box: Box, values: Tensor) -> None:
        seen = box.within(height, width)
        write(seen, values[:, :, : seen.height, : seen.width].clamp(-1, 1))

    network = _latent(autoencoder)
    z = torch.empty(1, network.channels, whole.height // f, whole.width // f)
    with _room(network, whole.height, tile, memory) as room:
        room.fill(_posterior(network, whole, room, spread=False), _into(z))
    with _room(network, whole.height, tile, memory) as room:
        room.fill(_developed(network, Picture.of(z), room), crop)


@singledispatch
def fits(autoencoder: Autoencoder, height: int, width: int, memory: int = MEMORY) -> bool:
    """Whether the untiled pass over a picture of this size takes at most about `memory` bytes, estimated.

    It holds about four maps of the widest level at once: x, h, what goes into a convolution and what comes out. Where
    there is attention, some devices hold the scores of all positions with all, before and after the softmax.

    Raises:
        TypeError: an autoencoder that there is no rule for.
    """
    raise _no_rule(autoencoder)


@fits.register
def _(autoencoder: PixelSpace, height: int, width: int, memory: int = MEMORY) -> bool:
    return True


@fits.register
def _(autoencoder: LatentAutoencoder, height: int, width: int, memory: int = MEMORY) -> bool:
    assert isinstance(autoencoder.config, LatentAutoencoderConfig)
    network, positions = autoencoder.config.network, height * width
    widths, last = network.widths, len(network.widths) - 1
    # The decoder comes to each level with the width of the one below.
    maps = max(max(widths[i : i + 2]) * positions * 0.25**i for i in range(len(widths)))
    attending = {*network.attention_levels, *([last] if network.mid_attention else [])}
    scores = max(((positions * 0.25**i) ** 2 for i in attending), default=0.0)
    return 4 * max(4 * maps, 2 * scores) <= memory


def _posterior(autoencoder: LatentAutoencoder, x: Map, room: Room, *, spread: bool) -> Map:
    """The mean, and below it on channels the standard deviation if it is wanted, both normalised."""
    stats, bottleneck = autoencoder.stats, autoencoder.bottleneck

    def normalised(h: Tensor) -> Tensor:
        mu, s = (value.float() for value in bottleneck.moments(h))
        mean = stats.normalize(mu)
        return torch.cat([mean, s / stats.std.view(-1, 1, 1)], 1) if spread else mean

    x = Pointwise(lambda values: values.to(room.device), x)
    h = tiled(autoencoder.quant_conv, tiled(autoencoder.encoder, x, room), room)
    return Pointwise(normalised, h)


def _developed(autoencoder: LatentAutoencoder, z: Map, room: Room) -> Map:
    """The picture of a normalised latent, float32."""
    stats, bottleneck = autoencoder.stats, autoencoder.bottleneck
    read = Pointwise(lambda values: bottleneck.project(stats.denormalize(values.to(room.device))), z)
    x = tiled(autoencoder.decoder, tiled(autoencoder.post_quant_conv, read, room), room)
    return Pointwise(Tensor.float, x)


def _check(autoencoder: Autoencoder, tile: int, memory: int) -> None:
    f = autoencoder.factor
    if tile < 1 or tile % f:
        near = sorted({max(f, tile - tile % f), max(f, tile - tile % f + f)})
        raise ValueError(
            f"tile must be a positive multiple of the autoencoder's factor {f}, got {tile}; "
            f"take {' or '.join(map(str, near))}"
        )
    if memory < 0:
        raise ValueError(f"memory must be 0 bytes or more, got {memory}")


def _latent(autoencoder: Autoencoder) -> LatentAutoencoder:
    if not isinstance(autoencoder, LatentAutoencoder):
        raise _no_rule(autoencoder)
    return autoencoder


def _no_rule(autoencoder: Autoencoder) -> TypeError:
    return TypeError(
        f"there is no rule how a {type(autoencoder).__name__} goes over a picture in tiles; run it untiled"
    )


def _room(autoencoder: LatentAutoencoder, height: int, tile: int, memory: int) -> Room:
    return Room(tile, memory, height, _device(autoencoder))


def _device(autoencoder: Autoencoder) -> torch.device:
    """Where its weights are; the CPU if it has none."""
    return next((p.device for p in autoencoder.parameters()), torch.device("cpu"))


def _into(x: Tensor) -> Write:
    """Write boxes into a tensor (1, C, H, W)."""

    def write(box: Box, values: Tensor) -> None:
        x[:, :, *box.slices] = values.to(x.device)

    return write
