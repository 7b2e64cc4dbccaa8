"""scGen (Lotfollahi et al. 2019) with its own network, as the package pertpy maintains it, and its latent arithmetic."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from pydantic import PositiveInt

from scsave import keys
from scsave.baselines.levels import Levels
from scsave.baselines.predicted import predicted_cells, target_obs
from scsave.baselines.scvi import accelerator, train
from scsave.data.splits.split import Split
from scsave.errors import UserError
from scsave.keys import Columns


@dataclass(kw_only=True)
class Scgen(Levels):
    """A VAE of log1p expression; a prediction decodes the control cell's latent plus the mean latent change of training.

    The mean latent of a level counts every training type once. The package draws cells with replacement until types are
    of equal size, without a seed; this is the expected value of its draws.
    The options are the package's own defaults and its tutorial's budget. pertpy does not import beside the statsmodels
    that is pinned here, so no extra installs it: `load_pertpy` says what to do.
    """

    n_hidden: PositiveInt = 800
    n_latent: PositiveInt = 100
    n_layers: PositiveInt = 2
    max_epochs: PositiveInt = 100
    patience: PositiveInt = 25
    batch_size: PositiveInt = 32
    name: str = "scgen"

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any = None) -> None:
        if columns.kind != "level" or columns.cell_type is None:
            raise UserError(f"method={self.name} needs levels of a perturbation and a column of cell types")
        scgen = load_pertpy().tl.Scgen
        import scvi

        scvi.settings.seed, scvi.settings.verbosity = seed, 40
        self._learn_columns(data, columns)
        self.of_genes = False
        cells = self._cells(data[np.concatenate([split.train, split.val])])
        n_train = len(split.train)
        scgen.setup_anndata(cells, batch_key=self.key, labels_key=self.type_key)
        self.model = scgen(cells, n_hidden=self.n_hidden, n_latent=self.n_latent, n_layers=self.n_layers)
        cost = train(self, self.model, cells.n_obs, n_train, accelerator=accelerator(options, "auto"))
        seen = cells[:n_train].copy()
        latent = sp.csr_matrix(np.asarray(self.model.get_latent_representation(seen)))
        self._learn_means(AnnData(latent, obs=seen.obs), columns)
        self.cost = cost

    def respond(self, control: AnnData, target: str, seed: int, route: str | None = None) -> AnnData:
        self._check_route(route)
        self.pairs(target)  # refuses a level that training lacks
        cells = self._cells(control)
        if unknown := sorted(set(cells.obs[self.type_key]) - set(self.type_of_group)):
            raise UserError(f"method={self.name}: no training cell has {self.type_key}={unknown[0]}")
        levels = np.array(self.level_of_group, dtype=object)
        shift = self.mean[levels == target].mean(axis=0) - self.mean[levels == self.control].mean(axis=0)
        latent = np.asarray(self.model.get_latent_representation(cells)) + shift.astype(np.float32)
        expression = np.asarray(self.model.module.as_bound().generative(latent)["px"])
        obs = target_obs(control, self.key, target)
        return self._named(
            predicted_cells(expression, obs, obs[keys.LIBRARY].to_numpy(), control.var, self.name), target
        )

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
            f"method=scgen needs the package pertpy ({error}): pip install pertpy 'statsmodels<0.15', in an environment of "
            "its own, because another statsmodels is pinned here; or use method=latent_shift, scGen's arithmetic on SAVE's "
            "own autoencoder"
        ) from None
    return pertpy
