"""A user's own control cells under targets that are levels: cells, a table of genes with intervals, and how far to trust it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.baselines.carry import observed, repeated
from scsave.data.from_anndata import as_prepared, with_genes
from scsave.data.targets import SEEN, Targets
from scsave.errors import UserError
from scsave.method.between import decoded_change, move
from scsave.method.combined import mixed, weight_of
from scsave.method.fitted import Fitted
from scsave.method.respond import counterfactual, respond
from scsave.method.trust import trust_of
from scsave.stats.expected import SHARE, TRUST, trust_table, unknown
from scsave.stats.moments import mean_expression

GENES = "per_gene"  # in uns of the cells, and the name of the table's file
AT_LEAST = 100  # rows of a type: whole molecules of a handful of control cells can't meet a mean, so those are repeated
DONOR_CELLS = 10  # control cells of a donor that it counts with
PSEUDO = 0.05  # added to means of counts in 10,000 before a ratio is taken


@dataclass(frozen=True)
class Predictor:
    """What predicts: SAVE, or another method that keeps what it learned. Cells are prepared, over `genes`.

    `respond(cells, target, seed)` gives cells, `change(cells, target)` the change of their mean (G,), as if they were the
    only ones; `trust(cells, target)` what accuracy to expect, None where nothing is known.
    """

    genes: list[str]
    targets: Targets
    cell_type: str | None
    respond: Callable[[AnnData, str, int], AnnData]
    change: Callable[[AnnData, str], np.ndarray]
    trust: Callable[[AnnData, str], dict[str, float] | None]

    @classmethod
    def of(cls, model: Fitted, route: str) -> Predictor:
        """A fitted SAVE along `route`."""

        def change(cells: AnnData, target: str) -> np.ndarray:
            if route not in ("between", keys.COMBINED):
                return mean_expression(respond(model, cells, target, 0, route)) - mean_expression(cells)
            obs = counterfactual(model, cells.obs, target)
            moved = move(model, cells, obs, model.info.get("leave", 1.0), target)
            found = decoded_change(model, moved, np.arange(cells.n_obs))
            if route == keys.COMBINED:
                found = mixed(weight_of(model), found, model.closed.change_of(cells, target))
            return np.maximum(found, -mean_expression(cells))

        return cls(
            model.genes,
            model.targets,
            model.info.get("cell_type"),
            lambda cells, target, seed: respond(model, cells, target, seed, route),
            change,
            lambda cells, target: trust_of(model, cells, target, route),
        )


def predict_levels(
    predictor: Predictor, asked: Any, control: AnnData | None, seed: int = 0, donor: str | None = None
) -> AnnData:
    """Control cells (an AnnData as its owner has it) under each target that `asked` means (`Targets.asked`), stacked.

    Cell types may be ones that training never saw; genes are matched by name. `donor` is the column of `obs` whose levels
    intervals are taken over. In `uns`: `trust` (`trust_table`), `per_gene` (see `gene_table`). UserError without control
    cells, and for a target that training did not see, but for numbers between and beyond its own.
    """
    names = predictor.targets.asked(asked)
    if control is None or not control.n_obs:
        raise UserError("control cells are needed: give a file that has some (data.path=<file>.h5ad)")
    given = as_prepared(control)
    start, column = with_genes(given, predictor.genes), predictor.cell_type
    kind = start.obs[column].astype(str).to_numpy() if column in start.obs else np.full(start.n_obs, keys.ALL)
    groups = {str(name): start[kind == name].copy() for name in sorted(set(kind))}
    in_file = np.isin(predictor.genes, given.var_names)
    parts, tables, trust, notes = {}, [], {}, {}
    for number, target in enumerate(names):
        status = predictor.targets.status(target)
        for name, cells in groups.items():
            made = predictor.respond(repeated(cells, -(-AT_LEAST // cells.n_obs)), target, seed + number)
            label = name if len(names) == 1 else f"{name}, {target}"
            parts[label] = made
            trust[label] = predictor.trust(cells, target) or unknown()
            notes |= {} if status == SEEN else {label: status}
            about = {"cell_type": name, "target": target}
            table = gene_table(
                about, predictor.genes, cells, made, donor, lambda some, target=target: predictor.change(some, target)
            )
            tables.append(table.assign(in_file=in_file))
    cells = ad.concat(
        list(parts.values()), merge="same", uns_merge="first", index_unique="-" if len(parts) > 1 else None
    )
    own = dict(cells.uns.get(keys.UNS, {}))
    own |= {"absent_genes": int((~in_file).sum()), "extra_genes": int((~given.var_names.isin(predictor.genes)).sum())}
    cells.uns = {keys.UNS: own, TRUST: trust_table(trust, notes), GENES: pd.concat(tables, ignore_index=True)}
    return cells


def gene_table(
    about: dict[str, str],
    genes: list[str],
    cells: AnnData,
    made: AnnData,
    donor: str | None,
    change_of: Callable[[AnnData], np.ndarray] | None = None,
) -> pd.DataFrame:
    """One row a gene for control `cells` and what was `made` of them: `change` of mean log1p expression with its 80% interval
    `low` to `high`, the same as `log2_fold_change` of expression in 10,000 counts, and the `direction` (`unclear` where the
    interval holds 0). `about` stands in every row.

    The interval is over donors where two or more have `DONOR_CELLS` control cells, each predicted by itself with `change_of`
    (without it, what was made of its cells); else over cells, which is too narrow: it knows nothing of how donors differ.
    Neither knows how wrong the model is.
    """
    from scipy import stats

    before = mean_expression(cells)
    levels = cells.obs[donor].astype(str).to_numpy() if donor in cells.obs else np.full(cells.n_obs, keys.ALL)
    donors = [d for d in sorted(set(levels)) if (levels == d).sum() >= DONOR_CELLS]
    if len(donors) > 1 and change_of is not None:
        each = np.array([change_of(cells[levels == d].copy()) for d in donors])  # (D, G)
    else:
        starts = _starts(cells, made)
        moved = sp.csr_matrix(made.X, dtype=np.float64) - sp.csr_matrix(cells.X, dtype=np.float64)[starts]  # (N, G)
        each = np.array([np.asarray(moved[levels[starts] == d].mean(axis=0)).ravel() for d in donors])
    if len(donors) > 1:
        n, change, spread, over = len(donors), each.mean(axis=0), each.std(axis=0, ddof=1), f"{len(donors)} donors"
    else:
        n, change = observed(made), np.asarray(moved.mean(axis=0)).ravel()
        square = np.asarray(moved.multiply(moved).mean(axis=0)).ravel()
        spread, over = np.sqrt(np.maximum(square - change**2, 0)), f"{n} cells (too narrow)"
    reach = stats.t.ppf(0.5 + SHARE / 2, n - 1) * spread / np.sqrt(n) if n > 1 else np.full(len(change), np.nan)
    low, high = change - reach, change + reach

    def fold(by: np.ndarray) -> np.ndarray:
        after = np.expm1(np.maximum(before + by, 0))
        return np.log2((after + PSEUDO) / (np.expm1(np.maximum(before, 0)) + PSEUDO))

    return pd.DataFrame(
        about
        | {
            "gene": genes,
            "control_mean": before,
            "change": change,
            "low": low,
            "high": high,
            "log2_fold_change": fold(change),
            "log2_low": fold(low),
            "log2_high": fold(high),
            "direction": np.where(low > 0, "up", np.where(high < 0, "down", "unclear")),
            "interval_over": over,
        }
    )


def _starts(cells: AnnData, made: AnnData) -> np.ndarray:
    """The place of the control cell of each row of `made`, (N,)."""
    names = made.obs[keys.CONTROL_CELL].astype(str) if keys.CONTROL_CELL in made.obs else made.obs_names
    return cells.obs_names.get_indexer(names)
