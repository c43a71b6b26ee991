"""The global generators survive JSON."""

from __future__ import annotations

import json
import random

import numpy as np
import torch

from calotype.training.random_state import random_state, seed_all, set_random_state, undisturbed


def draw() -> tuple[float, float, float, list[float]]:
    return random.gauss(0, 1), float(np.random.normal()), float(np.random.random()), torch.randn(3).tolist()


def test_round_trip():
    seed_all(3)
    draw()
    state = json.loads(json.dumps(random_state()))
    first = draw()
    assert draw() != first
    set_random_state(state)
    assert draw() == first
    seed_all(3)
    draw()
    assert draw() == first


def test_undisturbed():
    seed_all(4)
    with undisturbed():
        inside = draw()
    assert draw() == inside
