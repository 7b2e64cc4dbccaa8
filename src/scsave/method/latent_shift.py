"""scGen's latent arithmetic (Lotfollahi et al. 2019) on SAVE's autoencoder: a treatment is one vector in the latent."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from anndata import AnnData

from scsave import keys
from scsave.baselines.levels import Levels
from scsave.baselines.predicted import predicted_cells, target_obs
from scsave.data.splits.split import Split
from scsave.keys import Columns
from scsave.method.decoding import matrices, on
from scsave.method.fit import Parts, fit
from scsave.method.respond import known_levels
from scsave.training.options import FitOptions


@dataclass(kw_only=True)
class LatentShift(Parts, Levels):
    """`z -> z + d`, `d` the mean over training types of the treated minus the control latent mean.

    The autoencoder is SAVE's, trained as the run says and without a flow; its decoder is given technical columns only, so
    that the treatment has to be in the latent. Route `shift` adds the decoded change, `decode(z + d) - decode(z)` in log1p
    space, to each control cell; `decode` is scGen to the letter, cells drawn from the likelihood at `z + d`. With
    `carry=True` there is one route, `carry`: molecules by the mean of the decoded change.
    """

    name: str = "latent_shift"

    @property
    def routes(self) -> tuple[str, ...]:
        return super().routes if self.carry else ("shift", "decode")

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any = None) -> None:
        self._learn_columns(data, columns)
        self.of_genes = columns.kind == "genes"
        nodes = self.nodes | {"backbone": {**self.backbone, "told": None}}
        asked = {"parts": frozenset({"autoencoder"}), "decoder_conditions": None}
        options = dataclasses.replace(options or FitOptions(), **asked)
        self.model = fit(nodes, data, split, columns, seed, options)
        train = data[split.train]
        self._learn_means(AnnData(sp.csr_matrix(self.model.encode(train)), obs=train.obs), columns)
        modules = self.model.network.autoencoder()
        self.cost = self.model.cost | {"parameters": sum(p.numel() for part in modules for p in part.parameters())}

    def change_of(self, cells: AnnData, target: str) -> np.ndarray:
        return np.asarray(self._decoded_change(cells, target).mean(axis=0)).ravel()

    def respond(self, control: AnnData, target: str, seed: int, route: str | None = None) -> AnnData:
        if self.carry:
            return super().respond(control, target, seed, route)
        obs, library = target_obs(control, self.key, target), control.obs[keys.LIBRARY].to_numpy()
        if self._check_route(route) == "shift":
            moved = sp.csr_matrix(control.X) + self._decoded_change(control, target)
            return self._named(predicted_cells(moved, obs, library, control.var, self.name), target)
        model, (_, latent) = self.model, self._latents(control, target)
        values = on(model.conditions.encode(known_levels(model, control.obs)), model.device)
        size = torch.as_tensor(library, dtype=torch.float32).to(model.device)
        rng = torch.Generator(model.device).manual_seed(seed)
        counts, log1p = matrices(model.network, model.latent(latent), size, values, rng)
        made = predicted_cells(log1p, obs, library, control.var, self.name)
        made.layers[keys.COUNTS] = counts
        return self._named(made, target)

    def _latents(self, cells: AnnData, target: str) -> tuple[np.ndarray, np.ndarray]:
        """Latents (N, L * d) of the cells, and of the cells under `target`."""
        z = self.model.encode(cells)
        return z, z + self.pairs(target).change.mean(axis=0)

    def _decoded_change(self, cells: AnnData, target: str) -> sp.csr_matrix:
        """Change of each cell's decoded mean expression, (N, G) log1p."""
        obs, library = known_levels(self.model, cells.obs), cells.obs[keys.LIBRARY].to_numpy()
        before, after = (self.model.decode(z, obs, library).X for z in self._latents(cells, target))
        return after - before
