"""FLOPs against counting by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from calotype.training.throughput import Meter, count_flops, measure_matmul_rate

CPU = torch.device("cpu")


def test_linear_and_convolution_forward_and_backward():
    linear, x = nn.Linear(5, 7), torch.randn(3, 5, requires_grad=True)
    assert count_flops(lambda: linear(x)) == 2 * 3 * 5 * 7
    assert count_flops(lambda: linear(x).sum().backward()) == 3 * 2 * 3 * 5 * 7
    conv, image = nn.Conv2d(2, 4, 3, padding=1), torch.randn(1, 2, 8, 8)
    assert count_flops(lambda: conv(image)) == 2 * 2 * 4 * 9 * 64


def test_attention_on_the_cpu_is_counted():
    """Forward two products of 2 B H S^2 D; backward five, since it forms Q K^T again."""
    q = torch.randn(2, 3, 16, 8, requires_grad=True)
    product = 2 * 2 * 3 * 16 * 16 * 8
    assert count_flops(lambda: F.scaled_dot_product_attention(q, q, q)) == 2 * product
    assert count_flops(lambda: F.scaled_dot_product_attention(q, q, q).sum().backward()) == (2 + 5) * product


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
def test_onednn_linear_is_counted():
    x, w = torch.randn(3, 5), torch.randn(7, 5)
    try:
        flops = count_flops(lambda: torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], ""))
    except (AttributeError, RuntimeError, TypeError):
        pytest.skip("this build has another signature")
    assert flops == 2 * 3 * 5 * 7


def test_matmul_rate_is_plausible():
    rate = measure_matmul_rate(CPU, seconds=0.2)
    assert 1e8 < rate.fp32 < 1e14 and 1e7 < rate.bf16 < 1e15
    assert rate.of(torch.float32) == rate.fp32 and rate.of(torch.bfloat16) == rate.bf16


def test_meter_counts_each_kind_once():
    meter, asked = Meter(CPU, torch.float32, measure=False), []
    assert meter.share == meter.images_per_second == meter.recent() == 0.0
    meter._measure = True

    def count(flops):
        def ask():
            asked.append(flops)
            return flops

        return ask

    a, b = frozenset("a"), frozenset("ab")
    for kind, flops in ((a, 10), (a, 99), (b, 30), (b, 99)):
        meter.add(kind, 4, 0.5, count(flops))
    assert asked == [10, 30] and meter.flops == 80
    assert meter.images_per_second == 8.0 and meter.flops_per_second == 40.0 and meter.recent() == 8.0
