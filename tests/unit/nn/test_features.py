"""The frozen feature network against a plain re-computation from its weights, and as a distance."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from calotype.files import read_tensors
from calotype.nn.features import BLOCKS, TAPS, WEIGHTS, Lite0Features


@pytest.fixture(scope="module")
def network() -> Lite0Features:
    return Lite0Features()


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    with as_file(files("calotype.data") / "embedded" / WEIGHTS) as path:
        return {k: v.double() for k, v in read_tensors(path).items()}


def same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME padding: so much that ceil(side / stride) pixels come out, the odd one right and below."""
    pads: list[int] = []
    for side in (x.shape[3], x.shape[2]):
        whole = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [whole // 2, whole - whole // 2]
    return F.pad(x, pads)


def reference(x: Tensor, w: dict[str, Tensor]) -> list[Tensor]:
    """Convolution and batch normalisation apart, in float64."""

    def layer(x: Tensor, conv: str, norm: str, kernel: int = 1, stride: int = 1, groups: int = 1) -> Tensor:
        h = F.conv2d(same(x, kernel, stride), w[f"{conv}.weight"], stride=stride, groups=groups)
        keys = (f"{norm}.{k}" for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(h, *(w[k] for k in keys), eps=1e-3)

    x = F.relu6(layer(x, "_conv_stem", "_bn0", 3, 2))
    taps = []
    for i, block in enumerate(BLOCKS):
        at, h = f"_blocks.{i}", x
        if block.expand > 1:
            h = F.relu6(layer(h, f"{at}._expand_conv", f"{at}._bn0"))
        h = F.relu6(
            layer(h, f"{at}._depthwise_conv", f"{at}._bn1", block.kernel, block.stride, block.incoming * block.expand)
        )
        h = layer(h, f"{at}._project_conv", f"{at}._bn2")
        x = x + h if block.stride == 1 and block.incoming == block.channels else h
        if i in TAPS:
            taps.append(x)
    return taps


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("side", [(64, 96), (128, 128), (15, 64), (33, 47), (9, 1)])
def test_equals_the_reference(network: Lite0Features, weights: dict[str, Tensor], side: tuple[int, int]) -> None:
    x = noise(2, 3, *side)
    for a, b in zip(network(x), reference(x.double(), weights), strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() < 1e-4 * b.abs().max()


def test_taps(network: Lite0Features) -> None:
    taps = network(noise(2, 3, 64, 96))
    assert [tuple(t.shape) for t in taps] == [(2, 16, 32, 48), (2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6)]
    assert network.pooled(noise(2, 3, 50, 70)).shape == (2, 112)


@pytest.mark.parametrize("side", [(33, 47), (17, 95), (16, 16)])
def test_odd_sides(network: Lite0Features, side: tuple[int, int]) -> None:
    for i, tap in enumerate(network(noise(1, 3, *side)), 1):
        assert tap.isfinite().all()
        for got, whole in zip(tap.shape[2:], side, strict=True):
            assert got in (whole >> i, -(-whole >> i), (whole >> i) + 1)


def test_leaves_nothing_in_checkpoints_and_nothing_to_train(network: Lite0Features) -> None:
    assert not [*network.parameters()] and not network.state_dict()
    assert [*network.buffers()] and not any(b.requires_grad for b in network.buffers())


def test_the_picture_gets_a_gradient(network: Lite0Features) -> None:
    x = noise(1, 3, 32, 32).requires_grad_()
    network(x)[-1].square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.any()


def test_computes_in_float32_whatever_surrounds_it(network: Lite0Features) -> None:
    x = noise(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = network(x)
    assert all(torch.equal(a, b) for a, b in zip(inside, network(x), strict=True))


def distance(network: Lite0Features, x: Tensor, y: Tensor) -> Tensor:
    """Squared distance of unit-length channel vectors, over all taps, per picture."""
    pairs = zip(network(x), network(y), strict=True)
    return sum(((F.normalize(a) - F.normalize(b)).square().sum(1).mean((1, 2)) for a, b in pairs), torch.zeros(len(x)))


def blurred(x: Tensor, sigma: float) -> Tensor:
    k = torch.arange(-12.0, 13.0)
    k = (-k.square() / (2 * sigma**2)).exp()
    k = (k / k.sum()).expand(3, 1, 1, -1)
    x = F.conv2d(F.pad(x, (12, 12, 0, 0), mode="replicate"), k, groups=3)
    return F.conv2d(F.pad(x, (0, 0, 12, 12), mode="replicate"), k.mT, groups=3)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    folder, found = files("calotype.data") / "embedded" / "photos12", []
    for name in ("astronaut.jpg", "chelsea.jpg", "coffee.jpg"):
        with as_file(folder / name) as path, Image.open(path) as image:
            small = image.convert("RGB").resize((96, 96), Image.Resampling.LANCZOS)
        found.append(torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 127.5 - 1)
    return torch.stack(found)


def test_distances_grow_with_blur(network: Lite0Features, pictures: Tensor) -> None:
    d = torch.stack([distance(network, pictures, blurred(pictures, s)) for s in (0.5, 1.0, 2.0, 4.0)])
    assert (d.diff(dim=0) > 0).all() and (d[0] > 0).all()
    assert not distance(network, pictures, pictures).any()


def test_distances_grow_with_noise(network: Lite0Features, pictures: Tensor) -> None:
    z = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    d = torch.stack([distance(network, pictures, pictures + s * z) for s in (0.02, 0.05, 0.1, 0.3)])
    assert (d.diff(dim=0) > 0).all() and (d[0] > 0).all()
