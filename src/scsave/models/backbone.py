"""Options of the config group `backbone`: how wide and deep the three networks are, and what mixes their tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from scsave.errors import UserError
from scsave.models.networks import Attention, MLPMixing

Positive = Annotated[int, Field(gt=0)]


@dataclass(kw_only=True)
class AttentionBackbone:
    """Gene block attention in encoder, decoder and velocity network (the paper's model)."""

    width: Positive = 256  # e
    depth: Positive = 4
    heads: Positive = 8
    latent_width: Positive = 16  # d, a block
    velocity_width: Positive = 256
    velocity_depth: Positive = 6
    projection: Literal["per_block", "shared"] = "per_block"
    additive_prior: bool = True  # sets of genes: a shift additive over the genes, in the decoder and in the flow
    level_shift: bool = False  # each level of the decoder's conditions shifts each gene, beside adaptive LayerNorm

    def __post_init__(self):
        for field in ("width", "velocity_width"):
            if getattr(self, field) % self.heads:
                raise UserError(f"backbone.{field}={getattr(self, field)} is not a multiple of heads={self.heads}")

    def mixing(self, n_tokens: int, width: int) -> nn.Module:
        return Attention(width, self.heads)


@dataclass(kw_only=True)
class MLPBackbone(AttentionBackbone):
    """The same networks with attention replaced by a dense mixing of equal size (the ablation)."""

    def mixing(self, n_tokens: int, width: int) -> nn.Module:
        return MLPMixing(n_tokens, width)
