"""Encoder and decoder of the perceptual autoencoder, isomorphic to Stable Diffusion's VAE.

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix E.1; Esser et al. 2021, table 7.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from calotype.nn.layers import Downsample, ResBlock, Upsample, group_norm
from calotype.nn.sizes import WIDEST, check_sizes, check_widths


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """Widths of both halves; the factor is 2^(levels - 1).

    Args:
        channels: width of the outermost level.
        multipliers: width of level i is channels * multipliers[i].
        blocks: residual blocks per level of the encoder; the decoder has one more.
        z_channels: channels between encoder and decoder.
        image_channels: 3 for RGB.
        attention_levels: levels with self-attention after every block.
        mid_attention: self-attention at the lowest level; False only in "noattn" models.

    Raises:
        ValueError: a size out of bounds, or attention at a level that does not exist.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    z_channels: int = 4
    image_channels: int = 3
    attention_levels: tuple[int, ...] = ()
    mid_attention: bool = True

    def __post_init__(self) -> None:
        check_widths(self.channels, self.multipliers)
        check_sizes(
            blocks=(self.blocks, 16), z_channels=(self.z_channels, WIDEST), image_channels=(self.image_channels, 64)
        )
        levels = range(len(self.multipliers))
        if any(level not in levels for level in self.attention_levels):
            raise ValueError(f"attention_levels must lie in 0 ... {len(levels) - 1}, got {self.attention_levels}")

    @property
    def factor(self) -> int:
        """How many times smaller the latent's sides are."""
        return int(2 ** (len(self.multipliers) - 1))

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each level, outermost first."""
        return tuple(self.channels * m for m in self.multipliers)


class SelfAttention(nn.Module):
    """x + proj(softmax(q k^T / sqrt(C)) v) over all positions, one head of full width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, 1e-6)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        h = self.norm(x)
        # Contiguous, or the CPU's kernel falls back to one that holds the scores of all pairs of positions.
        q, k, v = (f(h).flatten(2).transpose(1, 2)[:, None].contiguous() for f in (self.query, self.key, self.value))
        a = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(x.shape)
        out: Tensor = x + self.out(a)
        return out


class Level(nn.Module):
    """Residual blocks of one resolution, each perhaps followed by self-attention."""

    def __init__(self, incoming: int, channels: int, blocks: int, attention: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(incoming if i == 0 else channels, channels) for i in range(blocks))
        self.attentions = nn.ModuleList(SelfAttention(channels) if attention else nn.Identity() for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """(B, incoming, H, W) -> (B, channels, H, W)."""
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            x = attention(block(x))
        return x


class Middle(nn.Module):
    """Block, attention, block at the lowest resolution."""

    def __init__(self, channels: int, attention: bool) -> None:
        super().__init__()
        self.block1 = ResBlock(channels, channels)
        self.attention = SelfAttention(channels) if attention else nn.Identity()
        self.block2 = ResBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        out: Tensor = self.block2(self.attention(self.block1(x)))
        return out


class Encoder(nn.Module):
    """Image (B, 3, H, W) -> (B, out_channels, H / f, W / f)."""

    def __init__(self, config: EncoderDecoderConfig, out_channels: int) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.image_channels, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            Level(widths[max(0, i - 1)], w, config.blocks, i in config.attention_levels) for i, w in enumerate(widths)
        )
        self.downsamples = nn.ModuleList(Downsample(w, asymmetric=True) for w in widths[:-1])
        self.middle = Middle(widths[-1], config.mid_attention)
        self.norm = group_norm(widths[-1], 1e-6)
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.levels[0](self.conv_in(x))
        for downsample, level in zip(self.downsamples, self.levels[1:], strict=True):
            x = level(downsample(x))
        out: Tensor = self.conv_out(F.silu(self.norm(self.middle(x))))
        return out


class Decoder(nn.Module):
    """Latent (B, z_channels, h, w) -> image (B, 3, f h, f w)."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        widths = config.widths[::-1]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(config.z_channels, widths[0], 3, padding=1)
        self.middle = Middle(widths[0], config.mid_attention)
        self.levels = nn.ModuleList(
            Level(widths[max(0, i - 1)], w, config.blocks + 1, last - i in config.attention_levels)
            for i, w in enumerate(widths)
        )
        self.upsamples = nn.ModuleList(Upsample(w) for w in widths[:-1])
        self.norm = group_norm(widths[-1], 1e-6)
        self.conv_out = nn.Conv2d(widths[-1], config.image_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """See the class."""
        x = self.levels[0](self.middle(self.conv_in(z)))
        for upsample, level in zip(self.upsamples, self.levels[1:], strict=True):
            x = level(upsample(x))
        out: Tensor = self.conv_out(F.silu(self.norm(x)))
        return out

    @property
    def last_weight(self) -> Tensor:
        """The last convolution's weight, where the adaptive weight compares gradients."""
        weight: Tensor = self.conv_out.weight
        return weight
