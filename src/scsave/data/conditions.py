"""Condition columns of `obs` as tensors: the vocabulary that a checkpoint carries (method.md section 4).

A masked entry is coded in the value itself: the index one past the last level for a category, NaN for a number,
-2 in the first place of a gene set. So a batch of conditions is one dict of tensors and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scsave.data.perturbations import parse
from scsave.data.settings import RESERVED
from scsave.errors import UserError, listed
from scsave.keys import MASK

Values = dict[str, Tensor]  # column -> (N,) long, (N,) float, or (N, S) long for gene sets
PAD, MASKED_SET = -1, -2
WIDE = 30  # times the least positive number: from there on doses are coded by their logarithm


@dataclass(frozen=True)
class Categorical:
    """A column with levels; unknown levels are refused."""

    name: str
    levels: tuple[str, ...]
    kind: str = "categorical"

    def encode(self, column: pd.Series) -> Tensor:
        text = column.astype(object).where(column.notna(), MASK).astype(str)
        index = pd.Index((*self.levels, MASK)).get_indexer(text)
        if (index < 0).any():
            unknown = listed(map(repr, sorted(set(column.astype(str)[index < 0]))), 5)
            known = listed(self.levels)
            raise UserError(f"condition {self.name}: the model knows no level {unknown}; it knows: {known}")
        return torch.from_numpy(index.astype(np.int64))  # (N,)

    def mask(self, values: Tensor, where: Tensor) -> Tensor:
        return values.masked_fill(where, len(self.levels))


@dataclass(frozen=True)
class Numeric:
    """A column of numbers (dose, age, time), standardised by the training cells, and the range that they had.

    With a `unit` the numbers are coded as `log1p(x / unit)`.
    """

    name: str
    mean: float
    std: float
    least: float = -math.inf
    most: float = math.inf
    unit: float | None = None
    kind: str = "numeric"

    @classmethod
    def fit(cls, name: str, column: pd.Series, spread: bool = False) -> Numeric:
        """Of the training cells' `column`; UserError where one is missing or infinite.

        `spread`: numbers from 0 on that differ by a factor of `WIDE` or more (doses) are coded by their logarithm.
        """
        values = column.to_numpy(np.float64)
        if (bad := ~np.isfinite(values)).any():
            raise UserError(
                f"condition {name} is missing or infinite in {bad.sum()} of {len(values)} training cells; "
                "leave those cells out"
            )
        least, most, unit = float(values.min()), float(values.max()), None
        if spread and least >= 0 and most > 0 and most >= WIDE * (smallest := float(values[values > 0].min())):
            unit, values = smallest, np.log1p(values / smallest)
        return cls(name, float(values.mean()), float(values.std()) or 1.0, least, most, unit)

    def numbers(self, column: pd.Series) -> np.ndarray:
        """The values as told, (N,) float64, NaN where masked; UserError for text and infinity."""
        asked = column.astype(object).where(column.astype(str) != MASK)
        numbers = pd.to_numeric(asked, errors="coerce").to_numpy(np.float64)
        bad = (np.isnan(numbers) & asked.notna().to_numpy()) | np.isinf(numbers)
        if bad.any():
            raise UserError(f"condition {self.name} is numeric, but holds {asked[bad].iloc[0]!r}; give a finite number")
        return numbers

    def encode(self, column: pd.Series) -> Tensor:
        numbers = self.numbers(column)
        if self.unit is not None:
            numbers = np.log1p(np.maximum(numbers, 0) / self.unit)
        numbers = numbers.astype(np.float32)
        return torch.from_numpy(((numbers - self.mean) / self.std).astype(np.float32))  # (N,)

    def outside(self, column: pd.Series) -> list[str]:
        """A warning where values lie outside the range of training, and one where they are missing."""
        numbers, found = self.numbers(column), []
        beyond = numbers[(numbers < self.least) | (numbers > self.most)]
        if len(beyond):
            far = beyond[np.maximum(beyond - self.most, self.least - beyond).argmax()]
            found.append(
                f"condition {self.name}={far:g} lies outside of what training had, {self.least:g} to {self.most:g} "
                f"({len(beyond)} of {len(numbers)} cells): what is made for it is extrapolated"
            )
        if lost := int((column.isna()).sum()):
            found.append(f"condition {self.name} is missing in {lost} of {len(numbers)} cells: it is taken as not told")
        return found

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
    """The condition columns that a model knows, in order."""

    columns: tuple[Column, ...] = field(default=())

    @classmethod
    def fit(
        cls,
        obs: pd.DataFrame,
        names: list[str],
        gene_sets: dict[str, GeneSet] | None = None,
        spread: list[str] | None = None,
    ) -> Conditions:
        """Vocabulary of the training cells' `obs`; `gene_sets` gives columns that are sets of genes, `spread` names doses.

        UserError for a column that is named twice, is not there, or bears a name that the package writes itself.
        """
        columns: list[Column] = []
        for name in names:
            if name in RESERVED or name not in obs or names.count(name) > 1:
                why = "is named twice" if names.count(name) > 1 else "is a name that scsave writes itself"
                why = why if name in obs or name in RESERVED else f"is no column of obs ({', '.join(map(str, obs))})"
                raise UserError(f"condition {name} {why}; name columns of obs, each once")
            if gene_sets and name in gene_sets:
                columns.append(gene_sets[name])
            elif pd.api.types.is_numeric_dtype(obs[name]) and not pd.api.types.is_bool_dtype(obs[name]):
                columns.append(Numeric.fit(name, obs[name], name in (spread or ())))
            else:
                columns.append(Categorical(name, tuple(sorted(obs[name].dropna().astype(str).unique()))))
        return cls(tuple(columns))

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def subset(self, names: list[str]) -> Conditions:
        return Conditions(tuple(column for column in self.columns if column.name in names))

    def knows(self, obs: pd.DataFrame) -> np.ndarray:
        """Cells whose level is in the vocabulary, or missing, in every categorical column, (N,) bool."""
        known = np.ones(len(obs), dtype=bool)
        for column in self.columns:
            if column.kind == "categorical":
                told = obs[column.name]
                known &= (told.astype(str).isin(column.levels) | told.isna()).to_numpy()
        return known

    def outside(self, obs: pd.DataFrame) -> list[str]:
        """Warnings, a sentence each, for numbers in `obs` that lie outside the range of the training cells."""
        numeric = [c for c in self.columns if c.kind == "numeric" and c.name in obs]
        return [warning for column in numeric for warning in column.outside(obs[column.name])]

    def encode(self, obs: pd.DataFrame) -> Values:
        """Tensors of the columns; a column that `obs` lacks is masked throughout. UserError on unknown levels."""
        absent = pd.Series([MASK] * len(obs), index=obs.index, dtype=object)
        return {c.name: c.encode(obs.get(c.name, absent)) for c in self.columns}

    def mask(self, values: Values, where: Tensor) -> Values:
        """Replace entries by [MASK] where `where` (N, C) is true."""
        return {c.name: c.mask(values[c.name], where[:, k]) for k, c in enumerate(self.columns)}

    def null(self, values: Values) -> Values:
        """Everything masked: the input of the unconditional field."""
        if not self.columns:
            return values
        first = values[self.columns[0].name]
        return self.mask(values, torch.ones(len(first), len(self.columns), dtype=torch.bool, device=first.device))

    def only(self, values: Values, *names: str) -> Values:
        """Everything masked but these columns: a term of per-condition guidance, or what the flow from cells is asked."""
        return self.null(values) | {name: values[name] for name in names}

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
