"""The pyramid on frozen features: shapes, what is trained, and what it can learn."""

import pytest
import torch
from torch.nn import functional as F

from calotype.nn.segmentation import SegmentationConfig


def test_a_logit_for_every_pixel_all_alike_at_first() -> None:
    network = SegmentationConfig(areas=5, width=8).build()
    for side in (32, 64):
        logits = network(torch.rand(2, 3, side, 2 * side))
        assert logits.shape == (2, 5, side, 2 * side) and not logits.any()


def test_the_features_are_neither_saved_nor_trained() -> None:
    network = SegmentationConfig(areas=5, width=8).build()
    assert not [name for name in network.state_dict() if name.startswith("features")]
    before = network.features(torch.ones(1, 3, 64, 64))[0].clone()
    with torch.no_grad():
        network.out.weight.normal_()
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert torch.equal(network.features(torch.ones(1, 3, 64, 64))[0], before)


def test_it_learns_where_a_square_is() -> None:
    torch.manual_seed(0)
    network = SegmentationConfig(areas=2, width=16, dropout=0.0).build()
    x, y = torch.zeros(4, 3, 32, 32), torch.zeros(4, 32, 32, dtype=torch.long)
    for k in range(4):
        x[k, :, 4 * k : 4 * k + 12, 8:20], y[k, 4 * k : 4 * k + 12, 8:20] = 1.0, 1
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    assert (network.eval()(x).argmax(1) == y).float().mean() > 0.97


def test_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8, got \\(20, 32\\)"):
        SegmentationConfig().build()(torch.zeros(1, 3, 20, 32))
    with pytest.raises(ValueError, match="areas"):
        SegmentationConfig(areas=0)
    with pytest.raises(ValueError, match="dropout must lie"):
        SegmentationConfig(dropout=1.0)
