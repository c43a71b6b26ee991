"""What the denoising networks have in common: a config by name, an embedding of time and vector, a stem, a pyramid.

    F = leave( body( enter([x_t, spatial]),  emb,  tokens ) ),    emb = MLP(time) + MLP(vector)

Every network takes the same inputs, so that any of them serves any latent and any condition; they differ in the body.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype.condition import Condition
from calotype.errors import UserError
from calotype.nn.layers import group_norm, timestep_embedding
from calotype.nn.sizes import LEVELS, WIDEST, PerLevel, at_level, check_per_level, check_sizes, check_widths
from calotype.nn.stem import Convolution, Stem
from calotype.registry import Registry


@dataclass(frozen=True)
class NetworkConfig(ABC):
    """What every network is told. Level i works on maps that are stem.factor 2^i times smaller than the input.

    Args:
        in_channels, out_channels: of the latent, spatial conditions included in the first.
        channels: width of the outermost level.
        multipliers: width of level i is channels * multipliers[i].
        head_width: channels per attention head, one number for all levels or one each; wider levels have more heads.
        heads: heads of an attention, `head_width` aside, as in Stable Diffusion 1 (8); one number for all levels or one
            each; None = by `head_width`.
        context_width: width of the tokens it reads, or None.
        vector_width: width of the vector condition, or None.
        vector_mlp: whether the vector goes through an MLP of its own before it is added to the time's; False = it is
            added as it is, as Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, do with an embedding per class.
        time_width: sines and cosines that the time comes as; the embedding is four times as wide; None = channels.
        dropout: in residual blocks and feed-forward layers, where `dropout_from` allows it.
        dropout_from: only on maps at least this many times smaller than the input; 1 = everywhere. Hoogeboom et al.
            2023, https://arxiv.org/abs/2301.11093, section 3.2, find it of use at low resolutions alone.
        zero_init: residual branches start at zero, as in the released networks. It steadies long runs of deep networks;
            short runs of shallow ones learn faster without it.
        stem: the first and the last layer; it may make maps smaller at once.

    Raises:
        ValueError: a size out of bounds, heads that do not divide a width, dropout that would act nowhere.
        UserError: a vector that is not as wide as the embedding that it is to be added to.
    """

    in_channels: int = 4
    out_channels: int = 4
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4)
    head_width: PerLevel = field(default=32, kw_only=True)
    heads: PerLevel | None = field(default=None, kw_only=True)
    context_width: int | None = field(default=None, kw_only=True)
    vector_width: int | None = field(default=None, kw_only=True)
    vector_mlp: bool = field(default=True, kw_only=True)
    time_width: int | None = field(default=None, kw_only=True)
    dropout: float = field(default=0.0, kw_only=True)
    dropout_from: int = field(default=1, kw_only=True)
    zero_init: bool = field(default=True, kw_only=True)
    stem: Stem = field(default_factory=Convolution, kw_only=True)

    def __post_init__(self) -> None:
        check_widths(self.channels, self.multipliers)
        check_sizes(
            in_channels=(self.in_channels, WIDEST),
            out_channels=(self.out_channels, WIDEST),
            context_width=(self.context_width, 2 * WIDEST),
            vector_width=(self.vector_width, 2 * WIDEST),
            time_width=(self.time_width, WIDEST),
            dropout_from=(self.dropout_from, 16 * 2**LEVELS),
        )
        check_per_level(len(self.multipliers), head_width=(self.head_width, 1024), heads=(self.heads, 1024))
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.dropout and self.dropout_from > self.factor:
            raise ValueError(
                f"dropout_from must not exceed {self.factor}, how many times smaller than the input the smallest maps "
                f"are, got {self.dropout_from}"
            )
        if not self.vector_mlp and self.vector_width not in (None, self.embedding_width):
            raise UserError(
                f"a vector that is added as it is (network.vector_mlp=false) must be {self.embedding_width} wide, like "
                f"the time's embedding, got {self.vector_width}; give its conditioner that width, or take "
                "network.vector_mlp=true"
            )

    @property
    def time_channels(self) -> int:
        """Sines and cosines that the time comes as."""
        return self.time_width or self.channels

    @property
    def embedding_width(self) -> int:
        """Width of the embedding of time and vector."""
        return 4 * self.time_channels

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each level, outermost first."""
        return tuple(self.channels * m for m in self.multipliers)

    @property
    def factors(self) -> tuple[int, ...]:
        """How many times smaller than the input the maps of each level are."""
        return tuple(self.stem.factor * 2**i for i in range(len(self.multipliers)))

    @property
    def factor(self) -> int:
        """What the input's sides must be multiples of."""
        return self.factors[-1]

    def heads_at(self, level: int) -> int:
        """Number of heads of an attention at a level."""
        if self.heads is not None:
            return at_level(self.heads, level)
        return max(1, self.widths[level] // at_level(self.head_width, level))

    def dropout_at(self, level: int) -> float:
        """The probability of dropout at a level."""
        return self.dropout if self.factors[level] >= self.dropout_from else 0.0

    def _check_heads(self, level: int) -> None:
        width = self.widths[level]
        name, of = ("head_width", self.head_width) if self.heads is None else ("heads", self.heads)
        if width % at_level(of, level):
            raise ValueError(f"{name} {at_level(of, level)} does not divide the width {width}")

    @abstractmethod
    def build(self) -> Network:
        """A fresh network."""

    @abstractmethod
    def narrower(self, side: int, widest: int) -> str | None:
        """What to change so that attention sees maps of at most `widest` a side where x is `side` wide, as KEY=VALUE
        words of a run's config; None if nothing has to be, or can be, changed."""


def perceptron(width: int, wide: int) -> nn.Sequential:
    """What time and vector go through: (B, width) -> (B, wide)."""
    return nn.Sequential(nn.Linear(width, wide), nn.SiLU(), nn.Linear(wide, wide))


networks: Registry[NetworkConfig] = Registry("network", "calotype.nn")


class Network(nn.Module, ABC):
    """(x_t, what the clock shows, condition) -> F of the latent's shape; zero at first, whatever it is given."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.time = perceptron(config.time_channels, config.embedding_width)
        self.vector: nn.Module | None = None
        if config.vector_width is not None:
            self.vector = (
                perceptron(config.vector_width, config.embedding_width) if config.vector_mlp else nn.Identity()
            )
        self.conv_in = config.stem.enter(config.in_channels, config.widths[0])
        self.norm = group_norm(config.widths[0], 1e-5)
        self.conv_out = config.stem.leave(config.widths[0], config.out_channels)

    @abstractmethod
    def body(self, h: Tensor, emb: Tensor, cond: Condition) -> Tensor:
        """Everything between the stem's two layers.

        h (B, widths[0], H / factors[0], W / factors[0]) -> the same shape; emb (B, embedding_width), through SiLU."""

    def forward(self, x: Tensor, time: Tensor, cond: Condition) -> Tensor:
        """x (B, C, H, W), time (B,) from 0 to 1000 -> (B, out_channels, H, W).

        Raises:
            ValueError: sides that cannot be halved often enough, or a condition that the network was not built for.
        """
        self._check(x, cond)
        emb = self.time(timestep_embedding(time, self.config.time_channels))
        if self.vector is not None and cond.vector is not None:
            emb = emb + self.vector(cond.vector)
        if cond.spatial is not None:
            x = torch.cat([x, cond.spatial.expand(-1, -1, *x.shape[2:])], 1)
        h = self.conv_in(x)
        h = self.body(h, F.silu(emb), cond)
        out: Tensor = self.conv_out(F.silu(self.norm(h)))
        return out

    def _check(self, x: Tensor, cond: Condition) -> None:
        config = self.config
        spatial = 0 if cond.spatial is None else cond.spatial.shape[1]
        if x.shape[1] + spatial != config.in_channels:
            raise ValueError(
                f"built for {config.in_channels} channels, got {x.shape[1]} of the latent and {spatial} of the "
                "spatial condition"
            )
        if cond.spatial is not None and cond.spatial.shape[2:] not in ((1, 1), x.shape[2:]):
            raise ValueError(
                f"a spatial condition must be as large as the latent, {tuple(x.shape[2:])}, or 1 x 1 where it is the "
                f"same everywhere, got {tuple(cond.spatial.shape[2:])}"
            )
        if x.shape[-1] % config.factor or x.shape[-2] % config.factor:
            raise ValueError(f"latent sides must be multiples of {config.factor}, got {tuple(x.shape[-2:])}")
        found = (cond.routes.tokens, cond.routes.vector)
        wanted = (config.context_width, config.vector_width)
        if found != wanted:
            raise ValueError(f"built for conditions of (token, vector) width {wanted}, got {found}")
