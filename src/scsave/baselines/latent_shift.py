"""scGen's latent arithmetic (Lotfollahi et al. 2019) on the project's autoencoder: a treatment is one vector."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from pydantic import Field

from scsave import keys
from scsave.baselines.combinations import combinations
from scsave.baselines.levels import Levels
from scsave.baselines.predicted import predicted_cells, target_obs
from scsave.data.splits.split import Split
from scsave.keys import Columns

if TYPE_CHECKING:
    from scsave.data.conditions import Values

Positive = Annotated[int, Field(gt=0)]
CHUNK = 1024  # cells through the networks at a time


@dataclass(kw_only=True)
class LatentShift(Levels):
    """`z -> z + d`, `d` the mean over training types of the treated minus the control latent mean.

    The autoencoder (backbone, likelihood, blocks of the run) is trained without its flow, and its decoder is given the
    batch at most: the treatment has to be in the latent. Route `shift` adds the decoded change,
    `decode(z + d) - decode(z)` in log1p space, to each control cell; `decode` is scGen to the letter, cells drawn from
    the likelihood at `z + d`. With `carry=True` there is one route, `carry`: molecules by the mean of the decoded change.
    """

    backbone: Any
    likelihood: Any
    blocking: Any
    steps: Positive = 2000
    batch_size: Positive = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    name: str = "latent_shift"

    @property
    def routes(self) -> tuple[str, ...]:
        return super().routes if self.carry else ("shift", "decode")

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any = None) -> None:
        self._learn_columns(data, columns)
        self.of_genes = columns.kind == "genes"
        train = data[split.train]
        cost = self._train(train, data[split.val], columns, seed, options)
        self._learn_means(AnnData(sp.csr_matrix(self._encode(train)), obs=train.obs))
        self.cost = cost

    def _train(self, train: AnnData, val: AnnData, columns: Columns, seed: int, options: Any) -> dict[str, Any]:
        import torch

        from scsave.blocking.schemes import BlockingContext
        from scsave.data.conditions import Conditions
        from scsave.flow.paths import CFM
        from scsave.models.model import SAVEModel
        from scsave.stats.columns import gene_moments
        from scsave.training.fitting import fit_stages
        from scsave.training.options import FitOptions
        from scsave.training.plan import TwoStage

        options = options or FitOptions()
        setup = FitOptions(parts=frozenset({"autoencoder"}), trainer=options.trainer)
        gene_ids = list(train.var[keys.GENE_ID]) if keys.GENE_ID in train.var else None
        blocks = self.blocking(
            BlockingContext(list(train.var_names), train, columns.organism, gene_ids, options.cache, seed)
        )
        self.conditions = Conditions.fit(train.obs, [columns.batch] if columns.batch else [])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            likelihood = copy.deepcopy(self.likelihood)
            self.model = SAVEModel(self.backbone, blocks, likelihood, self.conditions, self.conditions.names)
        self.model.start_from(gene_moments(train, combinations(train.obs, columns.conditions)[0]))
        plan = TwoStage(
            autoencoder_steps=self.steps, batch_size=self.batch_size, lr=self.learning_rate, kl_weight=self.kl_weight
        )
        cost = fit_stages(self.model, plan, CFM(), self._rows(train), self._rows(val), setup, seed)
        self.model.cpu()
        networks = (self.model.encoder, self.model.decoder, self.model.decoder_conditions)
        cost["parameters"] = sum(p.numel() for part in networks for p in part.parameters())
        cost["parameters"] += self.model.likelihood.average.numel()
        return cost

    def _rows(self, data: AnnData) -> Any:
        from scsave.training.loader import CellRows

        return CellRows(data.layers[keys.COUNTS], data.obs[keys.LIBRARY].to_numpy(), self._values(data.obs))

    def _values(self, obs: pd.DataFrame) -> Values:
        """The decoder's columns; a batch that training lacks is masked."""
        known = obs.copy()
        for column in self.conditions.columns:
            if column.kind == "categorical":
                seen = known[column.name].astype(str)
                known[column.name] = seen.where(seen.isin(column.levels), keys.MASK)
        return self.conditions.encode(known)

    def _encode(self, cells: AnnData) -> np.ndarray:
        """Latent means, (N, L * d)."""
        import torch

        rows, parts = self._rows(cells), []
        with torch.inference_mode():
            for start in range(0, len(rows), CHUNK):
                batch = rows.batch(np.arange(start, min(start + CHUNK, len(rows))))
                scaled = self.model.scaled(batch["counts"], batch["library"])
                parts.append(self.model.encode(scaled).mu.flatten(1).numpy())
        return np.concatenate(parts)

    def _decode(self, latent: np.ndarray, obs: pd.DataFrame, rng: Any = None) -> np.ndarray:
        """Log1p expression (N, G) of latents (N, L * d): the likelihood's mean, or a draw where `rng` is given."""
        import torch

        values, parts = self._values(obs), []
        library = torch.from_numpy(obs[keys.LIBRARY].to_numpy(np.float32))
        z = torch.from_numpy(latent.astype(np.float32)).unflatten(1, (self.model.blocks.n_blocks, -1))  # (N, L, d)
        with torch.inference_mode():
            for part in (slice(start, start + CHUNK) for start in range(0, len(z), CHUNK)):
                out = self.model.decode(z[part], {name: value[part] for name, value in values.items()})
                cells = self.model.likelihood(out, library[part])
                drawn = cells.mean() if rng is None else cells.sample(rng)
                parts.append(self.model.to_log1p(drawn, library[part]).numpy())
        return np.concatenate(parts)

    def _shifted(self, cells: AnnData, target: str) -> tuple[np.ndarray, np.ndarray]:
        """Latents (N, L * d) of the cells, and of the cells under `target`."""
        z = self._encode(cells)
        return z, z + self.pairs(target).change.mean(axis=0)

    def change_of(self, cells: AnnData, target: str) -> np.ndarray:
        before, after = (self._decode(z, cells.obs) for z in self._shifted(cells, target))
        return (after - before).mean(axis=0)

    def respond(self, control: AnnData, target: str, seed: int, route: str | None = None) -> AnnData:
        if self.carry:
            return super().respond(control, target, seed, route)
        import torch

        route = self._check_route(route)
        z, moved = self._shifted(control, target)
        if route == "decode":
            expression = self._decode(moved, control.obs, torch.Generator().manual_seed(seed))
        else:
            expression = control.X.toarray() + (self._decode(moved, control.obs) - self._decode(z, control.obs))
        obs = target_obs(control, self.key, target)
        return predicted_cells(expression, obs, obs[keys.LIBRARY].to_numpy(), control.var, self.name)
