"""Baselines of batch correction, which embed the cells that they are given: uncorrected PCA, Harmony, Scanorama."""

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from pydantic import PositiveInt

from scsave import keys
from scsave.baselines.base import Baseline
from scsave.baselines.generation import fit_pca
from scsave.data.splits.split import Split
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.packages import Needs, require


@dataclass(kw_only=True)
class Integration(Baseline):
    """Sees batches only, never cell types; the work is done in `integrate`, on the cells given there."""

    tasks: ClassVar[frozenset[str]] = frozenset({"batch_correction"})

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any = None) -> None:
        self.batch_key = batch_column(columns, data, self.name)
        self.cost = {"parameters": 0, "steps": 0, "cells_seen": 0}

    def integrate(self, data: AnnData, seed: int, reference: str | None = None) -> AnnData:
        """The cells with an embedding of all batches together; UserError for a reference, which it does not have."""
        if reference is not None:
            raise UserError(f"method={self.name} has no choice of reference: leave task.reference={reference} out")
        started = time.perf_counter()
        embedding, expression = self.embed(data, data.obs[self.batch_key].astype(str), seed)
        self.cost |= {"cells_seen": data.n_obs, "seconds_integrate": time.perf_counter() - started}
        return integrated(data, f"X_{self.name}", embedding, expression, self.name)

    def embed(self, data: AnnData, batch: pd.Series, seed: int) -> tuple[np.ndarray, sp.csr_matrix | None]:
        """Embedding (N, d), and corrected log1p expression (N, G) where the method has it."""
        raise NotImplementedError


@dataclass(kw_only=True)
class Pca(Integration):
    """No correction at all: principal components of log1p expression."""

    n_components: PositiveInt = 50
    name: str = "pca"

    def embed(self, data: AnnData, batch: pd.Series, seed: int) -> tuple[np.ndarray, None]:
        return fit_pca(data.X, self.n_components, seed).transform(data.X), None


@dataclass(kw_only=True)
class Harmony(Integration):
    """Harmony (Korsunsky et al. 2019) on the principal components, by harmonypy with its own settings."""

    n_components: PositiveInt = 50
    max_iterations: PositiveInt = 10
    name: str = "harmony"
    package: ClassVar[Needs] = Needs("harmonypy", "harmonypy")

    def embed(self, data: AnnData, batch: pd.Series, seed: int) -> tuple[np.ndarray, None]:
        harmonypy = require(self.package, self.name)
        components = fit_pca(data.X, self.n_components, seed).transform(data.X)  # (N, d)
        meta = pd.DataFrame({"batch": batch.to_numpy()})
        result = harmonypy.run_harmony(
            components, meta, "batch", max_iter_harmony=self.max_iterations, random_state=seed, verbose=False
        )
        corrected = np.asarray(result.Z_corr)
        return corrected if corrected.shape == components.shape else corrected.T, None


@dataclass(kw_only=True)
class Scanorama(Integration):
    """Scanorama (Hie, Bryson & Berger 2019): embedding and corrected expression.

    Scanorama corrects cells of unit length; a corrected cell is given its own length back, so that `X` is on the
    log1p scale again, and cut off at zero.
    """

    n_components: PositiveInt = 100
    neighbours: PositiveInt = 20
    name: str = "scanorama"
    package: ClassVar[Needs] = Needs("scanorama", "scanorama")

    def embed(self, data: AnnData, batch: pd.Series, seed: int) -> tuple[np.ndarray, sp.csr_matrix]:
        scanorama = require(self.package, self.name)
        codes, levels = pd.factorize(batch, sort=True)
        rows = [np.flatnonzero(codes == code) for code in range(len(levels))]
        genes = list(data.var_names)
        embedded, corrected, order = scanorama.correct(
            [data.X[r] for r in rows],
            [genes] * len(rows),
            return_dimred=True,
            dimred=min(self.n_components, min(data.shape) - 1),
            knn=self.neighbours,
            seed=seed,
            verbose=0,
        )
        back = np.argsort(np.concatenate(rows))
        place = pd.Index(order).get_indexer(genes)  # scanorama sorts the genes by name
        unit = sp.vstack(corrected, format="csr")[back][:, place]  # (N, G)
        length = np.sqrt(np.asarray(data.X.multiply(data.X).sum(axis=1)).ravel())
        return np.vstack(embedded)[back], sp.csr_matrix(sp.diags(length) @ unit).maximum(0)


def batch_column(columns: Columns, data: AnnData, name: str) -> str:
    """The batch column; raises UserError where the data names none."""
    if columns.batch is None:
        raise UserError(f"method={name} needs a batch column, but {columns.name} has none: set data.batch_key")
    if columns.batch not in data.obs:
        raise UserError(f"no column '{columns.batch}' in obs; columns: {', '.join(map(str, data.obs.columns))}")
    return columns.batch


def integrated(
    data: AnnData, key: str, embedding: np.ndarray, expression: sp.csr_matrix | None, made_by: str
) -> AnnData:
    """The cells with `obsm[key]`, and `expression` as X where there is some; `uns` says which."""
    out = data.copy()
    out.obsm[key] = np.ascontiguousarray(embedding, dtype=np.float32)
    if expression is not None:
        out.X = sp.csr_matrix(expression, dtype=np.float32)
    out.uns[keys.UNS] = dict(out.uns.get(keys.UNS, {})) | {"made_by": made_by, keys.CORRECTED: expression is not None}
    return out
