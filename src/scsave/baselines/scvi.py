"""scVI (Lopez et al. 2018) through scvi-tools, in the form that each task can use it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from pydantic import Field

from scsave import keys
from scsave.baselines.base import ROUTE, Baseline
from scsave.baselines.generation import TrainResample
from scsave.baselines.integration import batch_column, integrated
from scsave.baselines.predicted import predicted_cells
from scsave.data.preprocess import log1p_normalise
from scsave.errors import UserError
from scsave.packages import Needs, require

if TYPE_CHECKING:
    from scsave.data.splits.strategies import Split
    from scsave.keys import Columns

Positive = Annotated[int, Field(gt=0)]


@dataclass(kw_only=True)
class Scvi(Baseline):
    """A negative-binomial VAE of the raw counts whose decoder is told some columns, its encoder none.

    - generation: told every condition. A cell is the posterior predictive of a training cell of its condition drawn
      with replacement (of the nearest combination where training lacks it), decoded under the asked conditions.
    - batch_correction: told the batch. The embedding is the latent mean; corrected expression is the mean over all
      batches of the decoded rates, on the log1p scale of the cell's own library.
    - perturbation: told the perturbation and the batch, not the cell type. Control cells are encoded and the posterior
      predictive is drawn under the target (counterfactual decoding).
    `max_epochs=None` is scvi-tools' own rule, `min(400, 8e6 / cells)`; `split.val` stops early where there is one.
    """

    task: Literal["generation", "batch_correction", "perturbation"]
    n_latent: Positive = 30
    n_layers: Positive = 2
    n_hidden: Positive = 128
    likelihood: Literal["nb", "zinb", "poisson"] = "nb"
    max_epochs: Positive | None = None
    patience: Positive = 45
    batch_size: Positive = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    accelerator: str = "cpu"
    tasks: frozenset[str] = field(init=False)
    name: ClassVar[str] = "scvi"
    needs: ClassVar[Needs] = Needs("scvi", "scvi-tools")
    routes: ClassVar[tuple[str, ...]] = (ROUTE,)

    def __post_init__(self) -> None:
        self.tasks = frozenset({self.task})

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int) -> None:
        self.scvi = require(self.needs, self.name)
        self.columns = columns
        self.told, self.numeric = self._told(data, columns)
        rows = np.concatenate([split.train, split.val])
        cells = self._cells(data[rows])
        self.levels = {column: set(cells.obs[column]) for column in self.told}
        if self.task == "generation":
            self.donors = TrainResample()
            self.donors.fit(data, split, columns, seed)
        self._train(cells, len(split.train), seed)

    def _told(self, data: AnnData, columns: Columns) -> tuple[list[str], list[str]]:
        """Categorical and numeric columns that the decoder is told."""
        if self.task == "batch_correction":
            return [batch_column(columns, data, self.name)], []
        if self.task == "perturbation":
            if columns.perturbation is None or columns.control is None:
                raise UserError(f"baseline={self.name}: {columns.name} names no perturbation_key and control")
            return [columns.perturbation, *([columns.batch] if columns.batch else [])], []
        numeric = [c for c in columns.conditions if pd.api.types.is_numeric_dtype(data.obs[c])]
        return [c for c in columns.conditions if c not in numeric], numeric

    def _cells(self, data: AnnData) -> AnnData:
        """Counts and told columns only, as scvi-tools takes them."""
        obs = data.obs[self.told].astype(str)
        obs[self.numeric] = data.obs[self.numeric].astype(float)
        counts = sp.csr_matrix(data.layers[keys.COUNTS], dtype=np.float32)
        return AnnData(X=counts, obs=obs, var=pd.DataFrame(index=data.var_names))

    def _train(self, cells: AnnData, n_train: int, seed: int) -> None:
        from scsave.training.fitting import quiet_lightning

        started = time.perf_counter()
        scvi, watched = self.scvi, cells.n_obs > n_train
        quiet_lightning()
        scvi.settings.seed, scvi.settings.verbosity = seed, 40
        first, *rest = self.told or [None]
        scvi.model.SCVI.setup_anndata(
            cells,
            batch_key=first,
            categorical_covariate_keys=rest or None,
            continuous_covariate_keys=self.numeric or None,
        )
        self.model = scvi.model.SCVI(
            cells,
            n_latent=self.n_latent,
            n_layers=self.n_layers,
            n_hidden=self.n_hidden,
            gene_likelihood=self.likelihood,
        )
        order = np.arange(cells.n_obs)
        self.model.train(
            max_epochs=self.max_epochs,
            accelerator=self.accelerator,
            batch_size=self.batch_size,
            early_stopping=watched,
            early_stopping_patience=self.patience,
            datasplitter_kwargs={"external_indexing": [order[:n_train], order[n_train:]]} if watched else None,
            train_size=None if watched else 1.0,
            plan_kwargs={"lr": self.learning_rate},
            enable_progress_bar=False,
            logger=False,
        )
        epochs = int(self.model.trainer.current_epoch)
        self.cost = {
            "parameters": sum(p.numel() for p in self.model.module.parameters()),
            "epochs": epochs,
            "steps": int(self.model.trainer.global_step),
            "cells_seen": epochs * n_train,
            "batch_size": self.batch_size,
            "seconds_train": time.perf_counter() - started,
        }

    def generate(self, obs: pd.DataFrame, seed: int) -> AnnData:
        if self.task != "generation":
            raise self._cannot("generation")
        donors = self.donors.generate(obs, seed)
        return self._sampled(donors, obs, donors.obs[keys.LIBRARY].to_numpy(), seed)

    def respond(self, control: AnnData, target: str, seed: int, route: str = ROUTE) -> AnnData:
        if self.task != "perturbation":
            raise self._cannot("perturbation")
        obs = control.obs.copy()
        obs[self.columns.perturbation] = pd.Categorical([target] * len(obs))
        asked = control.copy()
        asked.obs = obs
        return self._sampled(asked, obs, control.obs[keys.LIBRARY].to_numpy(), seed)

    def integrate(self, data: AnnData, seed: int) -> AnnData:
        if self.task != "batch_correction":
            raise self._cannot("batch_correction")
        cells = self._known(self._cells(data))
        embedding = self.model.get_latent_representation(cells)
        rates = self.model.get_normalized_expression(
            cells, transform_batch=sorted(self.levels[self.told[0]]), library_size=1, return_numpy=True
        )  # (N, G), adding to 1 over the genes in use
        share = np.asarray(cells.X.sum(axis=1)).ravel() / data.obs[keys.LIBRARY].to_numpy()
        expression = sp.csr_matrix(np.log1p(rates * share[:, None] * keys.TARGET_SUM))
        return integrated(data, f"X_{self.name}", embedding, expression, self.name)

    def _sampled(self, cells: AnnData, obs: pd.DataFrame, library: np.ndarray, seed: int) -> AnnData:
        """Posterior predictive counts of `cells` under the columns in their own `obs`."""
        self.scvi.settings.seed = seed
        counts = self.model.posterior_predictive_sample(self._known(self._cells(cells)))
        counts = sp.csr_matrix(_scipy(counts), dtype=np.float32)
        made = predicted_cells(log1p_normalise(counts, library), obs, library, cells.var, self.name)
        made.layers[keys.COUNTS] = counts
        return made

    def _known(self, cells: AnnData) -> AnnData:
        """The cells; raises UserError where a told column has a level that training lacks."""
        for column in self.told:
            unknown = sorted(set(cells.obs[column]) - self.levels[column])
            if unknown:
                known = ", ".join(sorted(self.levels[column])[:12])
                raise UserError(f"baseline={self.name}: no training cell has {column}={unknown[0]}; it knows: {known}")
        return cells


def _scipy(counts: Any) -> sp.spmatrix | np.ndarray:
    return counts.to_scipy_sparse() if hasattr(counts, "to_scipy_sparse") else np.asarray(counts)
