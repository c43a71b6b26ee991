"""The tables that models were trained on, by their betas. Every one is built in float64 and cast last.

The same name means different tables elsewhere; what each is called by others is in its docstring.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.diffusion.curves.base import curves
from calotype.diffusion.curves.tabulated import Tabulated
from calotype.errors import UserError


def _check_table(name: str, beta_start: float, beta_end: float, steps: int) -> None:
    if not (0 < beta_start <= beta_end < 1 and 2 <= steps <= 100_000):
        raise UserError(
            f"{name} needs 0 < beta_start <= beta_end < 1 and 2 <= steps <= 100000, got {beta_start}, {beta_end} and "
            f"{steps}; correct the field that is out of range"
        )


@curves.register("linear")
@dataclass(frozen=True)
class Linear(Tabulated):
    """beta_i from beta_start to beta_end in equal steps: Ho et al. 2020, https://arxiv.org/abs/2006.11239, section 4.

    diffusers' "linear", CompVis' "sqrt_linear". For T other than 1000, ADM's "linear" multiplies both ends by 1000 / T.

    Raises:
        UserError: a beta outside (0, 1), or fewer than 2 steps.
    """

    beta_start: float = 1e-4
    beta_end: float = 0.02
    steps: int = 1000

    def __post_init__(self) -> None:
        _check_table("Linear", self.beta_start, self.beta_end, self.steps)

    def betas(self) -> Tensor:
        """(steps,) float64."""
        return torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)


@curves.register("scaled_linear")
@dataclass(frozen=True)
class ScaledLinear(Tabulated):
    """sqrt(beta_i) from sqrt(beta_start) to sqrt(beta_end) in equal steps: Rombach et al. 2022,
    https://arxiv.org/abs/2112.10752. diffusers' "scaled_linear", CompVis' "linear".

    The defaults are Stable Diffusion 1's; the paper's face models go from 0.0015 to 0.0195.

    Raises:
        UserError: a beta outside (0, 1), or fewer than 2 steps.
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps: int = 1000

    def __post_init__(self) -> None:
        _check_table("ScaledLinear", self.beta_start, self.beta_end, self.steps)

    def betas(self) -> Tensor:
        """(steps,) float64."""
        ends = math.sqrt(self.beta_start), math.sqrt(self.beta_end)
        return torch.linspace(*ends, self.steps, dtype=torch.float64) ** 2


@curves.register("sqrt")
@dataclass(frozen=True)
class Sqrt(Tabulated):
    """beta_i = sqrt(lerp(beta_start, beta_end)): CompVis' "sqrt", in the code of Rombach et al. 2022,
    https://arxiv.org/abs/2112.10752, with the default ends of that code.

    The ends are the squares of the first and the last beta, which go from 0.01 to 0.14: log-SNR comes down to -100,
    so a network that predicts eps has nothing to say over most of the table.

    Raises:
        UserError: an end outside (0, 1), or fewer than 2 steps.
    """

    beta_start: float = 1e-4
    beta_end: float = 0.02
    steps: int = 1000

    def __post_init__(self) -> None:
        _check_table("Sqrt", self.beta_start, self.beta_end, self.steps)

    def betas(self) -> Tensor:
        """(steps,) float64."""
        return torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64).sqrt()


@curves.register("beta_sigmoid")
@dataclass(frozen=True)
class BetaSigmoid(Tabulated):
    """beta_i = beta_start + (beta_end - beta_start) sigmoid(lerp(-6, 6)): Xu et al. 2022 (GeoDiff),
    https://arxiv.org/abs/2203.02923, as diffusers' "sigmoid" has it.

    A sigmoid of betas; the sigmoid of abar (Jabri et al., Chen) is `AbarSigmoid`.

    Raises:
        UserError: a beta outside (0, 1), or fewer than 2 steps.
    """

    beta_start: float = 1e-4
    beta_end: float = 0.02
    steps: int = 1000

    def __post_init__(self) -> None:
        _check_table("BetaSigmoid", self.beta_start, self.beta_end, self.steps)

    def betas(self) -> Tensor:
        """(steps,) float64."""
        ramp = torch.linspace(-6, 6, self.steps, dtype=torch.float64).sigmoid()
        return self.beta_start + (self.beta_end - self.beta_start) * ramp


@curves.register("cosine_table")
@dataclass(frozen=True)
class CosineTable(Tabulated):
    """beta_i = min(1 - abar((i + 1) / T) / abar(i / T), beta_max) with abar(t) = cos^2((t + s) / (1 + s) pi / 2):
    Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672, eq. (17). diffusers' "squaredcos_cap_v2".

    `Cosine` is the same idea in continuous time, without the offset s and with ends that can be chosen.

    Raises:
        UserError: offset not positive (beta_0 would vanish with T), beta_max outside (0, 1), or fewer than 2 steps.
    """

    offset: float = 0.008
    beta_max: float = 0.999
    steps: int = 1000

    def __post_init__(self) -> None:
        if not (0 < self.offset < math.inf and 0 < self.beta_max < 1 and 2 <= self.steps <= 100_000):
            raise UserError(
                "CosineTable needs offset > 0, 0 < beta_max < 1 and 2 <= steps <= 100000, got "
                f"{self.offset}, {self.beta_max} and {self.steps}; the paper's are 0.008, 0.999 and 1000 or 4000"
            )

    def betas(self) -> Tensor:
        """(steps,) float64."""
        t = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        abar = ((t + self.offset) / (1 + self.offset) * math.pi / 2).cos() ** 2
        return (1 - abar[1:] / abar[:-1]).clamp(max=self.beta_max)


@curves.register("betas")
@dataclass(frozen=True)
class Betas(Tabulated):
    """A table given number by number, as a foreign model's configuration may have it.

    Args:
        values: beta_0 ... beta_{T-1}.

    Raises:
        UserError: a beta outside (0, 1), or fewer than 2.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        wrong = [i for i, beta in enumerate(self.values) if not 0 < beta < 1]
        if wrong:
            raise UserError(
                f"betas must lie between 0 and 1, got {self.values[wrong[0]]} at index {wrong[0]}; a last beta of 1 "
                "(zero terminal SNR) is said by wrapping the table as it was before in ZeroTerminal"
            )
        if not 2 <= len(self.values) <= 100_000:
            raise UserError(f"a table needs 2 to 100000 betas, got {len(self.values)}; give all of them")

    def betas(self) -> Tensor:
        """(T,) float64."""
        return torch.tensor(self.values, dtype=torch.float64)
