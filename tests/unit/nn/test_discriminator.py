"""Parameter counts, receptive fields and initial weights of the patch discriminator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from calotype.nn.discriminator import PatchDiscriminatorConfig


@pytest.mark.parametrize(("layers", "count"), [(3, 2_765_633), (2, 663_361)])
def test_parameter_count(layers: int, count: int) -> None:
    with torch.device("meta"):
        network = PatchDiscriminatorConfig(layers=layers).build()
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_receptive_field(layers: int, field: int) -> None:
    """Which pixels have a gradient from one logit in the middle."""
    torch.manual_seed(0)
    network = PatchDiscriminatorConfig(channels=4, layers=layers).build().double().eval()
    x = torch.randn(1, 3, 160, 160, dtype=torch.float64, requires_grad=True)
    logits = network(x)
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    assert x.grad is not None
    seen = x.grad[0].abs().sum(0) > 0
    for axis in (0, 1):
        where = seen.any(axis).nonzero().flatten()
        assert where[-1] - where[0] + 1 == field


def test_one_logit_per_patch() -> None:
    network = PatchDiscriminatorConfig(channels=2, image_channels=1).build()
    assert network(torch.zeros(2, 1, 256, 256)).shape == (2, 1, 30, 30)


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_the_smallest_picture_leaves_a_logit_and_a_smaller_one_none(layers: int) -> None:
    config = PatchDiscriminatorConfig(channels=2, layers=layers)
    network = config.build()
    side = config.smallest
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 1, 1, 1)
    with pytest.raises(RuntimeError, match=r"smaller|greater"):
        network(torch.zeros(2, 3, side - 1, side - 1))


def test_initial_weights() -> None:
    """Convolutions N(0, 0.02), normalisations N(1, 0.02), biases 0; a convolution before a norm has no bias."""
    torch.manual_seed(0)
    network = PatchDiscriminatorConfig().build()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [m.bias is not None for m in convolutions] == [True, False, False, False, True]
    for m in convolutions:
        assert m.weight.std().item() == pytest.approx(0.02, rel=0.05) and abs(m.weight.mean().item()) < 1e-3
        assert m.bias is None or not m.bias.any()
    for m in network.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert m.weight.std().item() == pytest.approx(0.02, rel=0.3) and not m.bias.any()
            assert m.weight.mean().item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("change", [{"channels": 0}, {"layers": 0}, {"layers": 40}, {"image_channels": 10**9}])
def test_sizes_out_of_bounds(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        PatchDiscriminatorConfig(**change)
