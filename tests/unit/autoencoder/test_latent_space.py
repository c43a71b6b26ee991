"""One changed number is another latent space."""

from __future__ import annotations

import pytest
import torch

from calotype.autoencoder.base import PixelSpace
from calotype.autoencoder.latent import LatentAutoencoder, LatentAutoencoderConfig
from calotype.autoencoder.latent_space import LatentSpace, weights_hash
from calotype.errors import UserError
from calotype.nn.encoder_decoder import EncoderDecoderConfig


def small(channels: int = 2, multipliers: tuple[int, ...] = (1, 1)) -> LatentAutoencoder:
    torch.manual_seed(0)
    network = EncoderDecoderConfig(channels=8, multipliers=multipliers, blocks=1, z_channels=2)
    return LatentAutoencoderConfig(channels=channels, network=network).build()


def test_the_same_weights_are_the_same_space_in_whatever_mode() -> None:
    autoencoder = small()
    space = LatentSpace.of(autoencoder)
    space.check(autoencoder.eval(), "model")
    again = small()
    again.load_state_dict(autoencoder.state_dict())
    space.check(again, "model")
    assert space == LatentSpace.of(again) and (space.channels, space.factor) == (2, 2)
    autoencoder.moments(torch.zeros(1, 3, 8, 8))
    assert LatentSpace.of(autoencoder) == space  # using it leaves no trace


@pytest.mark.parametrize("name", ["stats.std", "stats.mean", "decoder.conv_out.weight", "encoder.conv_in.bias"])
def test_every_number_counts(name: str) -> None:
    autoencoder = small()
    space = LatentSpace.of(autoencoder)
    value = autoencoder.state_dict()[name].view(-1)
    value[0] = torch.nextafter(value[0], torch.tensor(9.0))
    with pytest.raises(UserError, match=r"runs/x was trained with autoencoder .* weights or the statistics"):
        space.check(autoencoder, "runs/x")


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (small(channels=3), "was trained with channels 2, but its autoencoder has channels 3; put back"),
        (small(multipliers=(1, 1, 1)), "was trained with factor 2, but its autoencoder has factor 4; put back"),
        (PixelSpace(2), "was trained with factor 2, but its autoencoder has factor 1; put back"),
    ],
)
def test_what_does_not_fit_is_named(other: LatentAutoencoder, told: str) -> None:
    with pytest.raises(UserError, match=told):
        LatentSpace.of(small()).check(other, "runs/x")


def test_names_count_too() -> None:
    a, b = torch.nn.Module(), torch.nn.Module()
    a.register_buffer("x", torch.ones(2))
    b.register_buffer("y", torch.ones(2))
    assert weights_hash(a) != weights_hash(b)
