"""The split of task=perturbation: cell types or perturbations held out in turn, each a split (a fold) of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.data.perturbations import canonical
from scsave.data.settings import Level
from scsave.data.splits.perturbation import Gears, LeavePerturbation, perturbation_sets
from scsave.data.splits.split import Split, make_split
from scsave.data.splits.strategies import Share, split_rest
from scsave.data.targets import Targets, asked_targets, labels
from scsave.errors import UserError, listed
from scsave.keys import Columns

Scope = Literal["type", "combination", "level"]
Strategy = Callable[[AnnData, Columns, int], Split]
EVERY = "all"
FEWEST = 2  # cells that a mean and its noise need


@dataclass(kw_only=True)
class HoldOut:
    """What `hold_out` names is never seen under the target: one, several in turn, or every one in turn (`all`).

    Levels (a drug, a cytokine, a disease): with `hold_out_scope=type` all treated cells of one cell type (null is `all`), so that
    every target is predicted from one fit; `combination` only those under one of the targets, in turn; `level` the target
    in every type: doses between and beyond those of training. Sets of genes: one perturbation, in any spelling; null is
    GEARS' simulation split (`gears`: its options).
    """

    hold_out: Level | list[Level] | None = None
    target: Any = None
    hold_out_scope: Scope = "type"
    val: Share = 0.1
    gears: dict[str, Any] = field(default_factory=dict)

    @property
    def named(self) -> list[str]:
        """What `hold_out` names, in its order, without repeats."""
        names = self.hold_out if isinstance(self.hold_out, list) else [self.hold_out]
        if not names:
            raise UserError("task.hold_out=[]: name what is held out, or all")
        return list(dict.fromkeys(map(str, names)))

    def folds(self, data: AnnData, columns: Columns) -> dict[str, Strategy]:
        """Strategies by name of what they hold out; the name is empty where there is one split only.

        Raises UserError for a type or perturbation that is not there, or that can't be scored.
        """
        if columns.kind == "genes":
            if self.hold_out_scope != "type" or self.target is not None:
                key = "target" if self.target is not None else "hold_out_scope"
                raise UserError(f"task.{key}: for levels; sets of genes are named by task.hold_out")
            if self.hold_out is None:
                return {"": Gears(**self.gears)}
            _, sets = perturbation_sets(data, columns, "perturbation")
            known = [label for label, genes in sets.items() if genes]
            spelled = {label.casefold(): label for label in known}
            asked = [canonical(name, columns.control) for name in self.named]
            labels = known if EVERY in self.named else [spelled.get(name.casefold(), name) for name in asked]
            for name in [label for label in labels if label not in known]:
                near = get_close_matches(name, known, n=5) if len(known) > 12 else []  # else all of a dozen
                some = f"{', '.join(near)}, ... ({len(known)} in all)" if near else listed(known)
                raise UserError(f"task.hold_out={name}: no such perturbation; there are {some}")
            return {label: LeavePerturbation(label=label) for label in labels}
        return self._levels(data, columns, targets_of(data, columns, self.target))

    def _levels(self, data: AnnData, columns: Columns, targets: list[str]) -> dict[str, Strategy]:
        """Folds over cell types, over types and targets, or over targets, as `hold_out_scope` says."""
        if self.hold_out_scope == "level":
            if self.hold_out is not None:
                raise UserError(
                    "task.hold_out names a type, but task.hold_out_scope=level holds out targets in all types"
                )
            return {target: HeldOut(targets=[target], scope=self.hold_out_scope, val=self.val) for target in targets}
        if columns.cell_type is None:
            raise UserError(
                f"task=perturbation holds cell types out, but {columns.name} names no column of them: set "
                "data.cell_type_key, or a split of your own (split=leave_out split.column=...)"
            )
        fit, unfit = scorable_types(data, columns, targets)
        if self.hold_out is None or EVERY in self.named:
            if len(fit) < 2:
                said = targets[0] if len(targets) == 1 else "a target"
                raise UserError(f"task=perturbation needs two cell types with cells under {columns.control} and {said}")
            chosen = list(fit)
        else:
            chosen = self.named
            for name in [name for name in chosen if name not in fit]:
                why = unfit.get(name, "no such cell type")
                raise UserError(f"task.hold_out={name}: {why}; types that can be held out: {', '.join(fit)}")
        if self.hold_out_scope == "type":
            return {t: HeldOut(kind=t, scope=self.hold_out_scope, val=self.val) for t in chosen}
        return {
            f"{t}, {target}": HeldOut(kind=t, targets=[target], scope=self.hold_out_scope, val=self.val)
            for t in chosen
            for target in fit[t]
        }

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        """The first fold: for commands that want one split, such as `prepare_data.py --info`."""
        return next(iter(self.folds(data, columns).values()))(data, columns, seed)


@dataclass(kw_only=True)
class HeldOut:
    """Treated cells held out: those of one type (`kind`; None: of all), under `targets` (None: under any)."""

    kind: str | None = None
    targets: list[str] | None = None
    scope: Scope = "type"
    val: Share = 0.1

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        label = labels(data.obs, columns)
        held = label != columns.control if self.targets is None else np.isin(label, self.targets)
        if self.kind is not None:
            held &= (data.obs[columns.cell_type].astype(str) == self.kind).to_numpy()
        groups = split_rest(held, data, columns, self.val, seed)
        if not (label[groups[keys.TRAIN]] != columns.control).any():
            raise UserError(
                f"task.hold_out_scope={self.scope}: without {', '.join(self.targets or [str(self.kind)])} no treated cell is "
                "left to learn from; hold out less"
            )
        known = Targets.of(data.obs.iloc[groups[keys.TRAIN]], columns)
        for target in self.targets or []:
            try:
                known.status(target)
            except UserError as error:
                raise UserError(f"task.hold_out_scope={self.scope}: {error}") from None
        info = {"type": self.kind, "targets": self.targets, "scope": self.scope, "seed": seed}
        return make_split(groups, data.obs_names, "leave_out", info)


def targets_of(data: AnnData, columns: Columns, asked: Any) -> list[str]:
    """Labels of the targets asked for (`scsave.data.targets`); None: all. UserError says which there are."""
    present = sorted(set(labels(data.obs, columns)))
    if columns.control not in present:
        raise UserError(
            f"no cell has {columns.perturbation}={columns.control} (data.control); levels: {listed(present)}"
        )
    key, others = columns.perturbation, [label for label in present if label != columns.control]
    if not others:
        raise UserError(f"task=perturbation: {key} has no level beside {columns.control} (data.control)")
    return asked_targets(others, asked, columns.perturbation, columns.perturbation_columns or [])


def scorable_types(data: AnnData, columns: Columns, targets: list[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Targets of each cell type with two cells there and under control, and what is wrong with each type that has none."""
    kind = data.obs[columns.cell_type].astype(str).to_numpy()
    table = pd.crosstab(kind, labels(data.obs, columns)).reindex(columns=[columns.control, *targets], fill_value=0)
    fit, unfit = dict[str, list[str]](), dict[str, str]()
    for name, counts in table.iterrows():
        good = [target for target in targets if counts[target] >= FEWEST]
        if good and counts[columns.control] >= FEWEST:
            fit[str(name)] = good
            continue
        wanted = [columns.control, *([] if good else targets[:1])]
        short = [f"{counts[w]} cells with {columns.perturbation}={w}" for w in wanted if counts[w] < FEWEST]
        known = " (mode=predict needs none, with a model of other types)" * (wanted[1:] != [] and len(short) == 1)
        unfit[str(name)] = f"has {' and '.join(short)}, {FEWEST} are needed to score it{known}"
    return fit, unfit
