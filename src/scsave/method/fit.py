"""From training cells to a fitted SAVE: blocks, vocabulary of conditions, scale, weights (method.md sections 1 to 5)."""

from __future__ import annotations

import logging

import numpy as np
from anndata import AnnData

from scsave import keys
from scsave.blocking.blocks import GeneBlocks
from scsave.blocking.schemes import BlockingContext
from scsave.components import Node, build
from scsave.data import stored_control
from scsave.data.conditions import Conditions
from scsave.data.gene_selection import select_cells
from scsave.data.splits.split import Split
from scsave.genes.space import TextSpace
from scsave.keys import Columns
from scsave.method.fitted import Fitted
from scsave.method.gene_sets import gene_set_columns, perturbed_genes
from scsave.method.integrate import COMBINATIONS, combinations, fit_axes
from scsave.stats.columns import gene_moments, library_range
from scsave.training.fitting import fit_stages
from scsave.training.loader import CellRows
from scsave.training.options import FitOptions

log = logging.getLogger(__name__)
NODES = ("backbone", "likelihood", "objective", "sampling", "vectors")  # config nodes that using a model needs


def fit(
    nodes: dict[str, Node], data: AnnData, split: Split, columns: Columns, seed: int, options: FitOptions
) -> Fitted:
    """Learn from `data[split.train]`; `split.val` is for the loss curves. `nodes` are those of `configs/method/save.yaml`."""
    train, val = select_cells(data, split.train), select_cells(data, split.val)
    plan = build(nodes["training"], "training")
    plan.check_guidance(nodes["sampling"].get("guidance", 1.0))
    blocks = build(nodes["blocking"], "blocking")(_context(train, columns, options, seed))
    space, sets = _gene_sets(nodes, train, data, columns)
    told = columns.conditions if options.conditions is None else options.conditions
    conditions = Conditions.fit(train.obs, told, sets)
    decoder = conditions.names if options.decoder_conditions is None else options.decoder_conditions
    model = Fitted.assemble({k: v for k, v in nodes.items() if k in NODES}, blocks, conditions, decoder, space, seed)
    model.info = {
        "source": columns.name,
        "blocking": {"scheme": blocks.scheme} | blocks.info,
        "library_range": library_range(train),
        "perturbation": columns.perturbation,
        "control": columns.control,
        "cell_type": columns.cell_type,
        "batch": columns.batch,
        "networks": options.networks,
    }
    if sets:
        labels = train.obs[columns.perturbation].astype(str)
        model.control = stored_control.drawn(train, (labels == columns.control).to_numpy(), seed)
        model.info["perturbed"] = sorted(labels.unique())
    if plan.decoder_mask_rate == 0 and model.decoder_conditions:
        numeric = [column.name for column in conditions.columns if column.kind == "numeric"]
        named = [name for name in model.decoder_conditions if name not in sets]
        model.info[COMBINATIONS] = combinations(train.obs, named, numeric)
    group = train.obs.groupby([*conditions.names], observed=True, sort=True).ngroup().to_numpy()
    model.network.start_from(gene_moments(train, group))
    rows = _rows(train, conditions, group)
    val_rows = _rows(select_cells(val, np.flatnonzero(conditions.knows(val.obs))), conditions)
    log.info("blocks: %s of %s genes (%s) %s", blocks.n_blocks, blocks.block_size, blocks.scheme, _coverage(blocks))
    model.cost = {"parameters": sum(p.numel() for p in model.network.parameters())}
    objective = model.sampler.objective
    model.cost |= fit_stages(model.network, plan, objective, rows, val_rows, options, seed)
    model.to(options.trainer.device)
    if options.n_axes:
        model.axes = fit_axes(model, train, options.n_axes, seed)
    return model


def _context(train: AnnData, columns: Columns, options: FitOptions, seed: int) -> BlockingContext:
    gene_ids = list(train.var[keys.GENE_ID]) if keys.GENE_ID in train.var else None
    return BlockingContext(
        genes=list(train.var_names),
        train=train,
        organism=columns.organism,
        gene_ids=gene_ids,
        cache=options.cache,
        seed=seed,
    )


def _gene_sets(
    nodes: dict[str, Node], train: AnnData, data: AnnData, columns: Columns
) -> tuple[TextSpace | None, dict]:
    """The space of gene vectors and the condition column of sets of genes, where perturbations are that."""
    if columns.kind != "genes":
        return None, {}
    vectors = nodes["gene_vectors"]
    space = TextSpace(
        vectors=build(nodes["vectors"], "vectors"),
        missing=vectors["missing"],
        size=vectors["components"],
        use_text=vectors["use"],
    )
    seen = perturbed_genes(train.obs[columns.perturbation], columns.control)
    space.learn(train, seen, columns.organism)
    return space, gene_set_columns(space, seen, columns, data.obs)


def _rows(data: AnnData, conditions: Conditions, group: np.ndarray | None = None) -> CellRows:
    return CellRows(data.layers[keys.COUNTS], data.obs[keys.LIBRARY].to_numpy(), conditions.encode(data.obs), group)


def _coverage(blocks: GeneBlocks) -> str:
    share = blocks.info.get("coverage")
    return "" if share is None else f"coverage by the vectors {share:.1%}"
