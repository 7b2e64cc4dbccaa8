"""Condition columns to one vector: an embedding per column with a [MASK] row, joined by an MLP (method.md section 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scsave.data.conditions import MASKED_SET, Categorical, Column, Conditions, GeneSet, Numeric, Values
from scsave.models.layers import FourierEmbedding


class CategoricalEmbedding(nn.Module):
    """Table with one row a level; the last row is [MASK]."""

    def __init__(self, column: Categorical, width: int):
        super().__init__()
        self.table = nn.Embedding(len(column.levels) + 1, width)

    def forward(self, index: Tensor) -> Tensor:
        return self.table(index)  # (N, e)


class NumericEmbedding(nn.Module):
    """Fourier features and an MLP; NaN is [MASK]."""

    def __init__(self, column: Numeric, width: int):
        super().__init__()
        self.net = FourierEmbedding(width, n_frequencies=16, max_frequency=2.0)
        self.masked = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        masked = x.isnan()
        return torch.where(masked[:, None], self.masked, self.net(x.masked_fill(masked, 0.0)))  # (N, e)


class GeneSetEmbedding(nn.Module):
    """Sum over the set of `map(vector) + residual` (zero for genes unseen in training), plus a pairwise term.

    The empty set (control) is the zero vector; the dose of a set enters as its size.
    """

    def __init__(self, column: GeneSet, width: int, vectors: Tensor):
        super().__init__()
        # (genes + 1, d): the last row stands for "no gene" and stays zero
        self.register_buffer("vectors", torch.cat([vectors, torch.zeros_like(vectors[:1])]))
        # (genes + 1,) row of each gene's residual: 0, which stays zero, unless it was perturbed in training
        seen = torch.tensor([*column.seen, False])
        self.register_buffer("own", torch.where(seen, seen.cumsum(0), 0))
        self.map = nn.Sequential(nn.Linear(vectors.shape[1], width), nn.SiLU(), nn.Linear(width, width))
        self.residual = nn.Embedding(int(seen.sum()) + 1, width, padding_idx=0)
        self.pairwise = nn.Linear(width, width, bias=False)
        self.size = nn.Parameter(torch.zeros(width))
        self.masked = nn.Parameter(torch.randn(width))
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.pairwise.weight)

    def extend(self, vectors: Tensor) -> None:
        """Further genes, with vectors (n, d), that training had no place for: behind the others, without residual."""
        vectors = vectors.to(self.vectors)
        self.vectors = torch.cat([self.vectors[:-1], vectors, self.vectors[-1:]])
        self.own = torch.cat([self.own, self.own.new_zeros(len(vectors))])

    def forward(self, index: Tensor) -> Tensor:
        masked = index[:, 0] == MASKED_SET
        present = (index >= 0).to(self.vectors.dtype)[..., None]  # (N, S, 1)
        place = index.clamp(min=-1) % len(self.vectors)  # -1 becomes the zero row
        genes = (self.map(self.vectors[place]) + self.residual(self.own[place])) * present  # (N, S, e)
        total = genes.sum(1)  # (N, e)
        pairs = 0.5 * (total**2 - (genes**2).sum(1))  # (N, e): sum over unordered pairs, so order is free
        total = total + self.pairwise(pairs) + self.size * (present.sum(1) - 1).clamp(min=0)
        return torch.where(masked[:, None], self.masked, total)  # (N, e)


class SetShift(nn.Module):
    """A shift that is additive over the genes of a set, plus a pairwise term: the additive prediction is in the model.

    `W e(A)`, `e` of `GeneSetEmbedding`; W starts at zero, control (the empty set) and a masked set are not shifted.
    """

    def __init__(self, column: GeneSet, width: int, vectors: Tensor, out: int):
        super().__init__()
        self.column = column.name
        self.embedding = GeneSetEmbedding(column, width, vectors)
        self.out = nn.Linear(width, out, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, values: Values) -> Tensor:
        index = values[self.column]
        told = (index[:, :1] >= 0).to(self.out.weight.dtype)  # (N, 1)
        return self.out(self.embedding(index)) * told  # (N, out)


class LevelShift(nn.Module):
    """A shift of every gene for each level of the categorical columns, starting at zero; [MASK] has none.

    What a batch does to a gene, whatever the cell, then needs neither the decoder's width nor the latent.
    """

    def __init__(self, columns: list[Categorical], out: int):
        super().__init__()
        self.names = [column.name for column in columns]
        # [MASK], the last row, is padding: it stays zero
        self.tables = nn.ModuleList(
            nn.Embedding(len(column.levels) + 1, out, padding_idx=len(column.levels)) for column in columns
        )
        for table in self.tables:
            nn.init.zeros_(table.weight)

    def forward(self, values: Values) -> Tensor:
        return sum(table(values[name]) for name, table in zip(self.names, self.tables, strict=True))  # (N, out)


def level_shift(conditions: Conditions, out: int) -> LevelShift | None:
    """The shifts of the categorical columns among `conditions`; None where there is none."""
    columns = [column for column in conditions.columns if isinstance(column, Categorical)]
    return LevelShift(columns, out) if columns else None


def set_shift(conditions: Conditions, width: int, vectors: dict[str, Tensor] | None, out: int) -> SetShift | None:
    """The shift of the one gene-set column among `conditions`; None where there is none."""
    for column in conditions.columns:
        if isinstance(column, GeneSet):
            return SetShift(column, width, (vectors or {})[column.name], out)
    return None


class ConditionEncoder(nn.Module):
    """`s`, (N, e): what the decoder (told its columns) and the velocity network (told all) are conditioned on."""

    def __init__(self, conditions: Conditions, width: int, vectors: dict[str, Tensor] | None = None):
        super().__init__()
        self.conditions = conditions
        self.columns = nn.ModuleList([self._embedding(c, width, vectors or {}) for c in conditions.columns])
        self.join = nn.Sequential(
            nn.Linear(max(1, len(self.columns)) * width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.width = width

    @staticmethod
    def _embedding(column: Column, width: int, vectors: dict[str, Tensor]) -> nn.Module:
        if isinstance(column, GeneSet):
            return GeneSetEmbedding(column, width, vectors[column.name])
        return (CategoricalEmbedding if isinstance(column, Categorical) else NumericEmbedding)(column, width)

    def forward(self, values: Values, n: int) -> Tensor:
        columns = [
            embed(values[column.name]) for embed, column in zip(self.columns, self.conditions.columns, strict=True)
        ]
        s = torch.cat(columns, dim=-1) if columns else self.join[0].weight.new_zeros(n, self.width)  # (N, C * e)
        return self.join(s)  # (N, e)
