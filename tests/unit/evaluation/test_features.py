"""FD-lite0: names its network, ignores how pictures are batched, and rises with every kind of damage."""

import hashlib
import subprocess
import sys
from importlib import resources

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.evaluation.features import Lite0, extract
from calotype.evaluation.frechet import Moments, frechet_distance


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """120 crops of photographs, (120, 3, 64, 64)."""
    import io

    import numpy as np
    from PIL import Image

    g = torch.Generator().manual_seed(0)
    folder = resources.files("calotype.data") / "embedded" / "photos12"
    crops = []
    for path in sorted((p for p in folder.iterdir() if p.name.endswith(".jpg")), key=lambda p: p.name)[:12]:
        image = torch.from_numpy(np.array(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")))
        for _ in range(10):
            y, x = (int(torch.randint(side - 63, (1,), generator=g)) for side in image.shape[:2])
            crops.append(image[y : y + 64, x : x + 64])
    stacked = torch.stack(crops).permute(0, 3, 1, 2).float() / 127.5 - 1
    return stacked[torch.randperm(len(stacked), generator=g)]


def test_names_its_weights() -> None:
    folder = resources.files("calotype.data") / "embedded"
    data = (folder / "efficientnet_lite0_trunk_fp16.safetensors").read_bytes()
    assert Lite0().sha256 == hashlib.sha256(data).hexdigest()
    assert "Lite0" in Lite0().name and "112" in Lite0().name


def test_features_do_not_depend_on_the_batch(pictures: Tensor) -> None:
    a, b = extract(pictures[:9], Lite0(), batch=9), extract(pictures[:9], Lite0(), batch=2)
    assert a.shape == (9, 112) and a.dtype == torch.float64
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_pictures_are_judged_as_they_would_be_saved(pictures: Tensor) -> None:
    saved = (pictures[:4] * 127.5 + 127.5).round().clamp(0, 255) / 127.5 - 1
    torch.testing.assert_close(Lite0()(pictures[:4] * 1.0 + 0.001), Lite0()(saved), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(Lite0()(pictures[:4] * 9), Lite0()((pictures[:4] * 9).clamp(-1, 1)))


def test_no_pictures() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        extract(torch.zeros(0, 3, 8, 8), Lite0())


def blurred(x: Tensor, factor: int) -> Tensor:
    small = F.interpolate(x, scale_factor=1 / factor, mode="bilinear", antialias=True)
    return F.interpolate(small, size=x.shape[-2:], mode="bicubic")


def test_distance_rises_with_damage_and_with_dropped_modes(pictures: Tensor) -> None:
    real = Moments.of(extract(pictures[:60], Lite0()))
    other = pictures[60:]
    noise = torch.randn(other.shape, generator=torch.Generator().manual_seed(1))

    def fd(x: Tensor) -> float:
        return frechet_distance(real, Moments.of(extract(x, Lite0())))

    floor = fd(other)
    for damaged in ([blurred(other, k) for k in (2, 4, 8)], [other + s * noise for s in (0.1, 0.3, 0.9)]):
        distances = [floor, *(fd(x) for x in damaged)]
        assert distances == sorted(distances)
    one_mode = other[extract(other, Lite0()).sub(extract(other[:1], Lite0())).norm(dim=1).argsort()[:12]]
    assert fd(one_mode.repeat(5, 1, 1, 1)) > 2 * floor


def test_evaluation_imports_neither_torchmetrics_nor_matplotlib() -> None:
    code = (
        "import sys, calotype.evaluation.runner, calotype.report.html\n"
        "print(sorted({'torchmetrics', 'matplotlib', 'torchvision'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
