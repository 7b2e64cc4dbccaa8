"""Cells as scorers take them: log1p expression in one order of genes, library sizes, combinations of conditions, PCA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.preprocess import variable_genes
from scsave.data.splits.strata import MAX_NUMERIC_LEVELS
from scsave.errors import UserError
from scsave.stats.pca import Projection, fit_pca
from scsave.stats.resample import subsample


def expression(cells: AnnData, what: str, genes: list[str] | None = None) -> sp.csr_matrix:
    """log1p expression of `cells`, CSR (N, G), in the order of `genes` (their own if not given).

    Raises UserError if genes are missing or too many, or a value is NaN or infinite; `what` names the cells in it.
    """
    if cells.X is None:
        raise UserError(f"{what}: X is empty, log1p expression is expected there")
    found, x = list(cells.var_names), sp.csr_matrix(cells.X)
    if genes is not None and found != list(genes):
        place = {gene: position for position, gene in enumerate(found)}
        missing, extra = [g for g in genes if g not in place], set(found) - set(genes)
        if missing or extra:
            raise UserError(
                f"{what}: genes differ from the real cells': {len(missing)} missing ({', '.join(missing[:3]) or '-'}), "
                f"{len(extra)} unknown ({', '.join(sorted(extra)[:3]) or '-'}); give the same {len(genes)} genes"
            )
        x = x[:, [place[gene] for gene in genes]]
    bad = ~np.isfinite(x.data)
    if bad.any():
        rows = np.unique(np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))[bad])
        raise UserError(f"{what}: X has {int(bad.sum())} values that are NaN or infinite, in {len(rows)} cells")
    return x


def check_columns(obs: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """UserError if one of `columns` is not in `obs`; `what` names the cells in it."""
    if absent := [column for column in columns if column not in obs]:
        raise UserError(f"{what}: no column {', '.join(absent)} in obs; columns: {', '.join(map(str, obs.columns))}")


def library_size(cells: AnnData, what: str) -> np.ndarray:
    """`obs["library_size"]`, (N,) float64; UserError if it is missing, negative or NaN."""
    check_columns(cells.obs, [keys.LIBRARY], what)
    size = cells.obs[keys.LIBRARY].to_numpy(np.float64)
    if not (np.isfinite(size) & (size >= 0)).all():
        raise UserError(f"{what}: {keys.LIBRARY} has negative, NaN or infinite values")
    return size


def grouping_columns(obs: pd.DataFrame, conditions: Sequence[str]) -> list[str]:
    """The conditions that make groups of cells: not a number with more than `MAX_NUMERIC_LEVELS` values in `obs`.

    Almost every cell would be a combination of its own under such a condition. Splits leave it out likewise.
    """
    return [
        name
        for name in conditions
        if name not in obs or not pd.api.types.is_numeric_dtype(obs[name]) or obs[name].nunique() <= MAX_NUMERIC_LEVELS
    ]


def combination_labels(obs: pd.DataFrame, columns: Sequence[str], what: str) -> np.ndarray:
    """One string per cell, (N,), such as "CD19+ B|G1"; numbers as in `f"{value:g}"`. "" without columns.

    Raises UserError if a column is not in `obs` or has missing values; `what` names the cells in it.
    """
    check_columns(obs, columns, what)
    labels = pd.Series([""] * len(obs), index=obs.index, dtype=object)
    for position, name in enumerate(columns):
        column = obs[name]
        if column.isna().any():
            raise UserError(f"{what}: column {name} has {int(column.isna().sum())} missing values")
        text = column.map("{:g}".format) if pd.api.types.is_float_dtype(column.dtype) else column.astype(str)
        labels = labels + ("|" if position else "") + text.astype(object)
    return labels.to_numpy(dtype=object)


@dataclass(frozen=True)
class Space:
    """Principal components in which cells are compared: those of the most variable genes of training cells."""

    variable: np.ndarray  # positions of the genes that the projection sees
    projection: Projection
    max_cells: int  # a larger sample is represented by a random subset
    seed: int

    @classmethod
    def fit(
        cls, train: AnnData, x: sp.csr_matrix, n_top_genes: int, n_components: int, seed: int, max_cells: int
    ) -> Space:
        """Variable genes and PCA of the training cells, whose expression is `x` (N, G)."""
        variable = most_variable(train, n_top_genes)
        return cls(variable, fit_pca(x[:, variable], n_components, seed), max_cells, seed)

    @property
    def info(self) -> dict[str, int]:
        sizes = {"variable_genes": len(self.variable), "components": int(self.projection.components.shape[1])}
        return sizes | {"max_cells": self.max_cells, "seed": self.seed}

    def capped(self, x: sp.csr_matrix) -> sp.csr_matrix:
        """Variable genes of at most `max_cells` of the cells `x` (N, G)."""
        return x[subsample(x.shape[0], self.max_cells, self.seed)][:, self.variable]

    def __call__(self, x: sp.csr_matrix) -> np.ndarray:
        """Components of at most `max_cells` of the cells `x` (N, G), (n, D)."""
        return self.projection(self.capped(x))


def most_variable(train: AnnData, n_top_genes: int) -> np.ndarray:
    """Positions of the most variable genes of the training cells; of all genes where there are no more."""
    if n_top_genes >= train.n_vars:
        return np.arange(train.n_vars)
    return variable_genes(train, np.arange(train.n_obs), n_top_genes)
