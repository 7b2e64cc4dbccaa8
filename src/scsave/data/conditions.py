"""Condition columns of `obs` as tensors: the vocabulary that a checkpoint carries (method.md section 4).

A masked entry is coded in the value itself: the index one past the last level for a category, NaN for a number,
-2 in the first place of a gene set. So a batch of conditions is one dict of tensors and nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scsave.data.perturbations import parse
from scsave.errors import UserError
from scsave.keys import MASK

Values = dict[str, Tensor]  # column -> (N,) long, (N,) float, or (N, S) long for gene sets
PAD, MASKED_SET = -1, -2


def _shorten(levels: tuple[str, ...], n: int = 12) -> str:
    return ", ".join(levels[:n]) + (f", ... ({len(levels)} in all)" if len(levels) > n else "")


@dataclass(frozen=True)
class Categorical:
    """A column with levels; unknown levels are refused."""

    name: str
    levels: tuple[str, ...]
    kind: str = "categorical"

    def encode(self, column: pd.Series) -> Tensor:
        index = pd.Index((*self.levels, MASK)).get_indexer(
            column.astype(object).where(column.notna(), MASK).astype(str)
        )
        if (index < 0).any():
            unknown = sorted(set(column.astype(str)[index < 0]))
            raise UserError(
                f"condition {self.name}: the model knows no level {', '.join(map(repr, unknown[:5]))}; "
                f"it knows: {_shorten(self.levels)}"
            )
        return torch.from_numpy(index.astype(np.int64))

    def mask(self, values: Tensor, where: Tensor) -> Tensor:
        return values.masked_fill(where, len(self.levels))


@dataclass(frozen=True)
class Numeric:
    """A column of numbers (dose, age, time), standardised by the training cells."""

    name: str
    mean: float
    std: float
    kind: str = "numeric"

    def encode(self, column: pd.Series) -> Tensor:
        numbers = pd.to_numeric(column.astype(object).where(column.astype(str) != MASK), errors="coerce")
        bad = numbers.isna() & column.notna() & (column.astype(str) != MASK)
        if bad.any():
            raise UserError(f"condition {self.name} is numeric, but holds {column[bad].iloc[0]!r}")
        return torch.from_numpy(((numbers.to_numpy(np.float32) - self.mean) / self.std).astype(np.float32))

    def mask(self, values: Tensor, where: Tensor) -> Tensor:
        return values.masked_fill(where, float("nan"))


@dataclass(frozen=True)
class GeneSet:
    """A genetic perturbation: a set of genes, in any spelling and order; the empty set is control."""

    name: str
    genes: tuple[str, ...]  # every gene with a place in the encoder
    seen: tuple[bool, ...]  # perturbed in training: has a learned residual
    control: str
    max_size: int = 2
    kind: str = "gene_set"

    def split(self, label: str) -> tuple[str, ...]:
        return parse(label, self.control)

    def encode(self, column: pd.Series) -> Tensor:
        place = {gene: i for i, gene in enumerate(self.genes)}
        labels = column.astype(object).where(column.notna(), MASK).astype(str)
        levels = labels.unique()
        width = max([self.max_size, *(len(self.split(level)) for level in levels if level != MASK)])
        rows = np.full((len(levels), width), PAD, dtype=np.int64)
        for row, level in zip(rows, levels, strict=True):
            if level == MASK:
                row[0] = MASKED_SET
                continue
            genes = self.split(level)
            if missing := [gene for gene in genes if gene not in place]:
                raise UserError(f"condition {self.name}: no gene vector for {', '.join(missing)} (in {level!r})")
            row[: len(genes)] = [place[gene] for gene in genes]
        return torch.from_numpy(rows[pd.Index(levels).get_indexer(labels)])

    def mask(self, values: Tensor, where: Tensor) -> Tensor:
        masked = torch.full_like(values, PAD)
        masked[:, 0] = MASKED_SET
        return torch.where(where[:, None], masked, values)


Column = Categorical | Numeric | GeneSet
_KINDS: dict[str, type] = {"categorical": Categorical, "numeric": Numeric, "gene_set": GeneSet}


@dataclass(frozen=True)
class Conditions:
    """The columns that a model is told, in order."""

    columns: tuple[Column, ...] = field(default=())

    @classmethod
    def fit(cls, obs: pd.DataFrame, names: list[str], gene_sets: dict[str, GeneSet] | None = None) -> Conditions:
        """Vocabulary of the training cells' `obs`; `gene_sets` gives columns that are sets of genes."""
        columns: list[Column] = []
        for name in names:
            if gene_sets and name in gene_sets:
                columns.append(gene_sets[name])
            elif pd.api.types.is_numeric_dtype(obs[name]) and not pd.api.types.is_bool_dtype(obs[name]):
                column = obs[name].to_numpy(np.float64)
                columns.append(Numeric(name, float(column.mean()), float(column.std()) or 1.0))
            else:
                columns.append(Categorical(name, tuple(sorted(obs[name].astype(str).unique()))))
        return cls(tuple(columns))

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def subset(self, names: list[str]) -> Conditions:
        return Conditions(tuple(column for column in self.columns if column.name in names))

    def knows(self, obs: pd.DataFrame) -> np.ndarray:
        """Cells whose level is in the vocabulary in every categorical column, (N,) bool."""
        known = np.ones(len(obs), dtype=bool)
        for column in self.columns:
            if column.kind == "categorical":
                known &= obs[column.name].astype(str).isin(column.levels).to_numpy()
        return known

    def encode(self, obs: pd.DataFrame) -> Values:
        """Tensors of the columns; a column that `obs` lacks is masked throughout. UserError on unknown levels."""
        absent = pd.Series([MASK] * len(obs), index=obs.index, dtype=object)
        return {c.name: c.encode(obs.get(c.name, absent)) for c in self.columns}

    def mask(self, values: Values, where: Tensor) -> Values:
        """Replace entries by [MASK] where `where` (N, C) is true."""
        return {c.name: c.mask(values[c.name], where[:, k]) for k, c in enumerate(self.columns)}

    def null(self, values: Values) -> Values:
        """Everything masked: what the unconditional field is told."""
        if not self.columns:
            return values
        first = values[self.columns[0].name]
        return self.mask(values, torch.ones(len(first), len(self.columns), dtype=torch.bool, device=first.device))

    def only(self, values: Values, name: str) -> Values:
        """Everything masked but one column: the term of per-condition guidance."""
        return self.null(values) | {name: values[name]}

    def to_list(self) -> list[dict[str, Any]]:
        return [{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(c).items()} for c in self.columns]

    @classmethod
    def from_list(cls, rows: list[dict[str, Any]]) -> Conditions:
        return cls(
            tuple(
                _KINDS[row["kind"]](**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
                for row in rows
            )
        )
