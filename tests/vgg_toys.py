"""VGG16 with random weights, as a file, and as torch's own layers."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from calotype.files import write_tensors

LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)
"""Configuration D of Simonyan & Zisserman 2015, table 1, up to the last tap."""


def sequential(tensors: Mapping[str, Tensor] | None = None) -> nn.Sequential:
    """Convolution, ReLU and pooling, numbered as in the published files; random if no tensors are given."""
    layers: list[nn.Module] = []
    incoming = 3
    for channels in LAYERS:
        if isinstance(channels, str):
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers += [nn.Conv2d(incoming, channels, 3, padding=1), nn.ReLU()]
        incoming = channels
    network = nn.Sequential(*layers).requires_grad_(False)
    if tensors is not None:
        network.load_state_dict({k.removeprefix("features."): v for k, v in tensors.items()})
        return network
    g = torch.Generator().manual_seed(0)
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            layer.weight.normal_(0.0, (2 / (9 * layer.in_channels)) ** 0.5, generator=g)
            layer.bias.normal_(0.0, 0.1, generator=g)
    return network


def random_weights(path: Path) -> Path:
    """Write a file of random weights whose activations neither die nor explode."""
    write_tensors(path, {f"features.{k}": v for k, v in sequential().state_dict().items()})
    return path
