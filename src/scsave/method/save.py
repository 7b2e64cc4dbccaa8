"""SAVE in Python: fitted on an AnnData or loaded from a run, then asked for cells, embeddings and responses.

from scsave import SAVE
model = SAVE.fit(adata, conditions=["cell_type"], batch_key="batch")  # or SAVE.load("outputs/.../<hash>")
cells = model.generate(500, {"cell_type": "NK"})
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scsave.components import build, check
from scsave.compose import compose, plain
from scsave.data.from_anndata import InMemory, as_prepared, with_genes
from scsave.data.preprocess import select_genes
from scsave.data.splits.split import Split
from scsave.errors import UserError, listed
from scsave.keys import Columns
from scsave.method.fit import extend
from scsave.method.fitted import Fitted, Sampler
from scsave.method.integrate import integrate
from scsave.method.predict import predict
from scsave.method.predict_levels import Predictor, predict_levels
from scsave.method.respond import ROUTES, check_route, respond
from scsave.method.sample import generate, translate
from scsave.method.trust import trust_of
from scsave.training.options import FitOptions

_SHOWN = 6  # levels of a condition that `repr` names
_PARTS = {"noise": "flow from noise", "cells": "flow from control cells", "head": "integration head"}


@dataclass(frozen=True)
class _Training:
    """What a model was fitted on, kept so that a part that was left out can be trained when it is asked for."""

    nodes: dict[str, Any]
    cells: AnnData
    split: Split
    columns: Columns
    seed: int
    options: FitOptions


class SAVE:
    """A fitted multi-condition generative model of single cells.

    Every verb takes an AnnData as its owner has it. Counts may lie in `layers["counts"]`, `X`, `raw.X` or another layer;
    log1p values do where whole counts can be recovered from them. Genes are matched by name: one that the cells lack counts
    as zero. What a verb returns is an AnnData of the model's genes with log1p values (counts per 10,000) in `X`, whole
    counts in `layers["counts"]`, and in `uns["scsave"]` how it was made.
    """

    def __init__(self, model: Fitted, training: _Training | None = None):
        self._model, self._training = model, training

    @classmethod
    def fit(
        cls,
        adata: AnnData,
        conditions: list[str] | None = None,
        batch_key: str | None = None,
        *,
        cell_type_key: str | None = None,
        perturbation_key: str | None = None,
        control: str | None = None,
        perturbation_kind: str = "level",
        task: str = "generation",
        seed: int = 0,
        overrides: list[str] | None = None,
    ) -> SAVE:
        """Train on `adata` with the command's defaults and split, so with the weights that the command would give.

        The command is `python train.py data=h5ad data.path=<the same cells> data.conditions=[...] task=...`.

        Args:
            adata: Cells by genes; gene symbols as `var_names`. It is not changed.
            conditions: Columns of `obs` that cells are generated under. None: the perturbation alone.
            batch_key: Column of batches: the decoder is given it, so that the latent need not hold it.
            cell_type_key: Column of cell types, for splits and for the strata of a response.
            perturbation_key: Column of treatments, or of perturbed genes.
            control: Its level of untreated cells.
            perturbation_kind: `level` (a drug, a disease) or `genes` (names of perturbed genes, `KLF1+BAK1`).
            task: What the model is for: `generation`, `batch_correction` or `perturbation`. It says which parts are trained
                now; another part is trained when a verb first asks for it. With `perturbation`, all cells are trained on
                (`split=all`), unless `overrides` name a split or `task.hold_out`.
            seed: Of the split, the weights and the training.
            overrides: Further keys as on the command line, such as `["training.flow_steps=500", "data.layer=raw"]`.

        Raises:
            UserError: For a column that is not there, a wrong key, cells without counts.
        """
        asked = [*(overrides or []), f"seed={seed}"]
        if task == "perturbation" and not any(o.startswith(("split", "task.hold_out")) for o in asked):
            asked = ["split=all", *asked]
        config = plain(compose(["data=h5ad", f"task={task}", "data.name=adata", *asked]))
        roles = {
            "conditions": list(conditions or [perturbation_key] * (perturbation_key is not None)),
            "batch_key": batch_key,
            "cell_type_key": cell_type_key,
            "perturbation_key": perturbation_key,
            "control": control,
        }
        given = {name: value for name, value in roles.items() if value}
        node = config["data"] | given | {"perturbation_kind": perturbation_kind}
        check(node, "data")
        source = InMemory.of(adata, node)
        columns, method = source.roles, build(config["method"], "method")
        purpose = build(config["task"], "task").for_kind(columns.kind)
        purpose.check(columns)
        cells = source.prepared()
        strategy = build(config["split"], "split")
        folds = strategy.folds(cells, columns) if hasattr(strategy, "folds") else {"": strategy}
        if len(folds) > 1:
            raise UserError(f"one model has one split, this one has {len(folds)} folds: name one of {', '.join(folds)}")
        split = next(iter(folds.values()))(cells, columns, seed)
        cells = select_genes(cells, split.train, source.n_top_genes, source.min_cells)
        purpose.check_cells(columns, cells.obs.iloc[split.train])
        options = FitOptions(
            parts=purpose.parts(method),
            cache=Path(config["paths"]["cache"]),
            trainer=build(config["trainer"], "trainer"),
        )
        method.fit(cells, split, columns, seed, options)
        return cls(method.fitted, _Training(method.nodes, cells, split, columns, seed, options))

    @classmethod
    def load(cls, where: str | Path, device: str = "cpu") -> SAVE:
        """From a run directory or a checkpoint file. UserError if it is missing or damaged."""
        return cls(Fitted.load(where, device))

    def save(self, folder: str | Path) -> Path:
        """Write `<folder>/model.ckpt`."""
        return self.model.save(folder)

    def to(self, device: str | torch.device) -> SAVE:
        """The same model, its networks on another device."""
        self.model.to(device)
        return self

    @property
    def model(self) -> Fitted:
        """The networks with all that using them needs: `scsave.method.fitted.Fitted`."""
        return self._model

    @property
    def conditions(self) -> dict[str, list[str] | str]:
        """Columns that the model knows, with their levels; of a column without levels, its kind."""
        return {
            column.name: list(getattr(column, "levels", ())) or column.kind for column in self.model.conditions.columns
        }

    @property
    def genes(self) -> list[str]:
        """Names of the model's genes, in order."""
        return self.model.genes

    def sampling(self, **changes: Any) -> SAVE:
        """The same weights with another `guidance`, `solver` or `objective` (`scsave.method.fitted.Sampler`)."""
        sampler = Sampler(**(vars(self.model.sampler) | changes))
        return SAVE(dataclasses.replace(self.model, sampler=sampler), self._training)

    def generate(self, cells: int | pd.DataFrame, condition: dict[str, Any] | None = None, *, seed: int = 0) -> AnnData:
        """Cells from noise: `cells` of one `condition`, or one for each row of a DataFrame of condition columns.

        A condition that is not named is NaN in `obs`: the model draws over its levels without saying which. Of a technical
        column a level is drawn as training cells have them, and `obs` has it; `uns["scsave"]` lists both. Names are
        `generated_<digest>_<number>`, the digest being of the cells, so that two calls can be concatenated. Generated cells
        are no new evidence. UserError on unknown columns or levels.
        """
        return generate(self._with("noise"), cells, condition, seed)

    def translate(self, cells: AnnData, target: pd.DataFrame, *, seed: int = 0, draw: bool = True) -> AnnData:
        """The cells under the conditions of `target` (N rows): the flow backwards under their own, then forwards."""
        return translate(self._with("noise"), as_prepared(cells), target, seed, draw)

    def encode(self, cells: AnnData) -> np.ndarray:
        """Latent means of cells, (N, L * d), L blocks of d numbers."""
        return self.model.encode(as_prepared(cells))

    def decode(self, latent: np.ndarray, obs: pd.DataFrame, library: np.ndarray) -> AnnData:
        """Mean expression of latents (N, L * d) at library sizes (N,) under the decoder's columns in `obs` (N rows)."""
        return self.model.decode(latent, obs, library)

    def respond(
        self, control: AnnData, target: str | dict[str, Any], *, seed: int = 0, route: str = "between"
    ) -> AnnData:
        """The cells of `control` as they would be under the one `target`, in their order.

        `target` is a level of the perturbation column, or `{"drug": "X", "dose": 10}`. `route` is `between` (the flow from
        control cells), `generate`, `translate` or `transfer` (`scsave.method.respond`). UserError for an unknown route or
        level.
        """
        if self.model.targets is not None and not isinstance(target, str):
            (target,) = self.model.targets.asked(target)
        return respond(self._for_route(route), with_genes(as_prepared(control), self.genes), target, seed, route)

    def predict(
        self,
        control: AnnData | str | list[str] | None = None,
        target: Any = None,
        *,
        donor_key: str | None = None,
        seed: int = 0,
        route: str = "between",
    ) -> AnnData:
        """Control cells under targets, stacked; `uns["trust"]` says how far to trust each.

        Levels: `predict(adata, "stimulated")`, cell types that training never saw included; `{"drug": "X", "dose": 10}` or a
        list of such, None is all of training; `uns["per_gene"]` has changes with intervals over the levels of `donor_key` (by
        default the batch): `scsave.method.predict_levels`. Sets of genes: `predict(adata, ["KLF1", "KLF1+CEBPA"])`, or the
        sets alone, from the control cells of the checkpoint, with the same tables: `scsave.method.predict`. UserError for what
        training can't say.
        """
        if control is not None and not isinstance(control, AnnData):
            control, target = None, control
        if self.model.space is not None or self.model.targets is None:
            sets = [] if target is None else target
            return predict(self._for_route(route), sets, control, seed, route, donor_key)
        check_route(self._for_route(route), route)
        donor = self.model.info["batch"] if donor_key is None else donor_key
        return predict_levels(Predictor.of(self._for_route(route), route), target, control, seed, donor)

    def expected_accuracy(self, control: AnnData, target: str, *, route: str = "between") -> dict[str, float] | None:
        """Change-PCC to expect of `respond` on these control cells: `expected_pcc`, `low` and `high` (80%), `held_out`.

        From training strata that were held out in turn; None where there were too few.
        """
        return trust_of(self._with("cells"), with_genes(as_prepared(control), self.genes), target, route)

    def integrate(self, data: AnnData, *, reference: str | None = None) -> AnnData:
        """The cells, new ones too, with an embedding in `obsm["X_save"]` and corrected log1p expression in `X`, (N, G).

        Expression is as batch `reference` would show it; None: the mean over the batches. UserError for a model without a
        technical column.
        """
        return integrate(self._with("head"), as_prepared(data), reference)

    def _for_route(self, route: str) -> Fitted:
        return self._with(ROUTES[route][0]) if route in ROUTES else self.model

    def _with(self, part: str) -> Fitted:
        """The model with `part` trained, now where training left it out and its cells are at hand."""
        asked, trainable = self._training, part != "head" or self.model.network.head is not None
        trainable = trainable and (part != "cells" or self.model.info["perturbation"] is not None)
        if asked is not None and trainable and not self.model.trained(part):
            options = dataclasses.replace(asked.options, parts=frozenset({"autoencoder", part}))
            extend(self.model, asked.nodes, asked.cells, asked.split, asked.columns, asked.seed, options)
        return self.model

    def __dir__(self) -> list[str]:
        return sorted(name for name in vars(type(self)) if not name.startswith("_") and name != "model")

    def __repr__(self) -> str:
        info, blocks = self.model.info, self.model.network.blocks
        trained_on = sum(row["cells"] for row in info["levels"])
        lines = {
            "data": f"{info['source']}, {f'{trained_on:,} training cells, ' if trained_on else ''}{len(self.genes):,} genes",
            "blocks": f"{blocks.n_blocks} of {blocks.block_size} genes ({blocks.scheme})",
        }
        for column in self.model.conditions.columns:
            levels = getattr(column, "levels", None)
            lines[f"condition {column.name}"] = (
                f"{len(levels)} levels: {listed(levels, _SHOWN)}" if levels else column.kind
            )
        lines["technical columns"] = ", ".join(info["technical"]) or "none"
        if info["perturbation"] is not None:
            lines["perturbation"] = f"{info['perturbation']}, its control is {info['control']}"
        lines["trained"] = ", ".join(_PARTS.get(part, part) for part in info["parts"]) or "nothing"
        lines["device"] = str(self.model.device)
        return "\n".join(["SAVE", *(f"  {name}: {text}" for name, text in lines.items())])
