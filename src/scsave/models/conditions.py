"""Condition columns to one vector, each embedded with a [MASK], joined by an MLP (method.md section 4); and to shifts."""

import math

import torch
from torch import Tensor, nn

from scsave.data.conditions import MASKED_SET, Categorical, Column, Conditions, GeneSet, Numeric, Values

Vectors = dict[str, Tensor] | None  # gene-set column -> vectors of its genes (genes, q)


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


class CategoricalEmbedding(nn.Module):
    """A table with one row a level; the last row is [MASK]."""

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
        masked = x.isnan()  # (N,)
        return torch.where(masked[:, None], self.masked, self.net(x.masked_fill(masked, 0.0)))  # (N, e)


class GeneSetEmbedding(nn.Module):
    """Sum over the perturbed genes of `map(vector) + residual`, plus a pairwise term and one for the size of the set.

    A gene that was not perturbed in training has a vector and no residual; the empty set (control) is the zero vector.
    """

    def __init__(self, column: GeneSet, width: int, vectors: Tensor):
        super().__init__()
        # (genes + 1, q): the last row stands for "no gene" and stays zero
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
        """Append genes with vectors (n, q) that training had no place for; they have no residual."""
        vectors = vectors.to(self.vectors)
        self.vectors = torch.cat([self.vectors[:-1], vectors, self.vectors[-1:]])
        self.own = torch.cat([self.own, self.own.new_zeros(len(vectors))])

    def forward(self, index: Tensor) -> Tensor:
        masked = index[:, 0] == MASKED_SET  # (N,)
        present = (index >= 0).to(self.vectors.dtype)[..., None]  # (N, S, 1)
        place = index.clamp(min=-1) % len(self.vectors)  # (N, S): -1 becomes the zero row
        genes = (self.map(self.vectors[place]) + self.residual(self.own[place])) * present  # (N, S, e)
        total = genes.sum(1)  # (N, e)
        pairs = 0.5 * (total**2 - (genes**2).sum(1))  # (N, e): sum over unordered pairs, so that order is free
        total = total + self.pairwise(pairs) + self.size * (present.sum(1) - 1).clamp(min=0)  # (N, e)
        return torch.where(masked[:, None], self.masked, total)  # (N, e)


def column_embedding(column: Column, width: int, vectors: Vectors) -> nn.Module:
    if isinstance(column, GeneSet):
        return GeneSetEmbedding(column, width, (vectors or {})[column.name])
    return (CategoricalEmbedding if isinstance(column, Categorical) else NumericEmbedding)(column, width)


class ConditionEncoder(nn.Module):
    """An embedding for each condition column, joined by an MLP to the one vector `s` that adaLN takes."""

    def __init__(self, conditions: Conditions, width: int, vectors: Vectors = None):
        super().__init__()
        self.conditions, self.width = conditions, width
        self.columns = nn.ModuleList([column_embedding(c, width, vectors) for c in conditions.columns])
        joined = max(1, len(self.columns)) * width
        self.join = nn.Sequential(nn.Linear(joined, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, values: Values, n: int) -> Tensor:
        names = self.conditions.names
        columns = [embed(values[name]) for embed, name in zip(self.columns, names, strict=True)]  # (N, e) each
        s = torch.cat(columns, dim=-1) if columns else self.join[0].weight.new_zeros(n, self.width)  # (N, C * e)
        return self.join(s)  # (N, e)


class SetShift(nn.Module):
    """`W e(A)`, `e` as in `GeneSetEmbedding`: a shift additive over the genes of a set, plus its pairwise term (ours).

    The additive prediction is thus inside the model. W starts at zero; control and a masked set are not shifted.
    """

    def __init__(self, column: GeneSet, width: int, vectors: Tensor, out: int):
        super().__init__()
        self.column = column.name
        self.embedding = GeneSetEmbedding(column, width, vectors)
        self.out = nn.Linear(width, out, bias=False)
        nn.init.zeros_(self.out.weight)
        self.register_buffer("penalty", torch.zeros(2))  # that its fit chose (`scsave.training.set_shift`)

    def forward(self, values: Values) -> Tensor:
        index = values[self.column]  # (N, S)
        given = (index[:, :1] >= 0).to(self.out.weight.dtype)  # (N, 1)
        return self.out(self.embedding(index)) * given  # (N, out)


def set_shift(conditions: Conditions, width: int, vectors: Vectors, out: int) -> SetShift | None:
    """The shift of the one gene-set column among `conditions`; None where there is none."""
    for column in conditions.columns:
        if isinstance(column, GeneSet):
            return SetShift(column, width, (vectors or {})[column.name], out)
    return None


class LevelShift(nn.Module):
    """A shift of every gene for each level of the categorical columns, starting at zero; [MASK] has none (ours).

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
        first, *others = (table(values[name]) for name, table in zip(self.names, self.tables, strict=True))
        return sum(others, first)  # (N, out)


def level_shift(conditions: Conditions, out: int) -> LevelShift | None:
    """The shifts of the categorical columns among `conditions`; None where there is none."""
    columns = [column for column in conditions.columns if isinstance(column, Categorical)]
    return LevelShift(columns, out) if columns else None
