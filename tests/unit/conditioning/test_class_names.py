"""Classes by name and by number; as a token, and as a vector that scales and shifts channels."""

from __future__ import annotations

import pytest
import torch
from tests.condition_toys import Squares, Words, draw

from calotype.condition import Condition
from calotype.conditioning.class_label import ClassLabelConfig
from calotype.conditioning.class_names import ClassNamesConfig
from calotype.conditioning.class_vector import ClassVectorConfig
from calotype.errors import UserError
from calotype.nn.published import PUBLISHED
from calotype.nn.unet import UNetConfig

BOTH = [ClassLabelConfig(width=16), ClassVectorConfig(width=16)]


@pytest.mark.parametrize("config", BOTH)
def test_negative_label_is_null_and_names_work_like_numbers(config: ClassNamesConfig) -> None:
    member = config.fit(Words(), Squares())

    def rows(*labels: int | str) -> torch.Tensor:
        condition = member({"label": labels})
        return condition.vector if condition.tokens is None else condition.tokens[:, 0]

    null = member.null(1)
    assert torch.equal(rows(-1), null.vector if null.tokens is None else null.tokens[:, 0])
    assert torch.equal(rows("smileys", "People"), rows(1, 0)) and torch.equal(rows(1), member.embedding.weight[1:2])
    with pytest.raises(UserError, match=r"unknown class 'Smilies'; did you mean 'Smileys'"):
        rows("Smilies")
    for wrong in (7, -2):
        with pytest.raises(UserError, match=rf"class {wrong} is out of range; this model knows 0 \.\.\. 1"):
            rows(wrong)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"drop": 1.5}])
def test_sizes_that_cannot_be(wrong: dict[str, float]) -> None:
    for config in BOTH:
        with pytest.raises(ValueError):
            type(config)(**wrong)  # type: ignore[arg-type]


def test_a_class_as_a_vector_is_what_adm_adds_to_the_time() -> None:
    """Without an MLP of its own a row acts as a bias of the time's, through scale and shift of every block."""
    member = ClassVectorConfig(width=32).fit(Words(), Squares())
    config = UNetConfig(
        3,
        3,
        8,
        (1, 2),
        blocks=1,
        attention=(False, True),
        scale_shift=True,
        plain_attention=True,
        head_width=8,
        vector_width=32,
        vector_mlp=False,
    )
    torch.manual_seed(0)
    network = config.build().eval()
    for p in network.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.3)
    x, time = draw(2, 3, 8, 8), torch.tensor([5.0, 600.0])
    with torch.no_grad():
        told = network(x, time, member({"label": [1, 1]}))
        null = network(x, time, Condition(vector=torch.zeros(2, 32)))
        network.time[2].bias += member.embedding.weight[1]
        torch.testing.assert_close(network(x, time, Condition(vector=torch.zeros(2, 32))), told)
    assert not torch.allclose(told, null, atol=1e-3)


@pytest.mark.parametrize(("name", "parameters"), [("adm-64", 295_904_454), ("adm-256", 553_838_086)])
def test_adms_networks_with_their_table_of_classes(name: str, parameters: int) -> None:
    """As published, but for the row of "no class", which theirs has not."""
    config = PUBLISHED[name]
    assert config.vector_width is not None and config.vector_width == config.embedding_width
    with torch.device("meta"):
        member = ClassVectorConfig(config.vector_width).build([str(k) for k in range(1000)])
        total = sum(p.numel() for m in (member, config.build()) for p in m.parameters())
    assert total == parameters + config.vector_width
