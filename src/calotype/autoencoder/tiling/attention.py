"""Attention over all positions of a map, holding a few keys and queries at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from calotype.autoencoder.tiling.maps import Box, Map
from calotype.autoencoder.tiling.spool import Room, Spool

CHUNK = 1024
"""Queries and keys compared at once: their scores stay in a CPU core's cache."""


class Attended(Map):
    """softmax(q k^T / sqrt(C)) v, with the keys of the whole map.

    The softmax is kept running: with scores s of a few keys, m the largest score and d the sum so far,

        m' = max(m, max s)    d' = d e^(m - m') + sum e^(s - m')    a' = a e^(m - m') + e^(s - m') v    result a / d

    Milakov & Gimelshein 2018, https://arxiv.org/abs/1805.02867, algorithm 3; Rabe & Staats 2021,
    https://arxiv.org/abs/2112.05682.

    Args:
        queries: q, C channels.
        key_values: k and v, 2 C channels.
        room: whose tiles the keys are read in.
    """

    def __init__(self, queries: Map, key_values: Spool, room: Room) -> None:
        super().__init__(queries.height, queries.width)
        self._queries, self._key_values, self._room = queries, key_values, room

    def read(self, box: Box) -> Tensor:
        """The box, in the dtype of q; scores and sums are float32."""
        h = self._queries.read(box)
        with torch.autocast(h.device.type, enabled=False):
            q = _tokens(h) * h.shape[1] ** -0.5
            a, m, d = torch.zeros_like(q), q.new_full((len(q), 1), -torch.inf), q.new_zeros(len(q), 1)
            for some in self._room.boxes(self._key_values):
                for k_v in torch.split(_tokens(self._key_values.read(some)), CHUNK):
                    k, v = k_v.chunk(2, 1)
                    for start in range(0, len(q), CHUNK):
                        part = slice(start, start + CHUNK)
                        _attend(q[part], a[part], m[part], d[part], k, v)
            return a.div_(d).T.reshape(h.shape).to(h.dtype)


def _attend(q: Tensor, a: Tensor, m: Tensor, d: Tensor, k: Tensor, v: Tensor) -> None:
    """Let a (n, C), m and d (n, 1) of queries q (n, C) see some more keys k and values v, in place."""
    s = q @ k.T
    highest = torch.maximum(m, s.amax(1, keepdim=True))
    s.sub_(highest).exp_()
    shrunk = (m - highest).exp_()
    d.mul_(shrunk).add_(s.sum(1, keepdim=True))
    a.mul_(shrunk).addmm_(s, v)
    m.copy_(highest)


def _tokens(x: Tensor) -> Tensor:
    """(1, C, h, w) -> (h w, C) float32."""
    return x[0].movedim(0, -1).flatten(0, 1).float().contiguous()
