"""SAVE in three lines of Python: fit, generate, encode, decode, integrate, predict, save, load.

from scsave import SAVE
model = SAVE.load("outputs/generation/pbmc68k/save/<hash>")
cells = model.generate(500, {"bulk_labels": "CD19+ B", "phase": "G1"})
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scsave.components import build
from scsave.compose import compose, plain
from scsave.data.from_anndata import as_prepared, with_genes
from scsave.data.preprocess import select_genes
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.method.fitted import Fitted, Sampler
from scsave.method.integrate import integrate
from scsave.method.predict import predict
from scsave.method.respond import respond
from scsave.method.sample import generate, translate
from scsave.training.options import FitOptions


class SAVE:
    """A fitted multi-condition generative model of single cells; each verb takes an AnnData as its owner has it."""

    def __init__(self, model: Fitted):
        self.model = model

    @classmethod
    def fit(
        cls,
        adata: AnnData,
        conditions: list[str],
        batch_key: str | None = None,
        *,
        cell_type_key: str | None = None,
        organism: str = "human",
        seed: int = 0,
        overrides: list[str] | None = None,
        options: FitOptions | None = None,
    ) -> SAVE:
        """Train on `adata` with the defaults and the split of `python train.py data=h5ad`, so with the same weights.

        `conditions` and `batch_key` name columns of `obs`; `overrides` are further keys as on the command line
        (`["training.flow_steps=5000"]`). UserError on missing columns and on cells without counts.
        """
        named = [*conditions, *(key for key in (batch_key, cell_type_key) if key)]
        if missing := [name for name in named if name not in adata.obs]:
            raise UserError(
                f"no column {', '.join(missing)} in obs; there are: {', '.join(map(str, adata.obs.columns))}"
            )
        given = ["data=h5ad", "data.path=cells.h5ad", "data.conditions=[]", *(overrides or []), f"seed={seed}"]
        config = plain(compose(given))
        cells = as_prepared(adata)
        cells.obs = cells.obs.assign(**{name: cells.obs[name].astype("category") for name in named
                                        if not pd.api.types.is_numeric_dtype(cells.obs[name])})  # fmt: skip
        columns = Columns("cells", list(conditions), cell_type_key, batch_key, carried=named, organism=organism)
        split = build(config["split"], "split")(cells, columns, seed)
        cells = select_genes(cells, split.train, config["data"]["n_top_genes"], config["data"]["min_cells"])
        method = build(config["method"], "method")
        method.fit(cells, split, columns, seed, options)
        return cls(method.fitted)

    @classmethod
    def load(cls, where: str | Path, device: str = "cpu") -> SAVE:
        """From a run directory or a checkpoint file. UserError if it is missing or damaged."""
        return cls(Fitted.load(where, device))

    def save(self, folder: str | Path) -> Path:
        """Write `<folder>/model.ckpt`."""
        return self.model.save(folder)

    def to(self, device: str | torch.device) -> SAVE:
        self.model.to(device)
        return self

    @property
    def conditions(self) -> dict[str, list[str] | str]:
        """Columns that the model knows, with their levels."""
        return {
            column.name: list(getattr(column, "levels", ())) or column.kind for column in self.model.conditions.columns
        }

    @property
    def genes(self) -> list[str]:
        return self.model.genes

    def sampling(self, **changes: Any) -> SAVE:
        """The same model with another `guidance`, `solver` or `objective` (`scsave.method.fitted.Sampler`)."""
        self.model.sampler = Sampler(**(vars(self.model.sampler) | changes))
        return self

    def generate(self, cells: int | pd.DataFrame, condition: dict[str, Any] | None = None, *, seed: int = 0) -> AnnData:
        """Cells from noise: `cells` of one `condition`, or one for each row of a DataFrame of condition columns.

        Columns that are not named are masked: the model then draws over their levels. Returns `layers["counts"]`
        (integers from a count head), `X` log1p, conditions and library size in `obs`. UserError on unknown columns
        or levels.
        """
        return generate(self.model, cells, condition, seed)

    def translate(self, cells: AnnData, target: pd.DataFrame, *, seed: int = 0, draw: bool = True) -> AnnData:
        """The cells under the conditions of `target` (N rows): the flow backwards under their own, then forwards."""
        return translate(self.model, as_prepared(cells), target, seed, draw)

    def encode(self, cells: AnnData) -> np.ndarray:
        """Latent means of cells, (N, L * d). Genes are matched by name; a gene that the cells lack counts as zero."""
        return self.model.encode(as_prepared(cells))

    def decode(self, latent: np.ndarray, obs: pd.DataFrame, library: np.ndarray) -> AnnData:
        """Mean expression of latents (N, L * d) under the decoder's columns in `obs` (absent ones masked)."""
        return self.model.decode(latent, obs, library)

    def respond(self, control: AnnData, target: str, *, seed: int = 0, route: str = "between") -> AnnData:
        """The cells of `control` as they would be under `target`; routes: `scsave.method.respond`."""
        return respond(self.model, with_genes(as_prepared(control), self.genes), target, seed, route)

    def predict(
        self, perturbations: str | list[str], control: AnnData | None = None, *, seed: int = 0, route: str = "between"
    ) -> AnnData:
        """Control cells under sets of genes, never perturbed in training or never together: `scsave.method.predict`."""
        return predict(self.model, perturbations, control, seed, route)

    def integrate(self, data: AnnData, *, reference: str | None = None) -> AnnData:
        """The cells (new ones too), embedded, and their corrected expression: `scsave.method.integrate`."""
        return integrate(self.model, as_prepared(data), reference)

    def __dir__(self) -> list[str]:
        return [name for name in [*vars(type(self)), "model"] if not name.startswith("_")]

    def __repr__(self) -> str:
        blocks, conditions = self.model.network.blocks, ", ".join(self.model.conditions.names) or "none"
        return (
            f"SAVE: {len(self.genes)} genes in {blocks.n_blocks} blocks ({blocks.scheme}), conditions: {conditions}, "
            f"trained: {', '.join(self.model.info['parts'])}, on {self.model.device}"
        )
