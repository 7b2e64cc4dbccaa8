"""From training cells to a fitted SAVE: blocks, vocabulary of conditions, scale, weights (method.md sections 1 to 5)."""

import logging
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.blocking.blocks import GeneBlocks
from scsave.blocking.schemes import BlockingContext
from scsave.components import Node, build
from scsave.data import stored_control
from scsave.data.conditions import Conditions
from scsave.data.preprocess import select_cells
from scsave.data.splits.split import Split
from scsave.data.splits.strata import combinations
from scsave.data.targets import Targets, bound
from scsave.errors import UserError
from scsave.flow.guidance import check_named
from scsave.flow.paths import CFM, VPCFM
from scsave.genes.space import TextSpace
from scsave.keys import Columns
from scsave.method.combined import fit_closed
from scsave.method.fitted import Fitted
from scsave.method.gene_sets import gene_set_columns, perturbed_genes
from scsave.method.integrate import fit_axes
from scsave.method.respond import check_routes
from scsave.method.technical import every_column, technical_columns
from scsave.method.trust import settle
from scsave.method.unseen import seen_combinations
from scsave.progress import phase
from scsave.stats.moments import gene_moments, library_range
from scsave.training.loader import CellRows
from scsave.training.options import FitOptions
from scsave.training.pairs import Pairs, pairs_of
from scsave.training.plan import Plan

log = logging.getLogger(__name__)
VAL_CELLS = 2000  # validation cells that are looked at, at most
NODES = (
    "backbone",
    "likelihood",
    "objective",
    "sampling",
    "vectors",
    "closed",
)  # config nodes that using a model needs


@dataclass(kw_only=True, eq=False)
class Parts:
    """Config nodes that SAVE is made of, see configs/method/save.yaml; `nodes` has them by name."""

    backbone: Node
    likelihood: Node
    objective: Node
    blocking: Node
    training: Node
    sampling: Node
    vectors: Node
    gene_vectors: Node
    closed: dict[str, Node]

    @property
    def nodes(self) -> dict[str, Node]:
        return {part.name: getattr(self, part.name) for part in fields(Parts)}


def fit(
    nodes: dict[str, Node], data: AnnData, split: Split, columns: Columns, seed: int, options: FitOptions
) -> Fitted:
    """Learn from `data[split.train]`; `split.val` says when to stop. `nodes` are those of `configs/method/save.yaml`."""
    train, val = select_cells(data, split.train), select_cells(data, split.val[:VAL_CELLS])
    plan = build(nodes["training"], "training")
    plan.check_guidance(nodes["sampling"].get("guidance", 1.0))
    technical = technical_columns(columns, train.obs)
    with phase("blocks"):
        blocks = build(nodes["blocking"], "blocking")(BlockingContext.of(train, columns.organism, options.cache, seed))
    space, sets = _gene_sets(nodes, train, data, columns)
    names = every_column(columns, technical) if options.conditions is None else options.conditions
    names = (
        list(dict.fromkeys([*names, *(columns.perturbation_columns or [])])) if columns.perturbation in names else names
    )
    conditions = Conditions.fit(train.obs, names, sets, columns.perturbation_columns)
    check_named(conditions, nodes["sampling"].get("guidance", 1.0))
    targets = None
    if columns.perturbation in names and columns.control is not None and not sets:
        targets = Targets.of(train.obs, columns, conditions)
    given = _given(nodes["backbone"].get("told"), options.decoder_conditions, technical, conditions)
    kept = {k: v for k, v in nodes.items() if k in NODES}
    model = Fitted.assemble(kept, blocks, conditions, given, space, seed, columns.perturbation, targets)
    model.info = {
        "source": columns.name,
        "blocking": {"scheme": blocks.scheme} | blocks.info,
        "library_range": library_range(train),
        "perturbation": columns.perturbation,
        "control": columns.control,
        "cell_type": columns.cell_type,
        "batch": columns.batch,
        "bound": bound_columns(columns, train.obs, names) if targets else [],
        "conditions": list(columns.conditions),
        "technical": technical,
        "levels": occurring(train.obs, conditions, sets),
        "parts": [],
    }
    check_routes(model, options.routes)
    if sets:
        labels = train.obs[columns.perturbation].astype(str)
        model.control = stored_control.drawn(train, (labels == columns.control).to_numpy(), seed)
        model.info["perturbed"] = sorted(labels.unique())
    # batch correction is unsupervised: there not even the dispersions start from what cell types leave
    with_flow = {"noise", "cells"} & options.parts
    combination, _ = combinations(train.obs, conditions.names if with_flow else model.decoder_conditions)
    model.network.likelihood.start_from(gene_moments(train, combination))
    log.info("blocks: %s of %s genes (%s) %s", blocks.n_blocks, blocks.block_size, blocks.scheme, _coverage(blocks))
    model.cost = {"parameters": sum(p.numel() for p in model.network.parameters())}
    _train(model, plan, train, val, columns, seed, options)
    return model


def extend(
    model: Fitted, nodes: dict[str, Node], data: AnnData, split: Split, columns: Columns, seed: int, options: FitOptions
) -> None:
    """Train the parts of `options.parts` that a fitted model lacks, on the same training cells; the rest stays as it is."""
    train, val = select_cells(data, split.train), select_cells(data, split.val[:VAL_CELLS])
    plan, have = build(nodes["training"], "training"), frozenset(model.info["parts"])
    done = {stage.name for stage in plan.stages() if stage.needed(have)}
    parts = options.parts
    if {"noise", "cells"} & (parts - have):  # one network: it learns both again
        done, parts = done - {"flow"}, parts | have
        if options.folder is not None:  # the finished stage's checkpoint would be taken for this one's
            (options.folder / "flow.ckpt").unlink(missing_ok=True)
    log.info("this model lacks %s: training it", ", ".join(sorted(options.parts - have)))
    _train(model, plan, train, val, columns, seed, replace(options, parts=parts, done=frozenset(done)))


def _train(
    model: Fitted, plan: Plan, train: AnnData, val: AnnData, columns: Columns, seed: int, options: FitOptions
) -> None:
    from scsave.training.fitting import fit_stages  # heavy: Lightning, which using a model does not need

    plan.check_parts(options.parts)
    conditions = model.conditions
    group, _ = combinations(train.obs, conditions.names)
    rows = _rows(train, conditions, group, pairs_of(train.obs, columns) if "cells" in options.parts else None)
    val_rows = _rows(select_cells(val, np.flatnonzero(conditions.knows(val.obs))), conditions)
    objective = model.sampler.objective
    if "cells" in options.parts:
        check_cells(objective, rows.pairs, columns)
    model.cost |= fit_stages(model.network, plan, objective, rows, val_rows, options, seed)
    absent = {"head"} if model.network.head is None else set()
    model.info["parts"] = sorted({*model.info["parts"], *options.parts} - absent)
    model.to(options.trainer.device)
    if model.network.head is not None and "head" in options.parts:
        fit_axes(model, train, seed)
    if "noise" in options.parts:
        model.seen = seen_combinations(model, train, columns.conditions, seed)
    if "cells" in options.parts:
        with phase("closed form beside the network"):
            fit_closed(model, train, columns, seed)
        model.info |= settle(model, plan, rows, train, seed)


def bound_columns(columns: Columns, obs: pd.DataFrame, names: list[str]) -> list[str]:
    """Condition columns that never keep a control cell's value under a target: a dose, a time, a donor nested in a disease."""
    free = [name for name in names if name not in (columns.perturbation, columns.cell_type)]
    return [name for name in free if name in (columns.perturbation_columns or []) or bound(obs, columns, name)]


def check_cells(objective: Any, pairs: Pairs | None, columns: Columns) -> None:
    """UserError where a flow from control cells can't be learnt: by this objective, or from these cells."""
    if not isinstance(objective, CFM) or isinstance(objective, VPCFM):
        raise UserError(
            f"objective={type(objective).__name__}: a flow from control cells needs straight paths; use objective=cfm, "
            "ot_cfm or sb_cfm, or a route from noise (task.route=generate)"
        )
    if pairs is None:
        raise UserError(
            f"no stratum of the training cells has both control and treated cells ({columns.perturbation}), so there is no "
            "change to learn"
        )


def _given(told: list[str] | None, asked: list[str] | None, technical: list[str], conditions: Conditions) -> list[str]:
    """The decoder's columns: those that the backbone's config names, else the technical ones."""
    if told is None:
        return technical if asked is None else asked
    if unknown := sorted(set(told) - set(conditions.names)):
        raise UserError(
            f"backbone.told={unknown[0]}: not a condition of the model; those are {', '.join(conditions.names) or 'none'}"
        )
    return list(told)


def occurring(obs: pd.DataFrame, conditions: Conditions, sets: dict[str, Any]) -> list[dict[str, Any]]:
    """Combinations of categorical levels that training cells have, and how many: technical levels are drawn from them."""
    names = [column.name for column in conditions.columns if column.kind == "categorical" and column.name not in sets]
    if not names:
        return []
    told = obs[names].astype(object).where(obs[names].notna(), keys.MASK).astype(str)
    table = told.value_counts().sort_index().reset_index(name="cells")
    return [row | {"cells": int(row["cells"])} for row in table.to_dict("records")]


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


def _rows(
    data: AnnData, conditions: Conditions, group: np.ndarray | None = None, pairs: Pairs | None = None
) -> CellRows:
    library, values = data.obs[keys.LIBRARY].to_numpy(), conditions.encode(data.obs)
    return CellRows(data.layers[keys.COUNTS], library, values, group, pairs)


def _coverage(blocks: GeneBlocks) -> str:
    share = blocks.info.get("coverage")
    return "" if share is None else f"coverage by the vectors {share:.1%}"
