"""From training cells to a fitted SAVE: blocks, vocabulary, response head, scale and weights."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from anndata import AnnData

from scsave import keys
from scsave.blocking.blocks import GeneBlocks
from scsave.blocking.schemes import BlockingContext
from scsave.data.conditions import Conditions
from scsave.data.gene_selection import select_cells
from scsave.method import stored_control
from scsave.method.integrate import COMBINATIONS, combinations, fit_axes
from scsave.method.perturbed_genes import gene_set_columns
from scsave.stats.columns import gene_moments, library_range
from scsave.training.fitting import fit_stages
from scsave.training.loader import CellRows

if TYPE_CHECKING:
    from scsave.data.splits.strategies import Split
    from scsave.keys import Columns
    from scsave.method.save import SAVE

log = logging.getLogger(__name__)


def learn(save: SAVE, data: AnnData, split: Split, columns: Columns, seed: int) -> None:
    """See `SAVE.fit`; `save` is changed in place."""
    train, val = select_cells(data, split.train), select_cells(data, split.val)
    gene_ids = list(data.var[keys.GENE_ID]) if keys.GENE_ID in data.var else None
    context = BlockingContext(
        genes=list(data.var_names),
        train=train,
        organism=columns.organism,
        gene_ids=gene_ids,
        cache=save.cache,
        seed=seed,
    )
    blocks = save.scheme(context)
    if save.head is not None:
        save.head.fit(train, columns, seed)
    sets = gene_set_columns(save.head, columns, data.obs)
    conditions = Conditions.fit(train.obs, columns.conditions if save.told is None else save.told, sets)
    save.assemble(blocks, conditions, seed=seed)
    save.info = {
        "source": columns.name,
        "blocking": {"scheme": blocks.scheme} | blocks.info,
        "library_range": library_range(train),
        "perturbation_key": columns.perturbation,
        "control": columns.control,
        "cell_type_key": columns.cell_type,
        "batch_key": columns.batch,
        "networks": save.networks,
    }
    if sets:
        is_control = (train.obs[columns.perturbation].astype(str) == columns.control).to_numpy()
        save.control = stored_control.drawn(train, is_control, seed)
    if save.plan.decoder_mask_rate == 0 and save.decoder_conditions:
        numeric = [column.name for column in conditions.columns if column.kind == "numeric"]
        save.info[COMBINATIONS] = combinations(
            train.obs, [c for c in save.decoder_conditions if c not in sets], numeric
        )
    combination = train.obs.groupby([*conditions.names], observed=True, sort=True).ngroup().to_numpy()
    save.model.start_from(gene_moments(train, combination))
    rows = _rows(train, conditions, combination)
    val = select_cells(val, np.flatnonzero(conditions.knows(val.obs)))
    val_rows = _rows(val, conditions)
    log.info("blocks: %s of %s genes (%s) %s", blocks.n_blocks, blocks.block_size, blocks.scheme, _coverage(blocks))
    save.cost = {"parameters": sum(p.numel() for p in save.model.parameters())}
    save.cost |= fit_stages(save.model, save.plan, save.objective, rows, val_rows, save.options, seed, save.networks)
    save.to(save.options.trainer.device)
    if save.n_axes:
        save.axes = fit_axes(save, train, save.n_axes, seed)
    if save.networks == "none" and save.head is not None:  # no network was trained: the head's own budget
        numbers = sum(value.numel() for value in save.head.state().values() if isinstance(value, torch.Tensor))
        save.cost = {"parameters": numbers, "steps": 0, "cells_seen": train.n_obs}


def _rows(data: AnnData, conditions: Conditions, combination: np.ndarray | None = None) -> CellRows:
    library, values = data.obs[keys.LIBRARY].to_numpy(), conditions.encode(data.obs)
    return CellRows(data.layers[keys.COUNTS], library, values, combination)


def _coverage(blocks: GeneBlocks) -> str:
    share = blocks.info.get("coverage")
    return "" if share is None else f"coverage by the vectors {share:.1%}"
