"""scGen's idea (Lotfollahi et al. 2019) on the project's autoencoder: a treatment is one vector in the latent."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from pydantic import Field

from scsave import keys
from scsave.baselines.combinations import combinations
from scsave.baselines.predicted import predicted_cells
from scsave.baselines.response import Response
from scsave.data.splits.split import make_split
from scsave.errors import UserError

if TYPE_CHECKING:
    from scsave.data.conditions import Values
    from scsave.data.splits.strategies import Split
    from scsave.keys import Columns

Positive = Annotated[int, Field(gt=0)]
CHUNK = 1024  # cells through the networks at a time


@dataclass(kw_only=True)
class LatentShift(Response):
    """`z -> z + d`, `d` the mean over training types of the treated minus the control latent mean.

    The autoencoder (backbone, likelihood, blocks of the run) is trained without its flow, and its decoder is told the
    batch at most: the treatment has to be in the latent. Routes: `carry` adds the decoded change,
    `decode(z + d) - decode(z)` in log1p space, to the control cell; `decode` is scGen to the letter, cells drawn from
    the likelihood at `z + d`.
    """

    backbone: Any
    likelihood: Any
    blocking: Any
    trainer: Any = None
    steps: Positive = 2000
    batch_size: Positive = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    cache: str = "data/cache"
    model: Any = field(init=False, default=None, repr=False)
    name: ClassVar[str] = "latent_shift"
    routes: ClassVar[tuple[str, ...]] = ("carry", "decode")

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int) -> None:
        train, val = data[split.train], data[split.val]
        cost = self._train(train, val, columns, seed)
        latent = AnnData(sp.csr_matrix(self._encode(train)), obs=train.obs)
        rows = make_split({keys.TRAIN: np.arange(train.n_obs)}, latent.obs_names, "train", allow_no_test=True)
        super().fit(latent, rows, columns, seed)
        self.cost = cost

    def _train(self, train: AnnData, val: AnnData, columns: Columns, seed: int) -> dict[str, Any]:
        from pathlib import Path

        import torch

        from scsave.blocking.schemes import BlockingContext
        from scsave.data.conditions import Conditions
        from scsave.flow.paths import CFM
        from scsave.models.model import SAVEModel
        from scsave.stats.columns import gene_moments
        from scsave.training.fitting import fit_stages
        from scsave.training.options import FitOptions

        gene_ids = list(train.var[keys.GENE_ID]) if keys.GENE_ID in train.var else None
        blocks = self.blocking(
            BlockingContext(list(train.var_names), train, columns.organism, gene_ids, Path(self.cache), seed)
        )
        self.conditions = Conditions.fit(train.obs, [columns.batch] if columns.batch else [])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            likelihood = copy.deepcopy(self.likelihood)
            self.model = SAVEModel(self.backbone, blocks, likelihood, self.conditions, self.conditions.names)
        self.model.start_from(gene_moments(train, combinations(train.obs, columns.conditions)[0]))
        setup = FitOptions() if self.trainer is None else FitOptions(trainer=self.trainer)
        plan = autoencoder_plan(self)
        cost = fit_stages(self.model, plan, CFM(), self._rows(train), self._rows(val), setup, seed)
        self.model.cpu()  # where it encodes and decodes
        networks = (self.model.encoder, self.model.decoder, self.model.decoder_conditions)
        cost["parameters"] = sum(p.numel() for part in networks for p in part.parameters())
        cost["parameters"] += self.model.likelihood.average.numel()
        return cost

    def _rows(self, data: AnnData) -> Any:
        from scsave.training.loader import CellRows

        return CellRows(data.layers[keys.COUNTS], data.obs[keys.LIBRARY].to_numpy(), self._told(data.obs))

    def _told(self, obs: pd.DataFrame) -> Values:
        """The decoder's columns; a batch that training lacks is masked."""
        known = obs.copy()
        for column in self.conditions.columns:
            if column.kind == "categorical":
                seen = known[column.name].astype(str)
                known[column.name] = seen.where(seen.isin(column.levels), keys.MASK)
        return self.conditions.encode(known)

    def _encode(self, data: AnnData) -> np.ndarray:
        """Latent means, (N, L * d)."""
        import torch

        parts = []
        with torch.inference_mode():
            for rows in np.array_split(np.arange(data.n_obs), max(1, -(-data.n_obs // CHUNK))):
                counts = torch.from_numpy(data.layers[keys.COUNTS][rows].toarray())
                library = torch.from_numpy(data.obs[keys.LIBRARY].to_numpy(np.float32)[rows])
                parts.append(self.model.encode(self.model.scaled(counts, library)).mu.flatten(1).numpy())
        return np.concatenate(parts)

    def _decode(self, latent: np.ndarray, obs: pd.DataFrame, rng: Any = None) -> np.ndarray:
        """Log1p expression (N, G) of latents (N, L * d): the likelihood's mean, or a draw where `rng` is given."""
        import torch

        values, parts = self._told(obs), []
        library = torch.from_numpy(obs[keys.LIBRARY].to_numpy(np.float32))
        with torch.inference_mode():
            for start in range(0, len(obs), CHUNK):
                part = slice(start, start + CHUNK)
                z = torch.from_numpy(latent[part].astype(np.float32)).unflatten(1, (self.model.blocks.n_blocks, -1))
                out = self.model.decode(z, {name: value[part] for name, value in values.items()})
                size = library[part]
                cells = self.model.likelihood(out, size)
                drawn = cells.mean() if rng is None else cells.sample(rng)
                parts.append(self.model.to_log1p(drawn, size).numpy())
        return np.concatenate(parts)

    def respond(self, control: AnnData, target: str, seed: int, route: str = "carry") -> AnnData:
        if route not in self.routes:
            raise UserError(f"baseline={self.name}: no route '{route}'; it has: {', '.join(self.routes)}")
        import torch

        pairs = self.pairs(target)
        shift = (pairs.treated - pairs.control).mean(axis=0)  # (L * d,)
        z = self._encode(control)
        if route == "decode":
            expression = self._decode(z + shift, control.obs, torch.Generator().manual_seed(seed))
        else:
            change = self._decode(z + shift, control.obs) - self._decode(z, control.obs)
            expression = control.X.toarray() + change
        obs = control.obs.copy()
        obs[self.key] = pd.Categorical([target] * len(obs))
        return predicted_cells(expression, obs, control.obs[keys.LIBRARY].to_numpy(), control.var, self.name)


def autoencoder_plan(options: LatentShift) -> Any:
    """A training plan with the autoencoder's stage alone."""
    from scsave.training.plan import TwoStage

    class AutoencoderOnly(TwoStage):
        def stages(self) -> list[Any]:
            return super().stages()[:1]

    return AutoencoderOnly(
        autoencoder_steps=options.steps,
        batch_size=options.batch_size,
        lr=options.learning_rate,
        kl_weight=options.kl_weight,
    )
