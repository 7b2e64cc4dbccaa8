"""scVI (Lopez et al. 2018) through scvi-tools, in the form that each task can use it."""

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from pydantic import PositiveFloat, PositiveInt

from scsave import keys
from scsave.baselines.base import Baseline
from scsave.baselines.generation import TrainResample
from scsave.baselines.integration import batch_column, integrated
from scsave.baselines.predicted import predicted_cells, target_obs
from scsave.data.preprocess import log1p_normalise
from scsave.data.splits.split import Split
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.packages import Needs, require


@dataclass(kw_only=True)
class Scvi(Baseline):
    """A negative-binomial VAE of the raw counts whose decoder is given covariates, its encoder none.

    - generation: every condition is a covariate. A cell is the posterior predictive of a training cell of its condition
      drawn with replacement (of the nearest combination where training lacks it), decoded under the wanted conditions.
    - batch_correction: the batch is. The embedding is the latent mean; corrected expression is the mean over all
      batches (or that of the reference) of the decoded rates, on the log1p scale of the cell's own library.
    - perturbation: the perturbation and the batch are, not the cell type. Control cells are encoded and the posterior
      predictive is drawn under the target (counterfactual decoding).
    `max_epochs=None` is scvi-tools' own rule, `min(400, 8e6 / cells)`; `split.val` stops early where there is one.
    """

    task: Literal["generation", "batch_correction", "perturbation"]
    n_latent: PositiveInt = 30
    n_layers: PositiveInt = 2
    n_hidden: PositiveInt = 128
    likelihood: Literal["nb", "zinb", "poisson"] = "nb"
    max_epochs: PositiveInt | None = None
    patience: PositiveInt = 45
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3
    name: str = "scvi"
    package: ClassVar[Needs] = Needs("scvi", "scvi-tools")

    @property
    def tasks(self) -> frozenset[str]:
        return frozenset({self.task})

    @property
    def routes(self) -> tuple[str, ...]:
        return ("shift",) if self.task == "perturbation" else ()

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any = None) -> None:
        scvi = require(self.package, self.name)
        scvi.settings.seed, scvi.settings.verbosity = seed, 40
        self.settings, self.key = scvi.settings, columns.perturbation
        self.covariates, self.numeric = self._covariates(data, columns)
        cells = self._cells(data[np.concatenate([split.train, split.val])])
        self.levels = {column: set(cells.obs[column]) for column in self.covariates}
        if self.task == "generation":
            self.donors = TrainResample()
            self.donors.fit(data, split, columns, seed)
        first, *rest = self.covariates or [None]
        others = {"categorical_covariate_keys": rest or None, "continuous_covariate_keys": self.numeric or None}
        scvi.model.SCVI.setup_anndata(cells, batch_key=first, **others)
        sizes = {"n_latent": self.n_latent, "n_layers": self.n_layers, "n_hidden": self.n_hidden}
        self.model = scvi.model.SCVI(cells, gene_likelihood=self.likelihood, **sizes)
        plan = {"plan_kwargs": {"lr": self.learning_rate}, "accelerator": accelerator(options, "cpu")}
        self.cost = {"parameters": sum(p.numel() for p in self.model.module.parameters())}
        self.cost |= train(self, self.model, cells.n_obs, len(split.train), **plan)

    def _covariates(self, data: AnnData, columns: Columns) -> tuple[list[str], list[str]]:
        """Categorical and numeric columns that the decoder is given."""
        if self.task == "batch_correction":
            return [batch_column(columns, data, self.name)], []
        if self.task == "perturbation":
            if columns.perturbation is None or columns.control is None:
                raise UserError(f"method={self.name}: {columns.name} names no perturbation_key and control")
            return [columns.perturbation, *([columns.batch] if columns.batch else [])], []
        numeric = [c for c in columns.conditions if pd.api.types.is_numeric_dtype(data.obs[c])]
        return [c for c in columns.conditions if c not in numeric], numeric

    def _cells(self, data: AnnData) -> AnnData:
        """Counts and covariates only, as scvi-tools takes them."""
        obs = data.obs[self.covariates].astype(str)
        obs[self.numeric] = data.obs[self.numeric].astype(float)
        counts = sp.csr_matrix(data.layers[keys.COUNTS], dtype=np.float32)
        return AnnData(X=counts, obs=obs, var=pd.DataFrame(index=data.var_names))

    def generate(self, obs: pd.DataFrame, seed: int) -> AnnData:
        self._serves("generation")
        donors = self.donors.generate(obs, seed)
        return self._sampled(donors, obs, seed)

    def respond(self, control: AnnData, target: str, seed: int, route: str | None = None) -> AnnData:
        self._serves("perturbation")
        self._check_route(route)
        treated = control.copy()
        treated.obs = target_obs(control, self.key, target)
        return self._sampled(treated, treated.obs, seed)

    def integrate(self, data: AnnData, seed: int, reference: str | None = None) -> AnnData:
        self._serves("batch_correction")
        cells = self._known(self._cells(data))
        batches = sorted(self.levels[self.covariates[0]])
        if reference is not None and reference not in batches:
            raise UserError(f"method={self.name}: task.reference={reference} is no batch; it has: {', '.join(batches)}")
        embedding = self.model.get_latent_representation(cells)
        rates = self.model.get_normalized_expression(
            cells, transform_batch=batches if reference is None else [reference], library_size=1, return_numpy=True
        )  # (N, G), adding to 1 over the genes in use
        share = np.asarray(cells.X.sum(axis=1)).ravel() / data.obs[keys.LIBRARY].to_numpy()
        expression = sp.csr_matrix(np.log1p(rates * share[:, None] * keys.TARGET_SUM))
        return integrated(data, f"X_{self.name}", embedding, expression, self.name)

    def _serves(self, task: str) -> None:
        if self.task != task:
            raise self._cannot(task)

    def _sampled(self, cells: AnnData, obs: pd.DataFrame, seed: int) -> AnnData:
        """Posterior predictive counts of `cells` under the covariates in their own `obs`, as cells with `obs`."""
        self.settings.seed = seed
        counts = self.model.posterior_predictive_sample(self._known(self._cells(cells)))
        counts = counts.to_scipy_sparse() if hasattr(counts, "to_scipy_sparse") else np.asarray(counts)
        counts, library = sp.csr_matrix(counts, dtype=np.float32), cells.obs[keys.LIBRARY].to_numpy()
        made = predicted_cells(log1p_normalise(counts, library), obs, library, cells.var, self.name)
        made.layers[keys.COUNTS] = counts
        return made

    def _known(self, cells: AnnData) -> AnnData:
        """The cells; raises UserError where a covariate has a level that training lacks."""
        for column in self.covariates:
            unknown = sorted(set(cells.obs[column]) - self.levels[column])
            if unknown:
                known = ", ".join(sorted(self.levels[column])[:12])
                raise UserError(
                    f"method={self.name}: no training cell has {column}={unknown[0]}; training has: {known}"
                )
        return cells


def accelerator(options: Any, otherwise: str) -> str:
    """The accelerator of the run's trainer; `otherwise` where a baseline is fitted without options."""
    return otherwise if options is None else options.trainer.accelerator


def train(method: Any, model: Any, n_cells: int, n_train: int, **options: Any) -> dict[str, Any]:
    """Train a scvi-tools model on the first `n_train` of its cells, stopped early by the others; returns what it cost.

    Raises KeyboardInterrupt when a signal stopped it: Lightning would end the process with exit code 0 on SIGTERM.
    """
    from scsave.training.fitting import quiet_lightning

    quiet_lightning()
    started, order, watched = time.perf_counter(), np.arange(n_cells), n_cells > n_train
    try:
        model.train(
            max_epochs=method.max_epochs,
            batch_size=method.batch_size,
            early_stopping=watched,
            early_stopping_patience=method.patience,
            datasplitter_kwargs={"external_indexing": [order[:n_train], order[n_train:]]} if watched else None,
            train_size=None if watched else 1.0,
            enable_progress_bar=False,
            logger=False,
            **options,
        )
    except SystemExit:
        raise KeyboardInterrupt(
            f"method={method.name} was stopped while it trained; it keeps nothing, so start the run again"
        ) from None
    epochs = int(model.trainer.current_epoch)
    return {
        "epochs": epochs,
        "steps": int(model.trainer.global_step),
        "cells_seen": epochs * n_train,
        "batch_size": method.batch_size,
        "seconds_train": time.perf_counter() - started,
    }
