"""The velocity network v(x, t, s): a Transformer over the latent's block tokens and the library token (method.md 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scsave.data.conditions import Conditions, Values
from scsave.models.attention import ConditionedBlock, Mixing
from scsave.models.conditions import ConditionEncoder, set_shift
from scsave.models.layers import FourierEmbedding


class Velocity(nn.Module):
    """Flat latent (N, L * d + 1), time (N,), conditions -> velocity of the same shape.

    The last number of the latent is the standardised log library size: one more token, generated with the cell.

    With a set of genes among the conditions, `v(x, t, s) = u(x - t D(s), t, s) + D(s)`, D the `SetShift` of the set: the
    field of cells that the network u makes, moved by D. On the straight path of `cfm` and its kin that is exact, for
    every solver, so a u that does not look at the set gives the additive prediction (ours).
    """

    def __init__(
        self,
        n_blocks: int,
        latent: int,
        width: int,
        depth: int,
        mixing: Mixing,
        conditions: Conditions,
        vectors: dict[str, Tensor] | None = None,
        additive_prior: bool = True,
    ):
        super().__init__()
        self.shift = set_shift(conditions, width, vectors, n_blocks * latent + 1) if additive_prior else None
        self.shape = (n_blocks, latent)
        self.conditions = ConditionEncoder(conditions, width, vectors)
        self.time = FourierEmbedding(width)
        self.project = nn.Linear(latent, width)
        self.project_library = nn.Linear(1, width)
        self.token_embedding = nn.Parameter(torch.randn(n_blocks + 1, width) * 0.02)
        self.blocks = nn.ModuleList([ConditionedBlock(n_blocks + 1, width, mixing) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head, self.head_library = nn.Linear(width, latent), nn.Linear(width, 1)
        for head in (self.head, self.head_library):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, x: Tensor, t: Tensor, values: Values) -> Tensor:
        shift = None if self.shift is None else self.shift(values)  # (N, L * d + 1)
        x = x if shift is None else x - t[:, None] * shift
        s = self.conditions(values, len(x)) + self.time(t)  # (N, e)
        z, library = x[:, :-1].unflatten(1, self.shape), x[:, -1:]  # (N, L, d), (N, 1)
        h = torch.cat([self.project(z), self.project_library(library)[:, None]], dim=1)  # (N, L + 1, e)
        h = h + self.token_embedding
        for block in self.blocks:
            h = block(h, s)  # (N, L + 1, e)
        h = self.norm(h)
        v = torch.cat([self.head(h[:, :-1]).flatten(1), self.head_library(h[:, -1])], dim=-1)  # (N, L * d + 1)
        return v if shift is None else v + shift
