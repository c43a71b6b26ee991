"""diffusers' networks of the same layout as ours, for timings (here) and for equal numbers (tests/golden)."""

from __future__ import annotations

from diffusers import AutoencoderKL, UNet2DConditionModel

from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.nn.unet import UNetConfig


def their_unet(config: UNetConfig) -> UNet2DConditionModel:
    """Their UNet; what they call `attention_head_dim` is the number of heads."""
    kinds = ["CrossAttn" if a else "" for a in config.attention]
    return UNet2DConditionModel(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=config.widths,
        layers_per_block=config.blocks,
        down_block_types=tuple(f"{k}DownBlock2D" for k in kinds),
        up_block_types=tuple(f"{k}UpBlock2D" for k in kinds[::-1]),
        attention_head_dim=tuple(config.heads_at(w) for w in config.widths),
        cross_attention_dim=config.context_width or config.widths,
        transformer_layers_per_block=config.depth,
        class_embed_type=None if config.vector_width is None else "projection",
        projection_class_embeddings_input_dim=config.vector_width,
    )


def their_autoencoder(config: EncoderDecoderConfig) -> AutoencoderKL:
    """Their KL autoencoder."""
    kinds = ["Attn" if i in config.attention_levels else "" for i in range(len(config.widths))]
    return AutoencoderKL(
        block_out_channels=config.widths,
        layers_per_block=config.blocks,
        latent_channels=config.z_channels,
        down_block_types=tuple(f"{k}DownEncoderBlock2D" for k in kinds),
        up_block_types=tuple(f"{k}UpDecoderBlock2D" for k in kinds[::-1]),
        mid_block_add_attention=config.mid_attention,
    )
