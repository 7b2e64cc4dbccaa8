"""The variational autoencoder over gene blocks (method.md section 2): one token a block, a latent of width d a token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scsave.models.attention import Block, ConditionedBlock, Mixing
from scsave.models.layers import BlockLinear


class Encoder(nn.Module):
    """Padded scaled expression (N, L, K) to the mean and log variance of q(z | x), (N, L, d) each."""

    def __init__(
        self, n_blocks: int, block_size: int, width: int, depth: int, latent: int, mixing: Mixing, shared: bool
    ):
        super().__init__()
        self.project = BlockLinear(n_blocks, block_size, width, shared)
        self.block_embedding = nn.Parameter(torch.randn(n_blocks, width) * 0.02)
        self.blocks = nn.ModuleList([Block(n_blocks, width, mixing) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2 * latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.project(x) + self.block_embedding  # (N, L, e)
        for block in self.blocks:
            h = block(h)  # (N, L, e)
        mu, logvar = self.head(self.norm(h)).chunk(2, dim=-1)  # (N, L, d) each
        return mu, logvar.clamp(-10, 10)


class Decoder(nn.Module):
    """Latent (N, L, d) and condition (N, e) to the likelihood's numbers, padded: (N, L, K, n_outputs)."""

    def __init__(
        self,
        n_blocks: int,
        block_size: int,
        width: int,
        depth: int,
        latent: int,
        mixing: Mixing,
        shared: bool,
        n_outputs: int,
    ):
        super().__init__()
        self.n_outputs = n_outputs
        self.project = nn.Linear(latent, width)
        self.block_embedding = nn.Parameter(torch.randn(n_blocks, width) * 0.02)
        self.blocks = nn.ModuleList([ConditionedBlock(n_blocks, width, mixing) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        # small at the start: a cell begins as the average cell that the bias holds
        self.head = BlockLinear(n_blocks, width, block_size * n_outputs, shared, scale=0.1)

    def forward(self, z: Tensor, s: Tensor) -> Tensor:
        h = self.project(z) + self.block_embedding  # (N, L, e)
        for block in self.blocks:
            h = block(h, s)  # (N, L, e)
        return self.head(self.norm(h)).unflatten(-1, (-1, self.n_outputs))  # (N, L, K, n_outputs)


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z | x) || N(0, 1)), summed over the latent: (N,)."""
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).flatten(1).sum(-1)
