"""In one process the house's batch normalisation is torch's, to the bit; for two ranks see `test_ranks.py`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from calotype.nn.batch_norm import BatchNorm2d
from calotype.nn.discriminator import PatchDiscriminatorConfig


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_process_is_torch(dtype: torch.dtype) -> None:
    ours, theirs = BatchNorm2d(4).to(dtype), nn.BatchNorm2d(4).to(dtype)
    theirs.load_state_dict(ours.state_dict())  # the same names and shapes
    g = torch.Generator().manual_seed(0)
    for _ in range(3):
        x = torch.randn(3, 4, 5, 6, generator=g).to(dtype)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, z = ours(a), theirs(b)
        y.square().sum().backward()
        z.square().sum().backward()
        assert torch.equal(y, z) and torch.equal(a.grad, b.grad)
    assert all(torch.equal(ours.state_dict()[k], v) for k, v in theirs.state_dict().items())
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_the_discriminator_has_no_other() -> None:
    norms = [m for m in PatchDiscriminatorConfig(channels=2).build().modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 3 and all(type(m) is BatchNorm2d for m in norms)
