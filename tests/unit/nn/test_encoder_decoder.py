"""Shapes, attention and limits of encoder and decoder; parameter counts are in tests/unit/autoencoder."""

from __future__ import annotations

import pytest
import torch

from calotype.nn.encoder_decoder import Decoder, Encoder, EncoderDecoderConfig, SelfAttention

SMALL = EncoderDecoderConfig(channels=8, multipliers=(1, 2, 3), blocks=1, z_channels=5, attention_levels=(1,))


def test_shapes() -> None:
    encoder, decoder = Encoder(SMALL, 10), Decoder(SMALL)
    h = encoder(torch.randn(2, 3, 16, 24))
    assert h.shape == (2, 10, 4, 6)
    assert decoder(torch.randn(2, 5, 4, 6)).shape == (2, 3, 16, 24)
    assert decoder.last_weight is decoder.conv_out.weight


def test_attention_sits_where_the_config_says() -> None:
    def levels(half: Encoder | Decoder) -> list[bool]:
        return [isinstance(level.attentions[0], SelfAttention) for level in half.levels]

    encoder, decoder = Encoder(SMALL, 10), Decoder(SMALL)
    assert levels(encoder) == levels(decoder) == [False, True, False]
    assert isinstance(encoder.middle.attention, SelfAttention)
    bare = Encoder(EncoderDecoderConfig(channels=8, multipliers=(1, 2), mid_attention=False), 8)
    assert not any(isinstance(m, SelfAttention) for m in bare.modules())


def test_self_attention_against_its_formula() -> None:
    torch.manual_seed(0)
    layer, x = SelfAttention(8).double(), torch.randn(2, 8, 3, 4, dtype=torch.float64)
    h = layer.norm(x).flatten(2)  # (B, C, N)
    q, k, v = (
        torch.einsum("dc,bcn->bdn", f.weight[:, :, 0, 0], h) + f.bias[:, None]
        for f in (layer.query, layer.key, layer.value)
    )
    weights = (torch.einsum("bcn,bcm->bnm", q, k) / 8**0.5).softmax(-1)
    expected = x + layer.out(torch.einsum("bnm,bcm->bcn", weights, v).view_as(x))
    assert torch.allclose(layer(x), expected, atol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 0},
        {"channels": 10**9},
        {"multipliers": ()},
        {"multipliers": (1, 0)},
        {"multipliers": (1,) * 30},
        {"multipliers": (10**6,)},
        {"blocks": 0},
        {"z_channels": 0},
        {"image_channels": -3},
        {"attention_levels": (4,)},
    ],
)
def test_sizes_out_of_bounds(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        EncoderDecoderConfig(**change)  # type: ignore[arg-type]
