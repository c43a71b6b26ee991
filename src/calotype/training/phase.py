"""One optimizer's share of a task: module, optimizer, average, and their place in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from calotype import ranks
from calotype.errors import UserError
from calotype.files import load_state
from calotype.training.ema import EMA
from calotype.training.optim import OptimizerConfig
from calotype.training.spikes import Spikes


class Phase:
    """What the trainer does with the losses of one phase.

    Args:
        name: the phase.
        module: what it trains, and what a checkpoint holds of it.
        config: its optimizer.
        ema_decay: decay of the average of its weights; None = no average.
    """

    def __init__(self, name: str, module: nn.Module, config: OptimizerConfig, ema_decay: float | None) -> None:
        self.name, self.module, self.config = name, module, config
        named = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._names = list(named)
        self.parameters = list(named.values())
        self.optimizer = config.build(self.parameters)
        self.ema = None if ema_decay is None else EMA(module, ema_decay)
        self.spikes = None if config.spikes is None else Spikes(config.spikes)
        self._buffers = [b for b in module.buffers() if b.numel()]
        self._backup = [b.detach().clone() for b in self._buffers]

    def backward(self, loss: Tensor) -> Tensor:
        """Fill the gradients of this phase's parameters, averaged over ranks, and of no others.

        Returns:
            the gradient's Euclidean norm over all parameters, a scalar; NaN if the loss is not finite. The same on
            every rank, so that all clip, step or skip alike.
        """
        for p in self.parameters:
            p.grad = None
        torch.autograd.backward(loss, inputs=self.parameters)
        value = loss.detach().clone()
        ranks.average([*self._gradients(), value])
        norms = torch._foreach_norm(self._gradients())
        # One scalar answers both questions, so that a GPU is asked once per phase.
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms)) + 0.0 * value
        return norm

    @torch.no_grad()
    def step(self, norm: float, rate: float) -> None:
        """Clip the gradients, whose length is `norm`, and step with learning rate `rate`; then move the average."""
        clip = self.config.clip_norm
        if clip is not None and norm > clip:
            torch._foreach_mul_(self._gradients(), clip / norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()

    def remember_buffers(self) -> None:
        """Keep running statistics, in case the coming step must be undone."""
        if self._buffers:
            torch._foreach_copy_(self._backup, self._buffers)

    @torch.no_grad()
    def restore_buffers(self) -> None:
        """Take running statistics back to `remember_buffers`: a bad batch must not poison them."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._backup)

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.parameters if p.grad is not None]

    # --- checkpoints ---

    def files(self) -> dict[str, dict[str, Tensor]]:
        """The tensors to store, by file and by "phase/name"; not copies."""
        optimizer = {
            f"{self.name}/{name}/{key}": value
            for name, p in zip(self._names, self.parameters, strict=True)
            for key, value in self.optimizer.state.get(p, {}).items()
        }
        return {
            "weights": {f"{self.name}/{k}": v for k, v in self.module.state_dict().items()},
            "ema": {f"{self.name}/{k}": v for k, v in self.ema.tensors().items()} if self.ema else {},
            "optimizer": optimizer,
        }

    def state(self) -> dict[str, Any]:
        """The numbers to store beside the tensors."""
        return {
            "ema_updates": self.ema.updates if self.ema else 0,
            "spikes": self.spikes.state() if self.spikes else None,
        }

    def restore(self, files: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], where: str) -> None:
        """Take everything from a checkpoint; raises `UserError` if it does not fit."""
        load_state(self.module, dict(self._own(files["weights"])), where)
        if self.ema is not None:
            self.ema.restore(dict(self._own(files["ema"])), int(state["ema_updates"]))
        if self.spikes is not None and state["spikes"] is not None:
            self.spikes.restore(state["spikes"])
        stored: dict[str, dict[str, Tensor]] = {}
        for name, value in self._own(files["optimizer"]):
            parameter, _, key = name.rpartition("/")
            stored.setdefault(parameter, {})[key] = value
        for name in stored:
            if name not in self._names:
                raise UserError(f"{where} has optimizer state for {name}, which the configured network lacks")
        self.optimizer.state.clear()
        for name, p in zip(self._names, self.parameters, strict=True):
            if name in stored:
                self.optimizer.state[p] = {key: _like(p, value) for key, value in stored[name].items()}

    def _own(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        prefix = f"{self.name}/"
        return ((k[len(prefix) :], v) for k, v in tensors.items() if k.startswith(prefix))


def _like(p: Tensor, value: Tensor) -> Tensor:
    """`value` on the device of p and, where shapes agree, in its memory layout, which the fused optimizer relies on."""
    if value.shape != p.shape:
        return value.to(p.device, copy=True)
    return torch.empty_like(p, dtype=value.dtype, requires_grad=False).copy_(value)


class Phases(dict[str, Phase]):
    """All phases of a task, by name."""

    def __init__(self, phases: Iterable[Phase]) -> None:
        super().__init__((phase.name, phase) for phase in phases)

    def train(self) -> None:
        """Every module in training mode."""
        for phase in self.values():
            phase.module.train()

    def remember_buffers(self) -> None:
        """Of every phase."""
        for phase in self.values():
            phase.remember_buffers()

    def restore_buffers(self) -> None:
        """Of every phase."""
        for phase in self.values():
            phase.restore_buffers()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block modules hold averaged weights, in evaluation mode; afterwards all is as before."""
        modules = [m for phase in self.values() for m in phase.module.modules()]
        modes = [m.training for m in modules]
        with ExitStack() as stack:
            for phase in self.values():
                phase.module.eval()
                if phase.ema is not None:
                    stack.enter_context(phase.ema.applied())
            try:
                yield
            finally:
                for module, mode in zip(modules, modes, strict=True):
                    module.training = mode

    def files(self) -> dict[str, dict[str, Tensor]]:
        """The tensors to store, of all phases."""
        out: dict[str, dict[str, Tensor]] = {}
        for phase in self.values():
            for file, tensors in phase.files().items():
                out.setdefault(file, {}).update(tensors)
        return out

    def state(self) -> dict[str, dict[str, Any]]:
        """The numbers to store, by phase."""
        return {name: phase.state() for name, phase in self.items()}

    def restore(self, files: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], where: str) -> None:
        """Take everything from a checkpoint; raises `UserError` if it does not fit."""
        for name, phase in self.items():
            phase.restore(files, state[name], where)
