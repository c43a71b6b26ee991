"""Tiled passes against the untiled ones, which are the oracle."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor, nn
from torch.nn import functional as F

from calotype import recipes
from calotype.autoencoder import tiling
from calotype.autoencoder.base import Autoencoder, PixelSpace
from calotype.autoencoder.bottleneck.base import BottleneckConfig
from calotype.autoencoder.bottleneck.finite_scalar import FiniteScalarConfig
from calotype.autoencoder.bottleneck.gaussian import GaussianConfig
from calotype.autoencoder.bottleneck.vector_quantized import VectorQuantizedConfig
from calotype.autoencoder.latent import LatentAutoencoder, LatentAutoencoderConfig
from calotype.autoencoder.tiling import attention, layers, maps, spool
from calotype.autoencoder.tiling.maps import Box, Convolved, Doubled, Extended, Picture
from calotype.autoencoder.tiling.spool import Moments, Room
from calotype.data.images import to_tensor
from calotype.errors import DiskFull
from calotype.nn.encoder_decoder import EncoderDecoderConfig, SelfAttention
from calotype.nn.layers import Downsample, ResBlock, Upsample, halve
from calotype.rng import SampleNoise
from calotype.types import Image, Latent

BOTTLENECKS: dict[str, BottleneckConfig] = {
    "kl": GaussianConfig(),
    "vq": VectorQuantizedConfig(size=32),
    "vq, small and cosine": VectorQuantizedConfig(size=32, width=2, cosine=True),
    "fsq": FiniteScalarConfig(levels=(5, 5, 4)),
}

CLOSE = 1e-4
"""Rounding, in units where 1/127.5 is one step of an 8-bit picture."""


def build(
    bottleneck: str = "kl",
    multipliers: tuple[int, ...] = (1, 2, 3),
    attention_levels: tuple[int, ...] = (),
    *,
    middle: bool = True,
    channels: int = 8,
) -> LatentAutoencoder:
    """A random network whose attention looks at something and whose latents are far from normalised."""
    torch.manual_seed(1)
    network = EncoderDecoderConfig(channels, multipliers, 1, 5, attention_levels=attention_levels, mid_attention=middle)
    autoencoder = LatentAutoencoderConfig(3, network, BOTTLENECKS[bottleneck]).build().eval()
    with torch.no_grad():
        autoencoder.stats.mean.copy_(torch.tensor([0.3, -0.2, 0.1]))
        autoencoder.stats.std.copy_(torch.tensor([0.5, 0.7, 1.5]))
        for module in autoencoder.modules():
            if isinstance(module, SelfAttention):
                for sharp in (module.query, module.key):
                    sharp.weight.mul_(4)
            if isinstance(module, nn.GroupNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    return autoencoder


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Noise on a slope: the picture's corners differ, as real ones do."""
    x = 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x + torch.linspace(-0.8, 0.8, shape[-1]) * torch.linspace(-1, 1, shape[-2])[:, None]


@torch.no_grad()
def untiled(autoencoder: LatentAutoencoder, x: Image) -> tuple[Latent, Image]:
    z = autoencoder.encode(x)
    return z, autoencoder.decode(z)


def far(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape and a.dtype == b.dtype
    return float((a - b).abs().max())


# --- the same result --------------------------------------------------------------------------------------------------

CASES = [
    ("kl", (1, 2, 3), (), True, (20, 28)),
    ("kl", (1, 2, 3), (), False, (36, 20)),
    ("kl", (1, 2, 3), (0,), True, (20, 12)),
    ("kl", (1, 2), (0, 1), False, (8, 10)),
    ("kl", (1, 1, 2, 4), (2, 3), True, (24, 40)),
    ("vq", (1, 2, 3), (), True, (20, 28)),
    ("vq, small and cosine", (1, 2), (1,), True, (14, 10)),
    ("fsq", (1, 2, 3), (), True, (20, 28)),
    ("kl", (1,), (), True, (5, 7)),
]


@pytest.mark.parametrize(("bottleneck", "multipliers", "levels", "middle", "size"), CASES)
def test_tiled_equals_untiled(
    bottleneck: str, multipliers: tuple[int, ...], levels: tuple[int, ...], middle: bool, size: tuple[int, int]
) -> None:
    """Every kind of network; tiles of one latent cell, some that do not divide the picture, and one larger than it."""
    autoencoder = build(bottleneck, multipliers, levels, middle=middle)
    x, f = draw(2, 3, *size), autoencoder.factor
    z, y = untiled(autoencoder, x)
    for tile, memory in ((f, 1 << 30), (3 * f, 0), (4 * f, 20_000), (64 * f, 1 << 30)):
        assert far(tiling.encode(autoencoder, x, tile=tile, memory=memory), z) < CLOSE
        assert far(tiling.decode(autoencoder, z, tile=tile, memory=memory), y) < CLOSE


def test_a_sample_draws_the_same_noise() -> None:
    autoencoder, x = build(), draw(2, 3, 36, 52)
    with torch.no_grad():
        z = autoencoder.encode(x, SampleNoise.range(3, 2))
    assert far(tiling.encode(autoencoder, x, tile=8, noise=SampleNoise.range(3, 2)), z) < CLOSE
    assert far(tiling.encode(autoencoder, x, tile=8), z) > 0.01


def test_bf16_autocast() -> None:
    """Tiles are kept in the dtype that convolutions return, and are no further from float32 than the untiled pass."""
    autoencoder, x = build(attention_levels=(1,)), draw(1, 3, 36, 52)
    z, y = untiled(autoencoder, x)
    with torch.autocast("cpu", torch.bfloat16):
        coarse_z, coarse_y = tiling.encode(autoencoder, x, tile=8), tiling.decode(autoencoder, z, tile=8)
        with torch.no_grad():
            their_z, their_y = autoencoder.encode(x), autoencoder.decode(z)
    assert 1e-4 < far(coarse_z, z) < 2 * far(their_z, z)
    assert 1e-4 < far(coarse_y, y) < 2 * far(their_y, y)


def test_statistics_of_each_tile_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive way, with everything else in place, misses by far more than a step of an 8-bit picture."""

    def alone(self: layers.Normed, box: Box) -> Tensor:
        x = self._x.read(box)
        tile = Moments()
        tile.add(x)
        mean, var = (v.repeat_interleave(4).float().view(-1, 1, 1) for v in tile.groups(x.shape[1] // 4))
        return (x - mean) * (var + 1e-6).rsqrt() * self._scale.sign() + self._bias

    autoencoder, x = build(), draw(1, 3, 48, 48)
    z, y = untiled(autoencoder, x)
    monkeypatch.setattr(layers.Normed, "read", alone)
    assert far(tiling.encode(autoencoder, x, tile=16), z) > 0.05
    assert far(tiling.decode(autoencoder, z, tile=16), y) > 0.05


def test_missing_halos_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder, x = build(middle=False), draw(1, 3, 48, 48)
    z, y = untiled(autoencoder, x)
    monkeypatch.setattr(maps.Convolved, "read", lambda self, box: self._conv(self._x.read(box)))
    assert far(tiling.decode(autoencoder, z, tile=48), y) < CLOSE  # the stand-in is right but at borders of tiles
    assert far(tiling.decode(autoencoder, z, tile=16), y) > 0.05


def test_attention_within_each_tile_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(self: attention.Attended, box: Box) -> Tensor:
        q, kv = self._queries.read(box), self._key_values.read(box)
        q, k, v = (t.flatten(2).transpose(1, 2) for t in (q, *kv.chunk(2, 1)))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, -1, box.height, box.width)

    autoencoder, x = build(), draw(1, 3, 48, 48)
    z, y = untiled(autoencoder, x)
    monkeypatch.setattr(attention.Attended, "read", alone)
    assert far(tiling.decode(autoencoder, z, tile=48), y) < CLOSE  # the stand-in is right but for its reach
    assert far(tiling.decode(autoencoder, z, tile=16), y) > 0.01


@pytest.mark.parametrize("memory", [0, 30_000])
def test_on_disk_equals_in_memory(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder, x = build(attention_levels=(1,)), draw(1, 3, 20, 28)
    z = tiling.encode(autoencoder, x, tile=8)
    y = tiling.decode(autoencoder, z, tile=8)
    files: list[spool._OnDisk] = []
    opened = spool._OnDisk.__init__
    monkeypatch.setattr(spool._OnDisk, "__init__", lambda self, *args: (files.append(self), opened(self, *args))[1])
    assert torch.equal(tiling.encode(autoencoder, x, tile=8, memory=memory), z)
    assert torch.equal(tiling.decode(autoencoder, z, tile=8, memory=memory), y)
    assert files and all(one._file.closed for one in files)


# --- any size ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(37, 21), (36, 52), (1, 1), (3, 50), (1, 41), (49, 2), (5, 6)])
def test_any_size(size: tuple[int, int]) -> None:
    """Against padding by torch, the untiled pass and cropping."""
    autoencoder, (height, width) = build(multipliers=(1, 1, 2, 2)), size
    x = draw(2, 3, height, width)
    down, right = -height % 8, -width % 8
    padded = F.pad(x, (0, right, 0, down), mode="reflect" if down < height and right < width else "replicate")
    wanted = untiled(autoencoder, padded)[1][:, :, :height, :width].clamp(-1, 1)
    for memory in (0, 1 << 30):
        assert tiling.fits(autoencoder, height, width, memory) == (memory > 0)
        assert far(tiling.reconstruct(autoencoder, x, tile=16, memory=memory), wanted) < CLOSE


def test_regions_are_written_once() -> None:
    autoencoder, x = build(), draw(1, 3, 37, 50)
    seen, result = torch.zeros(37, 50), torch.empty_like(x)

    def write(box: Box, values: Tensor) -> None:
        assert values.shape == (1, 3, box.height, box.width)
        seen[box.slices] += 1
        result[:, :, *box.slices] = values

    tiling.stream(autoencoder, Picture.of(x), write, tile=8, memory=0)
    assert bool((seen == 1).all())
    assert far(result, tiling.reconstruct(autoencoder, x)) < CLOSE


def test_pixels_pass_through() -> None:
    x = draw(2, 3, 7, 9).clamp(-1, 1)
    pixels = PixelSpace()
    assert torch.equal(tiling.encode(pixels, x), x) and torch.equal(tiling.decode(pixels, x), x)
    assert torch.equal(tiling.reconstruct(pixels, x, memory=0), x)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_mistakes_are_named() -> None:
    autoencoder, x = build(), draw(1, 3, 16, 16)
    with pytest.raises(ValueError, match=r"tile must be a positive multiple of the autoencoder's factor 4, got 10; ta"):
        tiling.encode(autoencoder, x, tile=10)
    with pytest.raises(ValueError, match="got 0; take 4"):
        tiling.decode(autoencoder, x, tile=0)
    with pytest.raises(ValueError, match="memory must be 0 bytes or more"):
        tiling.reconstruct(autoencoder, x, memory=-1)
    with pytest.raises(ValueError, match="width 18 is not a multiple"):
        tiling.encode(autoencoder, draw(1, 3, 16, 18))


def test_a_layer_without_a_rule() -> None:
    autoencoder = build()
    autoencoder.decoder.middle.attention = nn.Dropout()
    with pytest.raises(TypeError, match="no rule how a Dropout goes over a picture in tiles"):
        tiling.decode(autoencoder, draw(1, 3, 4, 4), tile=8)
    for block in (ResBlock(8, 8, embedding=4), ResBlock(8, 8, resample=halve)):
        with (
            Room(8, 0, 16, torch.device("cpu")) as room,
            pytest.raises(TypeError, match="with a time embedding, that resample"),
        ):
            layers.tiled(block, Picture.of(draw(1, 8, 16, 16)), room)


def test_bounded_latents_are_those_of_the_autoencoder(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder, x = build(), draw(2, 3, 16, 24)
    latents = tiling.Bounded(autoencoder)
    assert (latents.factor, latents.channels) == (4, 3)
    with torch.no_grad():
        whole = autoencoder.encode(x)
        assert torch.equal(latents.encode(x), whole)
        monkeypatch.setattr("calotype.autoencoder.tiling.run.fits", lambda *_: False)
        assert (latents.encode(x) - whole).abs().max() < CLOSE


def test_an_autoencoder_without_a_rule() -> None:
    class Other(Autoencoder):
        factor, channels = 2, 3

        def moments(self, image: Image) -> tuple[Latent, Latent]:
            raise NotImplementedError

        def decode(self, z: Latent) -> Image:
            raise NotImplementedError

    x = draw(1, 3, 8, 8)
    for call in (tiling.encode, tiling.decode, tiling.reconstruct):
        with pytest.raises(TypeError, match="no rule how a Other"):
            call(Other(), x)


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "full")

    opened: list[Full] = []
    monkeypatch.setattr(spool.tempfile, "TemporaryFile", lambda buffering: opened.append(Full()) or opened[-1])
    with pytest.raises(DiskFull, match=r"no room left in .* for feature maps; free some space, or set TMPDIR"):
        tiling.encode(build(), draw(1, 3, 16, 16), tile=8, memory=0)
    assert opened and all(file.closed for file in opened)


# --- the parts --------------------------------------------------------------------------------------------------------


def test_moments_are_exact_far_from_zero() -> None:
    """float64 over the whole map; sums of squares in float32 would have lost the variance altogether."""
    x = torch.randn(1, 6, 30, 40, generator=torch.Generator().manual_seed(2)) * 1e-2 + torch.tensor(
        [0.0, 1.0, -300.0, 300.0, 5.0, 5.0]
    ).view(-1, 1, 1)
    moments = Moments()
    for rows in x.split(7, 2):
        for tile in rows.split(11, 3):
            moments.add(tile)
    for groups in (6, 3, 1):
        mean, var = moments.groups(groups)
        exact = x.double().view(groups, -1)
        torch.testing.assert_close(mean, exact.mean(1), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(var, exact.var(1, correction=0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("size", [(16, 24), (8, 8), (40, 8)])
@torch.no_grad()
def test_layers_alone(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = draw(1, 8, *size)
    for layer in (
        ResBlock(8, 8),
        ResBlock(8, 12),
        SelfAttention(8),
        Downsample(8, asymmetric=True),
        Downsample(8, asymmetric=False),
        Upsample(8),
        nn.Conv2d(8, 3, 3, padding=1),
        nn.Conv2d(8, 3, 1, bias=False),
        nn.Identity(),
    ):
        wanted = layer.eval()(x)
        for memory in (0, 1 << 20):
            with Room(8, memory, size[0], torch.device("cpu")) as room:
                y = layers.tiled(layer, Picture.of(x), room)
                got = torch.full_like(wanted, torch.nan)
                for box in room.boxes(y):
                    got[:, :, *box.slices] = y.read(box)
                assert far(got, wanted) < 1e-5
            assert not room.spools


def test_views() -> None:
    x = draw(1, 4, 9, 6)
    view = Picture.of(x)
    doubled = F.interpolate(x, scale_factor=2.0, mode="nearest")
    for box in (Box(0, 0, 18, 12), Box(3, 1, 4, 2), Box(5, 2, 18, 11)):
        assert torch.equal(Doubled(view).read(box), doubled[:, :, *box.slices])
    for height, width, mode in ((15, 8, "reflect"), (9, 6, "reflect"), (9, 12, "replicate"), (20, 6, "replicate")):
        padded = F.pad(x, (0, width - 6, 0, height - 9), mode=mode)
        for box in (Box(0, 0, height, width), Box(7, 4, height, width), Box(8, 0, 9, 6)):
            assert torch.equal(Extended(view, height, width).read(box), padded[:, :, *box.slices])
    with pytest.raises(TypeError, match="zero padding"):
        Convolved(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), view)


def test_attention_with_large_scores_and_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against softmax in float64; exp of these scores overflows without the running maximum."""
    monkeypatch.setattr(attention, "CHUNK", 7)
    c, size = 4, (12, 20)
    q, k, v = (30 * draw(1, c, *size, seed=s) for s in range(3))
    with Room(8, 0, size[0], torch.device("cpu")) as room:
        attended = attention.Attended(Picture.of(q), room.keep(Picture.of(torch.cat([k, v], 1))), room)
        got = torch.cat([attended.read(Box(0, 0, 5, 20)), attended.read(Box(5, 0, 12, 20))], 2)
    flat_q, flat_k, flat_v = (t[0].flatten(1).T.double() for t in (q, k, v))
    scores = flat_q @ flat_k.T / c**0.5
    assert scores.max() > 700
    exact = (scores.softmax(1) @ flat_v).T.reshape(q.shape)
    torch.testing.assert_close(got.double(), exact, rtol=1e-3, atol=1e-2)


# --- large pictures ---------------------------------------------------------------------------------------------------

PHOTOGRAPH = Path(tiling.__file__).parents[2] / "data" / "embedded" / "photos12" / "astronaut.jpg"


@pytest.mark.slow
def test_a_photograph_has_no_seams() -> None:
    """The default recipe's network, 1024 x 1024 pixels: below one step of an 8-bit picture everywhere."""
    torch.manual_seed(0)
    autoencoder = recipes.get(None, "autoencoder").build().autoencoder.build().eval()
    picture = PILImage.open(PHOTOGRAPH).convert("RGB").resize((1024, 1024), PILImage.Resampling.BICUBIC)
    x = to_tensor(np.asarray(picture))[None]
    with torch.no_grad():
        z = autoencoder.encode(x)
        y = autoencoder.decode(z)
    tiled_z = tiling.encode(autoencoder, x, tile=256, memory=64 << 20)
    error = far(tiling.decode(autoencoder, tiled_z, tile=256, memory=64 << 20), y)
    print(f"largest difference: latent {far(tiled_z, z):.1e}, picture {error:.1e}")
    assert far(tiled_z, z) < 1e-3 and error <= 1 / 255, f"{error} apart"


PEAK = """
import json, sys
from pathlib import Path
import torch
from calotype.autoencoder import tiling
from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.nn.encoder_decoder import EncoderDecoderConfig

side = int(sys.argv[1])
torch.manual_seed(0)
network = EncoderDecoderConfig(channels=8, multipliers=(1, 1, 2, 2, 4), blocks=1)
autoencoder = LatentAutoencoderConfig(network=network).build().eval()
x = torch.rand(1, 3, side, side).mul_(2).sub_(1)
y = tiling.decode(autoencoder, tiling.encode(autoencoder, x, memory=64 << 20), memory=64 << 20)
arrays = sum(t.numel() * 4 for t in (x, y)) / 1e6
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps([int(status["VmHWM"].split()[0]) * 1.024e-3, arrays]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(900)
def test_memory_does_not_grow_with_the_picture() -> None:
    """Sixteen times the pixels, and attention over 65,536 positions, in the memory of the smallest: apart from the
    picture itself and its reconstruction. One map of the outermost level alone takes 537 MB at 4096 x 4096.

    The peak is VmHWM: getrusage's ru_maxrss is inherited, so it would tell what the tests before this one took."""
    peaks = {}
    for side in (1024, 2048, 4096):
        run = subprocess.run([sys.executable, "-c", PEAK, str(side)], capture_output=True, text=True, check=True)
        whole, arrays = json.loads(run.stdout)
        peaks[side] = (round(whole), round(arrays), round(whole - arrays))
    assert len({peak for peak, _, _ in peaks.values()}) == 3, peaks
    told = f"side: (peak, input and output, rest) in MB: {peaks}"
    print(told)
    assert peaks[4096][2] < 1.15 * peaks[1024][2] + 20, told
