"""The perceptual distance against its formula, on pictures that get worse step by step, and its gradient."""

import io
from importlib import resources

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

from calotype.losses.perceptual import Perceptual


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.fixture(scope="module")
def perceptual() -> Perceptual:
    return Perceptual()


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    folder = resources.files("calotype.data") / "embedded" / "photos12"
    path = sorted((p for p in folder.iterdir() if p.name.endswith(".jpg")), key=lambda p: p.name)[0]
    image = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
    return image.resize((256, 256), Image.Resampling.LANCZOS).crop((64, 64, 192, 192))


class Two(nn.Module):
    """Taps that can be worked out by hand: the picture itself, and its mean over space."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.mean((2, 3), keepdim=True)


def test_equals_the_formula() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 3, 5, 4, generator=g), torch.randn(3, 3, 5, 4, generator=g)
    expected = torch.zeros(3, dtype=torch.float64)
    for i in range(3):
        for a, b in zip(Two()(x.double()), Two()(y.double()), strict=True):
            _, _, height, width = a.shape
            for r in range(height):
                for c in range(width):
                    u, v = a[i, :, r, c], b[i, :, r, c]
                    expected[i] += (u / u.norm() - v / v.norm()).square().sum() / (height * width) / 2
    torch.testing.assert_close(Perceptual(Two())(x, y).double(), expected, rtol=1e-5, atol=1e-6)


def test_places_without_features_are_equal_and_have_a_gradient() -> None:
    x = torch.zeros(1, 3, 4, 4, requires_grad=True)
    distance = Perceptual(Two())(x, torch.zeros(1, 3, 4, 4))
    distance.sum().backward()
    assert float(distance.detach()) == 0.0
    assert x.grad is not None and bool(x.grad.isfinite().all())


def test_symmetric_bounded_and_zero_for_equal_pictures(perceptual: Perceptual) -> None:
    x, y = torch.rand(2, 3, 32, 48) * 2 - 1, torch.rand(2, 3, 32, 48) * 2 - 1
    torch.testing.assert_close(perceptual(x, y), perceptual(y, x))
    assert float(perceptual(x, x).max()) == 0.0
    assert float(perceptual(x, y).min()) > 0.0 and float(perceptual(x, y).max()) <= 4.0


def test_each_picture_is_judged_alone(perceptual: Perceptual) -> None:
    x, y = torch.rand(3, 3, 32, 32) * 2 - 1, torch.rand(3, 3, 32, 32) * 2 - 1
    single = torch.cat([perceptual(x[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(perceptual(x, y), single, rtol=1e-4, atol=1e-6)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


@pytest.mark.parametrize("worse", ["blur", "noise", "jpeg"])
def test_grows_with_every_kind_of_damage(perceptual: Perceptual, photo: Image.Image, worse: str) -> None:
    x = to_tensor(photo)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    damaged = {
        "blur": lambda: [to_tensor(photo.filter(ImageFilter.GaussianBlur(r))) for r in (0.5, 1, 2, 4)],
        "noise": lambda: [(x + s * noise).clamp(-1, 1) for s in (0.02, 0.05, 0.1, 0.2, 0.4)],
        "jpeg": lambda: [to_tensor(jpeg(photo, q)) for q in (90, 60, 30, 10)],
    }[worse]()
    distances = [float(perceptual(x, y)) for y in damaged]
    assert distances == sorted(distances) and distances[0] > 0.0
    assert distances[-1] > 2 * distances[0]


def test_gradient_reaches_the_picture_and_nothing_else(perceptual: Perceptual, photo: Image.Image) -> None:
    x = to_tensor(photo)
    y = to_tensor(photo.filter(ImageFilter.GaussianBlur(2))).requires_grad_()
    before = perceptual(x, y)
    (gradient,) = torch.autograd.grad(before.sum(), y)
    assert bool(gradient.isfinite().all()) and float(gradient.abs().sum()) > 0.0
    assert not any(p.requires_grad for p in perceptual.parameters())
    # A small step against the gradient brings the pictures closer.
    step = 1e-3 * gradient / gradient.abs().mean()
    assert float(perceptual(x, y - step).detach()) < float(before.detach())


def test_stays_frozen_and_out_of_checkpoints(perceptual: Perceptual) -> None:
    holder = nn.ModuleList([perceptual]).train()
    assert not perceptual.training and not any(m.training for m in perceptual.modules())
    assert holder.state_dict() == {}


def test_half_precision_features_give_a_float32_distance(perceptual: Perceptual, photo: Image.Image) -> None:
    x, y = to_tensor(photo), to_tensor(photo.filter(ImageFilter.GaussianBlur(2)))
    full = perceptual(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        half = perceptual(x, y)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.0)


def test_refuses_different_shapes(perceptual: Perceptual) -> None:
    with pytest.raises(ValueError, match="one shape"):
        perceptual(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 16, 16))
