"""scGen itself (Lotfollahi et al. 2019), as the package pertpy maintains it: its own network, its own arithmetic."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from pydantic import Field

from scsave import keys
from scsave.baselines.base import ROUTE, Baseline
from scsave.baselines.predicted import predicted_cells
from scsave.errors import UserError

if TYPE_CHECKING:
    from scsave.data.splits.strategies import Split
    from scsave.keys import Columns

Positive = Annotated[int, Field(gt=0)]


@dataclass(kw_only=True)
class Scgen(Baseline):
    """A VAE of log1p expression; a prediction decodes the control cell's latent plus the mean latent change of training.

    The options are the package's own defaults and its tutorial's budget. pertpy does not import beside the statsmodels
    that is pinned here, so no extra installs it: `load_pertpy` says what to do.
    """

    n_hidden: Positive = 800
    n_latent: Positive = 100
    n_layers: Positive = 2
    max_epochs: Positive = 100
    patience: Positive = 25
    batch_size: Positive = 32
    tasks: ClassVar[frozenset[str]] = frozenset({"perturbation"})
    name: ClassVar[str] = "scgen"
    routes: ClassVar[tuple[str, ...]] = (ROUTE,)

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int) -> None:
        if columns.kind != "level" or columns.cell_type is None:
            raise UserError("baseline=scgen needs levels of a perturbation and a column of cell types")
        scgen = load_pertpy().tl.Scgen
        import scvi

        from scsave.training.fitting import quiet_lightning

        quiet_lightning()
        scvi.settings.seed, scvi.settings.verbosity = seed, 40
        self.key, self.control, self.type_key = columns.perturbation, columns.control, columns.cell_type
        n_train, watched = len(split.train), len(split.val) > 0
        cells = self._cells(data[np.concatenate([split.train, split.val])])
        self.levels, self.types = set(cells.obs[self.key]), set(cells.obs[self.type_key])
        started, order = time.perf_counter(), np.arange(cells.n_obs)
        scgen.setup_anndata(cells, batch_key=self.key, labels_key=self.type_key)
        self.model = scgen(cells, n_hidden=self.n_hidden, n_latent=self.n_latent, n_layers=self.n_layers)
        self.model.train(
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            early_stopping=watched,
            early_stopping_patience=self.patience,
            datasplitter_kwargs={"external_indexing": [order[:n_train], order[n_train:]]} if watched else None,
            train_size=None if watched else 1.0,
            enable_progress_bar=False,
            logger=False,
        )
        # the latent change is taken from training cells alone
        self.model.adata = self.model.adata[:n_train].copy()
        epochs = int(self.model.trainer.current_epoch)
        steps = int(self.model.trainer.global_step)
        self.cost = {"epochs": epochs, "steps": steps, "cells_seen": epochs * n_train}
        self.cost |= {"batch_size": self.batch_size, "seconds_train": time.perf_counter() - started}

    def respond(self, control: AnnData, target: str, seed: int, route: str = ROUTE) -> AnnData:
        if target not in self.levels or target == self.control:
            known = ", ".join(sorted(self.levels - {self.control})) or "none"
            raise UserError(f"no training cell has {self.key}={target}; levels seen in training: {known}")
        cells = self._cells(control)
        if unknown := sorted(set(cells.obs[self.type_key]) - self.types):
            raise UserError(f"baseline=scgen: no training cell has {self.type_key}={unknown[0]}")
        with seeded(seed):
            made, _ = self.model.predict(ctrl_key=self.control, stim_key=target, adata_to_predict=cells)
        obs = control.obs.copy()
        obs[self.key] = pd.Categorical([target] * len(obs))
        return predicted_cells(np.asarray(made.X), obs, obs[keys.LIBRARY].to_numpy(), control.var, self.name)

    def _cells(self, data: AnnData) -> AnnData:
        """Log1p expression and the two columns, as scGen takes them."""
        obs = data.obs[[self.key, self.type_key]].astype(str)
        return AnnData(X=sp.csr_matrix(data.X, dtype=np.float32), obs=obs, var=pd.DataFrame(index=data.var_names))


def load_pertpy() -> Any:
    """The package; UserError, with what installs it, where it is absent or does not import."""
    try:
        import pertpy
    except ImportError as error:
        raise UserError(
            f"baseline=scgen needs the package pertpy ({error}): pip install pertpy 'statsmodels<0.15', in an environment of "
            "its own, because another statsmodels is pinned here; or use baseline=latent_shift, scGen's arithmetic on SAVE's "
            "own autoencoder"
        ) from None
    return pertpy


@contextmanager
def seeded(seed: int):
    """numpy's unseeded generators follow `seed`: scGen draws the cells of its arithmetic with one and offers no argument."""
    original = np.random.default_rng
    np.random.default_rng = lambda given=None: original(seed if given is None else given)
    try:
        yield
    finally:
        np.random.default_rng = original
