"""The text transformer: padding, positions, directions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from calotype.nn.text_transformer import Layer, TextTransformer, TextTransformerConfig

CONFIG = TextTransformerConfig(vocabulary=20, length=6, width=12, depth=2, heads=3)
IDS = torch.tensor([[3, 4, 5, 6, 0, 0], [7, 8, 0, 0, 0, 0]])
MASK = IDS > 0


@pytest.fixture
def network() -> TextTransformer:
    torch.manual_seed(0)
    return CONFIG.build().eval()


def test_padding_has_no_influence_on_real_tokens(network: TextTransformer) -> None:
    a = network(IDS, MASK)
    assert a.shape == (2, 6, 12)
    b = network(torch.where(MASK, IDS, 19), MASK)
    assert torch.equal(a[MASK], b[MASK])
    assert torch.allclose(network(IDS[1:, :2], MASK[1:, :2]), a[1:, :2], atol=1e-5)


def test_padding_gets_no_gradient_from_real_tokens(network: TextTransformer) -> None:
    network(IDS, MASK)[MASK].square().sum().backward()
    gradient = network.embedding.weight.grad
    assert gradient is not None and not gradient[0].any() and gradient[[3, 4, 5, 6, 7, 8]].any(1).all()
    assert network.positions.grad is not None and not network.positions.grad[4:].any()


def test_every_real_token_sees_every_other_and_its_position(network: TextTransformer) -> None:
    a = network(IDS, MASK)
    later = IDS.clone()
    later[0, 3] = 9
    assert not torch.isclose(network(later, MASK)[0, 0], a[0, 0], atol=1e-6).all()
    swapped = network(IDS[:1, [1, 0, 2, 3, 4, 5]], MASK[:1])
    assert not torch.allclose(swapped[0, [1, 0]], a[0, :2], atol=1e-6)


@pytest.mark.parametrize("head_width", [None, 5])
def test_layer_against_its_formula(head_width: int | None) -> None:
    torch.manual_seed(0)
    layer, x = Layer(12, 3, head_width).double(), torch.randn(2, 6, 12, dtype=torch.float64)
    d = head_width or 4
    q, k, v = (t.view(2, 6, 3, d) for t in (layer.norm1(x) @ layer.qkv.weight.T).chunk(3, -1))
    scores = torch.einsum("bnhd,blhd->bhnl", q, k) / d**0.5
    weights = scores.masked_fill(~MASK[:, None, None], -torch.inf).softmax(-1)
    h = x + layer.out(torch.einsum("bhnl,blhd->bnhd", weights, v).reshape(2, 6, 3 * d))
    expected = h + layer.down(F.gelu(layer.up(layer.norm2(h))))
    assert torch.allclose(layer(x, MASK[:, None, None]), expected, atol=1e-12)


def test_heads_as_wide_as_asked_for() -> None:
    """Then they need not share the width among them: 8 of 64 channels read states of 1280 in latent diffusion."""
    config = replace(CONFIG, heads=5, head_width=7)
    network = config.build()
    assert network.layers[0].qkv.weight.shape == (105, 12) and network.layers[0].out.weight.shape == (12, 35)
    assert network(IDS, MASK).isfinite().all()
    assert replace(CONFIG, head_width=4).build()(IDS, MASK).shape == (2, 6, 12)


def test_embeddings_are_as_large_as_asked_for() -> None:
    torch.manual_seed(0)
    for config, word, position in ((CONFIG, 1.0, 0.1), (replace(CONFIG, word_std=0.02, position_std=0.03), 0.02, 0.03)):
        network = replace(config, vocabulary=400, length=400).build()
        assert network.embedding.weight.std().item() == pytest.approx(word, rel=0.05)
        assert network.positions.std().item() == pytest.approx(position, rel=0.05)


def test_parameter_count(network: TextTransformer) -> None:
    """12 d^2 + 10 d per layer: q, k, v without bias, out and two feed-forward layers with, two norms; d = 12."""
    d = 12
    assert sum(p.numel() for p in network.parameters()) == 20 * d + 6 * d + 2 * (12 * d * d + 10 * d) + 2 * d


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        TextTransformerConfig(vocabulary=20, length=6, width=10, depth=1, heads=3)
