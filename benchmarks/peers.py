"""diffusers' networks of the same layout as ours, for timings (here) and for equal numbers (tests/golden)."""

from __future__ import annotations

from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel

from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.nn.unet import UNetConfig


def their_unet(config: UNetConfig) -> UNet2DConditionModel:
    """Their UNet; what they call `attention_head_dim` is the number of heads."""
    kinds = ["CrossAttn" if a else "" for a in config.attends]
    return UNet2DConditionModel(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=config.widths,
        layers_per_block=config.blocks,
        down_block_types=tuple(f"{k}DownBlock2D" for k in kinds),
        up_block_types=tuple(f"{k}UpBlock2D" for k in kinds[::-1]),
        attention_head_dim=tuple(config.heads_at(i) for i in range(len(config.widths))),
        cross_attention_dim=config.context_width or config.widths,
        transformer_layers_per_block=config.depth,
        use_linear_projection=config.linear_projections,
        resnet_time_scale_shift="scale_shift" if config.scale_shift else "default",
        class_embed_type=None if config.vector_width is None else "projection" if config.vector_mlp else "identity",
        projection_class_embeddings_input_dim=config.vector_width,
    )


def their_adm(config: UNetConfig, classes: int) -> UNet2DModel:
    """Their UNet without transformers, its table of classes included; their `attention_head_dim` is a width here."""
    down = ["AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in config.attends]
    up = ["AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in config.attends[::-1]]
    return UNet2DModel(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=config.widths,
        layers_per_block=config.blocks,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=config.head_width,
        attn_norm_num_groups=32,
        resnet_time_scale_shift="scale_shift" if config.scale_shift else "default",
        num_class_embeds=classes,
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
