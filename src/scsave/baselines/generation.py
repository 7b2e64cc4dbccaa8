"""Baselines of generation: the mean, training cells drawn with replacement, a Gaussian per condition in PCA space."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from pydantic import NonNegativeFloat, PositiveInt

from scsave import keys
from scsave.baselines.base import Baseline
from scsave.baselines.combinations import CombinationMeans
from scsave.baselines.predicted import as_obs, predicted_cells
from scsave.data.preprocess import select_cells
from scsave.data.splits.split import Split
from scsave.data.splits.strata import combinations
from scsave.keys import Columns


@dataclass(kw_only=True)
class Generation(Baseline):
    """A baseline of generation; `_by_combination` learns means of training cells by combination of conditions."""

    tasks: ClassVar[frozenset[str]] = frozenset({"generation"})

    @staticmethod
    def _by_combination(values: Any, train: AnnData, columns: Columns) -> CombinationMeans:
        genes = columns.perturbation if columns.kind == "genes" else None
        return CombinationMeans.fit(values, train.obs, columns.conditions, genes, columns.control)


@dataclass(kw_only=True)
class Mean(Generation):
    """Every generated cell is the mean of its condition's training cells (log1p), with their mean library size.

    A combination that training lacks gets the main-effects prediction of `CombinationMeans`, cut off at zero.
    """

    name: str = "mean"

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any = None) -> None:
        train = select_cells(data, split.train)
        self.means = self._by_combination(train.X, train, columns)
        self.library = self._by_combination(train.obs[[keys.LIBRARY]].to_numpy(np.float64), train, columns)
        self.var = data.var
        self._closed_form(self.means.means.size + self.library.means.size, train.n_obs)

    def generate(self, obs: pd.DataFrame, seed: int) -> AnnData:
        codes, wanted = combinations(obs, self.means.columns, None, sort=False)
        means, library = self.means.predict(wanted)[0], self.library.predict(wanted)[0]  # (W, G), (W, 1)
        rows = sp.csr_matrix(np.maximum(means, 0), dtype=np.float32)[codes]  # (N, G)
        return predicted_cells(rows, obs, np.maximum(library[codes, 0], 1.0), self.var, self.name)


@dataclass(kw_only=True)
class TrainResample(Generation):
    """Training cells of the same condition drawn with replacement: the noise floor of a perfect model.

    For a combination that training lacks: from the cells that share the largest number of its columns.
    """

    name: str = "train_resample"

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any = None) -> None:
        self.train = data[split.train]
        self.columns = list(columns.conditions)
        self._closed_form(0, self.train.n_obs)

    def generate(self, obs: pd.DataFrame, seed: int) -> AnnData:
        rng = np.random.default_rng(seed)
        codes, wanted = combinations(obs, self.columns, None, sort=False)
        rows = np.empty(len(obs), dtype=np.int64)
        have = self.train.obs[self.columns].astype(str).to_numpy()
        for code, combination in enumerate(wanted.astype(str).to_numpy()):
            shared = (have == combination).sum(axis=1)  # (n,) columns in common
            here = codes == code
            rows[here] = rng.choice(np.flatnonzero(shared == shared.max()), size=here.sum())
        drawn = self.train[rows]
        return AnnData(
            X=drawn.X.copy(),
            obs=as_obs(obs, drawn.obs[keys.LIBRARY].to_numpy()),
            var=self.train.var.copy(),
            layers={keys.COUNTS: drawn.layers[keys.COUNTS].copy()},
            uns={keys.UNS: {"made_by": self.name}},
        )


@dataclass(kw_only=True)
class PcaGaussian(Generation):
    """One Gaussian per condition over the principal components and log library size, decoded by the components.

    The covariance of a condition of `n` cells is `(1 - r) S_c + r S_within`, `r = shrinkage / (shrinkage + n - 1)`,
    `S_within` the pooled within-condition covariance; an unseen combination has the main-effects mean and `S_within`.
    The decoded expression is cut off at zero; what the components leave out is not modelled.
    """

    n_components: PositiveInt = 50
    shrinkage: NonNegativeFloat = 20.0
    name: str = "pca_gaussian"

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any = None) -> None:
        train = select_cells(data, split.train)
        self.pca = fit_pca(train.X, self.n_components, seed)
        library = np.log(train.obs[keys.LIBRARY].to_numpy(np.float64))
        values = np.column_stack([self.pca.transform(train.X), library])  # (N, P + 1)
        self.means = self._by_combination(values, train, columns)
        codes, _ = combinations(train.obs, columns.conditions, None, sort=False)
        centred = values - self.means.means[codes]
        groups, width = len(self.means.table), values.shape[1]
        parts = [centred[codes == group] for group in range(groups)]
        scatter = np.stack([part.T @ part for part in parts])  # (M, P + 1, P + 1)
        sizes = self.means.sizes
        self.within = scatter.sum(axis=0) / max(len(values) - groups, 1)
        own = scatter / np.maximum(sizes - 1, 1)[:, None, None]
        share = (self.shrinkage / np.maximum(self.shrinkage + sizes - 1, 1e-12))[:, None, None]
        self.covariances = np.where(sizes[:, None, None] < 2, self.within, (1 - share) * own + share * self.within)
        self.var = data.var
        self._closed_form(self.pca.components_.size + groups * width * (width + 3) // 2, train.n_obs)

    def generate(self, obs: pd.DataFrame, seed: int) -> AnnData:
        rng = np.random.default_rng(seed)
        codes, wanted = combinations(obs, self.means.columns, None, sort=False)
        means, place = self.means.predict(wanted)  # (W, P + 1)
        values = np.empty((len(obs), means.shape[1]))
        for code, (mean, where) in enumerate(zip(means, place, strict=True)):
            covariance = self.covariances[where] if where >= 0 else self.within
            here = codes == code
            values[here] = rng.multivariate_normal(mean, covariance, size=here.sum(), method="eigh")
        expression = np.maximum(self.pca.inverse_transform(values[:, :-1]), 0)  # (N, G)
        return predicted_cells(expression, obs, np.exp(values[:, -1]), self.var, self.name)


def fit_pca(expression: sp.spmatrix, n_components: int, seed: int) -> Any:
    """Centred PCA of sparse cells (N, G) without making them dense; as many components as the data can carry."""
    from sklearn.decomposition import PCA

    most = min(n_components, expression.shape[0] - 1, expression.shape[1] - 1)
    solver = "covariance_eigh" if expression.shape[1] <= 4000 else "arpack"
    return PCA(max(most, 1), svd_solver=solver, random_state=seed).fit(expression)
