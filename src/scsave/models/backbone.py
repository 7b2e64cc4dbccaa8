"""Options of the config group `backbone`: how wide and deep the three networks are, and what mixes their tokens."""

from dataclasses import dataclass
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from scsave.errors import UserError
from scsave.models.networks import Attention


@dataclass(kw_only=True)
class AttentionBackbone:
    """Gene block attention in encoder, decoder and velocity network (the paper's model)."""

    width: PositiveInt = 256  # e
    depth: PositiveInt = 4
    heads: PositiveInt = 8
    latent_width: PositiveInt = 16  # d, a block
    velocity_width: PositiveInt = 256
    velocity_depth: PositiveInt = 6
    velocity: Literal["attention", "mlp"] = "attention"  # the field: over block tokens, or over the whole latent
    condition_width: PositiveInt = 64  # of time and conditions, where the field is an MLP
    projection: Literal["per_block", "shared"] = "per_block"
    additive_prior: bool = True  # sets of genes: a shift additive over the genes, in the decoder and in the flow
    level_shift: bool = True  # each level of the decoder's conditions shifts each gene, beside adaptive LayerNorm
    head_width: PositiveInt = 256
    head_size: PositiveInt = 30  # numbers of its code
    head_components: NonNegativeInt = 50  # of corrected expression, beside the code in the embedding
    told: list[str] | None = None  # columns that the decoder is given; null: the technical ones (data.nuisance)

    def __post_init__(self):
        for field in ("width", "velocity_width"):
            if getattr(self, field) % self.heads:
                raise UserError(f"backbone.{field}={getattr(self, field)} is not a multiple of heads={self.heads}")

    def mixing(self, n_tokens: int, width: int) -> nn.Module:
        return Attention(width, self.heads)


class MLPMixing(nn.Module):
    """The ablation: tokens mixed by a dense bottleneck with as many parameters as attention (4 e^2 + 4 e)."""

    def __init__(self, n_tokens: int, width: int):
        super().__init__()
        flat = n_tokens * width
        hidden = max(1, round((4 * width**2 + 4 * width - flat) / (2 * flat + 1)))
        self.net = nn.Sequential(nn.Flatten(1), nn.Linear(flat, hidden), nn.SiLU(), nn.Linear(hidden, flat))

    def forward(self, h: Tensor) -> Tensor:
        return self.net(h).view_as(h)  # (N, L, e)


@dataclass(kw_only=True)
class MLPBackbone(AttentionBackbone):
    """The same networks with attention replaced by a dense mixing of equal size (the ablation)."""

    def mixing(self, n_tokens: int, width: int) -> nn.Module:
        return MLPMixing(n_tokens, width)
