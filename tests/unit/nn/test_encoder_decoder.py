"""Parameter counts of the released autoencoders, and shapes."""

from __future__ import annotations

import pytest
import torch

from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.nn.encoder_decoder import Decoder, Encoder, EncoderDecoderConfig, SelfAttention

F4 = EncoderDecoderConfig(multipliers=(1, 2, 4), z_channels=3)
F16 = (1, 1, 2, 2, 4)

# name: (layout, encoder, decoder, all); attention at 16 and 8 pixels of 256.
KL = {
    "kl-f4": (F4, 22_351_238, 32_960_771, 55_312_063),
    "kl-f8": (EncoderDecoderConfig(), 34_163_592, 49_490_179, 83_653_863),
    "kl-f16": (
        EncoderDecoderConfig(multipliers=F16, z_channels=16, attention_levels=(4,)),
        28_265_760,
        41_343_875,
        69_610_963,
    ),
    "kl-f32": (
        EncoderDecoderConfig(multipliers=(*F16, 4), z_channels=64, attention_levels=(4, 5)),
        42_614_656,
        61_244_803,
        103_880_131,
    ),
}
# name: (layout, codebook entries, all)
VQ = {
    "vq-f4": (F4, 8192, 55_322_782),
    "vq-f4-noattn": (EncoderDecoderConfig(multipliers=(1, 2, 4), z_channels=3, mid_attention=False), 8192, 53_219_486),
    "vq-f8": (EncoderDecoderConfig(multipliers=(1, 2, 2, 4), attention_levels=(3,)), 16384, 67_717_295),
    "vq-f8-n256": (EncoderDecoderConfig(multipliers=(1, 2, 2, 4), attention_levels=(3,)), 256, 67_652_783),
    "vq-f16": (EncoderDecoderConfig(multipliers=F16, z_channels=8, attention_levels=(4,)), 16384, 69_593_371),
    "vqgan-f16": (EncoderDecoderConfig(multipliers=F16, z_channels=256, attention_levels=(4,)), 1024, 72_141_699),
}


def count(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for m in modules for p in m.parameters())


@pytest.mark.parametrize("name", KL)
def test_parameter_count_kl(name: str) -> None:
    network, encoder, decoder, everything = KL[name]
    with torch.device("meta"):
        model = LatentAutoencoderConfig(network.z_channels, network).build()
    assert (count(model.encoder), count(model.decoder), count(model)) == (encoder, decoder, everything)
    assert model.factor == network.factor == int(name.partition("-f")[2])


@pytest.mark.parametrize("name", VQ)
def test_parameter_count_vq(name: str) -> None:
    """Encoder and decoder of the layout; the two 1x1 convolutions and the codebook are added by hand."""
    network, entries, everything = VQ[name]
    z = network.z_channels
    with torch.device("meta"):
        halves = count(Encoder(network, z), Decoder(network))
    assert halves + 2 * (z * z + z) + entries * z == everything


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
