"""Block-wise projections between genes and tokens, and embeddings of numbers (method.md section 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class BlockLinear(nn.Module):
    """`(N, L, a) -> (N, L, b)`: one matrix per block, or one shared by all (the paper's literal formula)."""

    def __init__(self, n_blocks: int, n_in: int, n_out: int, shared: bool = False, scale: float = 1.0):
        super().__init__()
        rows = 1 if shared else n_blocks
        bound = scale / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(rows, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(rows, n_out))

    def forward(self, h: Tensor) -> Tensor:
        if len(self.weight) == 1:
            return h @ self.weight[0] + self.bias[0]  # (N, L, b)
        return torch.einsum("nla,lab->nlb", h, self.weight) + self.bias  # (N, L, b)


class FourierEmbedding(nn.Module):
    """A number as sines and cosines over fixed frequencies, then an MLP: time of the flow, dose, age."""

    def __init__(self, width: int, n_frequencies: int = 32, max_frequency: float = 64.0):
        super().__init__()
        steps = torch.linspace(0.0, 1.0, n_frequencies)
        self.register_buffer("frequencies", 0.25 * (4.0 * max_frequency) ** steps, persistent=False)
        self.net = nn.Sequential(nn.Linear(2 * n_frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        angle = x[:, None] * self.frequencies * math.pi  # (N, F)
        return self.net(torch.cat([angle.sin(), angle.cos()], dim=-1))  # (N, e)
