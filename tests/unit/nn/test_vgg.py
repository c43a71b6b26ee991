"""VGG16's feature maps against torch's own layers in the published order, and the files that its weights come in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.vgg_toys import random_weights, sequential
from torch import Tensor

from calotype.errors import CorruptFile, UserError
from calotype.files import read_tensors, write_tensors
from calotype.nn.vgg import CHANNELS, Vgg16Features, find_weights


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("vgg") / "vgg16.safetensors")


@pytest.fixture(scope="module")
def network(file: Path) -> Vgg16Features:
    return Vgg16Features(file)


def reference(x: Tensor, file: Path) -> list[Tensor]:
    """The taps in float64: ImageNet's normalisation on [0, 1], then the layers by their published numbers."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    h = ((x.double() + 1) / 2 - mean.double().view(3, 1, 1)) / std.double().view(3, 1, 1)
    taps = []
    for number, layer in enumerate(sequential(read_tensors(file)).double()):
        h = layer(h)
        if number in (3, 8, 15, 22, 29):
            taps.append(h)
    return taps


@pytest.mark.parametrize("size", [(16, 16), (33, 50)])
def test_taps_are_those_of_the_published_layers(network: Vgg16Features, file: Path, size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    taps, wanted = network(x), reference(x, file)
    assert tuple(t.shape[1] for t in taps) == CHANNELS == (64, 128, 256, 512, 512)
    for have, want in zip(taps, wanted, strict=True):
        torch.testing.assert_close(have.double(), want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))
        assert float(want.abs().max()) > 0.1


def test_float32_under_autocast(network: Vgg16Features) -> None:
    x = torch.rand(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x.bfloat16().float())
    assert all(torch.equal(a, b) for a, b in zip(half, network(x.bfloat16()), strict=True))
    assert all(t.dtype == torch.float32 for t in half)


def test_weights_stay_frozen_and_out_of_checkpoints(network: Vgg16Features) -> None:
    assert network.state_dict() == {} and not list(network.parameters())


def test_a_classifier_and_half_precision_are_fine(file: Path, tmp_path: Path) -> None:
    tensors = {k: v.half() for k, v in read_tensors(file).items()} | {"head.fc.weight": torch.zeros(10, 4)}
    write_tensors(tmp_path / "x", tensors)
    assert torch.equal(Vgg16Features(tmp_path / "x").conv28_bias, tensors["features.28.bias"].float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.5.bias": None}, "features.5.bias is missing"),
        ({"features.0.weight": torch.zeros(64, 3, 5, 5)}, "features.0.weight is float32 (64, 3, 5, 5), expected float"),
        ({"features.28.bias": torch.zeros(512, dtype=torch.int8)}, "features.28.bias is int8 (512,)"),
    ],
)
def test_another_network_is_refused(file: Path, tmp_path: Path, change: dict[str, Tensor], message: str) -> None:
    tensors = {k: v for k, v in (read_tensors(file) | change).items() if v is not None}
    write_tensors(tmp_path / "x", tensors)
    with pytest.raises(UserError) as error:
        Vgg16Features(tmp_path / "x")
    assert message in str(error.value) and "holds no VGG16" in str(error.value)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "vgg16.pth")
    with pytest.raises(CorruptFile, match="convert it first"):
        Vgg16Features(tmp_path / "vgg16.pth")


def test_too_small_a_picture_is_refused(network: Vgg16Features) -> None:
    with pytest.raises(UserError, match="16 x 16 pixels or more, got 20 x 15"):
        network(torch.zeros(1, 3, 15, 20))


def test_where_weights_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("CALOTYPE_WEIGHTS", raising=False)
    places = [tmp_path / "home/.cache/calotype", tmp_path / "xdg/calotype", tmp_path / "named"]
    for place, (name, value) in zip(
        places, [("UNSET", ""), ("XDG_CACHE_HOME", "xdg"), ("CALOTYPE_WEIGHTS", "named")], strict=True
    ):
        monkeypatch.setenv(name, str(tmp_path / value))
        with pytest.raises(UserError) as error:
            find_weights()
        assert str(place / "vgg16.safetensors") in str(error.value) and "vgg16.tv_in1k" in str(error.value)
        place.mkdir(parents=True)
        (place / "vgg16.safetensors").touch()
        assert find_weights() == place / "vgg16.safetensors"
    assert find_weights(places[0] / "vgg16.safetensors") == places[0] / "vgg16.safetensors"
    for absent in (tmp_path / "no", places[0]):
        with pytest.raises(UserError, match="there is no file"):
            find_weights(absent)
