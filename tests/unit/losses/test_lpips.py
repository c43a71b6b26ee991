"""LPIPS against its formula in float64, place by place, and against torchmetrics' arithmetic with the same weights."""

from __future__ import annotations

from importlib import resources
from importlib.resources import as_file
from pathlib import Path

import pytest
import torch
from tests.vgg_toys import random_weights, sequential
from torch import Tensor, nn

from calotype.errors import UserError
from calotype.files import read_tensors
from calotype.losses.lpips import LINEAR, Lpips, LpipsDistance
from calotype.losses.perceptual import Perceptual

TAPS = (3, 8, 15, 22, 29)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("vgg") / "vgg16.safetensors")


@pytest.fixture(scope="module")
def lpips(file: Path) -> LpipsDistance:
    return Lpips(str(file)).build()


def two(n: int = 2, size: tuple[int, int] = (24, 32)) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    x = torch.rand(n, 3, *size, generator=g) * 2 - 1
    return x, (x + 0.3 * torch.randn(x.shape, generator=g)).clamp(-1, 1)


def linear() -> dict[str, Tensor]:
    with as_file(resources.files("calotype.data") / "embedded" / LINEAR) as path:
        return read_tensors(path)


def test_equals_the_formula_in_float64(lpips: LpipsDistance, file: Path) -> None:
    network, w = sequential(read_tensors(file)).double(), {k: v.double() for k, v in linear().items()}
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).view(3, 1, 1)
    x, y = two()
    a, b = (x.double() - shift) / scale, (y.double() - shift) / scale
    wanted = torch.zeros(2, dtype=torch.float64)
    for number, layer in enumerate(network):
        a, b = layer(a), layer(b)
        if number not in TAPS:
            continue
        _, _, height, width = a.shape
        for i in range(2):
            for r in range(height):
                for c in range(width):
                    u, v = a[i, :, r, c], b[i, :, r, c]
                    difference = u / (u.square().sum().sqrt() + 1e-10) - v / (v.square().sum().sqrt() + 1e-10)
                    wanted[i] += (w[f"lin{TAPS.index(number)}"] * difference.square()).sum() / (height * width)
    torch.testing.assert_close(lpips(x, y).double(), wanted, rtol=1e-5, atol=0.0)
    assert (wanted > 0.01).all()


def test_equals_torchmetrics_with_the_same_weights(
    lpips: LpipsDistance, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchmetrics.functional.image import lpips as peer

    monkeypatch.setattr(peer, "_get_tv_model_features", lambda net, pretrained: sequential(read_tensors(file)))
    theirs = peer._LPIPS(pretrained=True, net="vgg", pnet_rand=True)
    x, y = two(3, (40, 32))
    # They add 1e-8 to the squared norm, the paper's code 1e-10 to the norm.
    torch.testing.assert_close(lpips(x, y), theirs(x, y).flatten(), rtol=1e-5, atol=0.0)


def test_the_weights_are_those_that_peers_ship(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmetrics.functional.image import lpips as peer

    monkeypatch.setattr(peer, "_get_tv_model_features", lambda net, pretrained: sequential())
    theirs = peer._LPIPS(pretrained=True, net="vgg", pnet_rand=True)
    ours = linear()
    assert sum(w.numel() for w in ours.values()) == 1472 and all((w >= 0).all() for w in ours.values())
    for name, w in ours.items():
        assert torch.equal(w, getattr(theirs, name).model[1].weight.flatten())


def test_symmetric_and_zero_for_equal_pictures(lpips: LpipsDistance) -> None:
    x, y = two()
    torch.testing.assert_close(lpips(x, y), lpips(y, x))
    assert lpips(x, x).tolist() == [0.0, 0.0] and lpips(x, y).shape == (2,)


def test_gradients_reach_both_pictures_and_nothing_else(lpips: LpipsDistance) -> None:
    x, y = (p.requires_grad_() for p in two())
    for g in torch.autograd.grad(lpips(x, y).sum(), (x, y)):
        assert g.isfinite().all() and all(float(each.abs().sum()) > 0 for each in g)
    assert not list(lpips.parameters()) and not any(b.requires_grad for b in lpips.buffers())


def test_gradient_is_the_slope(lpips: LpipsDistance) -> None:
    x, y = two(1, (16, 16))
    y.requires_grad_()
    (g,) = torch.autograd.grad(lpips(x, y).sum(), y)
    step = 1e-3 * g / g.norm()
    with torch.no_grad():
        slope = float(lpips(x, y + step) - lpips(x, y - step)) / 2
    assert slope == pytest.approx(float((g * step).sum()), rel=0.02)


def test_places_without_features_have_a_gradient(lpips: LpipsDistance) -> None:
    taps = [(torch.zeros(1, c, 2, 2, requires_grad=True), torch.rand(1, c, 2, 2)) for c in (64, 128, 256, 512, 512)]
    grads = torch.autograd.grad(lpips.compare([(a.relu(), b) for a, b in taps]).sum(), [a for a, _ in taps])
    assert all(g.isfinite().all() for g in grads)


def test_float32_under_autocast(lpips: LpipsDistance) -> None:
    x, y = two()
    with torch.autocast("cpu", torch.bfloat16):
        half = lpips(x, y)
    assert half.dtype == torch.float32 and torch.equal(half, lpips(x, y))


def test_stays_frozen_and_out_of_checkpoints(lpips: LpipsDistance) -> None:
    holder = nn.ModuleList([lpips]).train()
    assert not any(m.training for m in lpips.modules()) and holder.state_dict() == {}


def test_named_by_its_network_and_weights(lpips: LpipsDistance, file: Path, tmp_path: Path) -> None:
    assert lpips.name == "LPIPS (VGG16)" and Perceptual().name == "perceptual (lite0)"
    assert lpips.sha256 == Lpips(str(file)).build().sha256 != Perceptual().sha256
    other = Lpips(str(file)).build()
    other.features.get_buffer("conv0_bias")[0] += 1e-3
    assert other.sha256 != lpips.sha256


def test_missing_weights_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"there is no file .*no\.safetensors .*vgg16\.tv_in1k.*lite0, which needs nothing"
    ):
        Lpips(str(tmp_path / "no.safetensors")).build()
