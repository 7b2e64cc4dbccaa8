"""The split of task=perturbation: cell types or perturbations held out in turn, each a split (a fold) of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
from anndata import AnnData

from scsave.data.perturbations import canonical
from scsave.data.splits.perturbation import Gears, LeavePerturbation, perturbation_sets
from scsave.data.splits.split import Split
from scsave.data.splits.strategies import LeaveOut, Share
from scsave.errors import UserError, listed
from scsave.keys import Columns

Strategy = Callable[[AnnData, Columns, int], Split]
EVERY = "all"
FEWEST = 2  # cells that a mean and its noise need


@dataclass(kw_only=True)
class HoldOut:
    """What `hold_out` names is never seen under the target: one, several in turn, or every one in turn (`all`).

    Levels (a drug, a cytokine, a disease): the cells under `target` of one cell type; null is `all`. Sets of genes: one
    perturbation, in any spelling; null is GEARS' simulation split (`gears`: its options).
    """

    hold_out: str | int | list[str | int] | None = None
    target: str | int | None = None
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
            if self.hold_out is None:
                return {"": Gears(**self.gears)}
            _, sets = perturbation_sets(data, columns, "perturbation")
            known = [label for label, genes in sets.items() if genes]
            spelled = {label.casefold(): label for label in known}
            asked = [canonical(name, columns.control) for name in self.named]
            labels = known if EVERY in self.named else [spelled.get(name.casefold(), name) for name in asked]
            for name in [label for label in labels if label not in known]:
                raise UserError(f"task.hold_out={name}: no such perturbation; there are {_some(known, name)}")
            return {label: LeavePerturbation(label=label) for label in labels}
        target = target_level(data, columns, self.target)
        if columns.cell_type is None:
            raise UserError(
                f"task=perturbation holds cell types out, but {columns.name} names no column of them: set "
                "data.cell_type_key, or a split of your own (split=leave_out split.column=...)"
            )
        fit, unfit = scorable_types(data, columns, target)
        if self.hold_out is None or EVERY in self.named:
            if len(fit) < 2:
                raise UserError(
                    f"task=perturbation needs two cell types with cells under {columns.control} and {target}"
                )
            chosen = fit
        else:
            chosen = self.named
            for name in [name for name in chosen if name not in fit]:
                why = unfit.get(name, "no such cell type")
                raise UserError(f"task.hold_out={name}: {why}; types that can be held out: {', '.join(fit)}")
        where = {columns.perturbation: target}
        return {t: LeaveOut(column=columns.cell_type, level=t, where=where, val=self.val) for t in chosen}

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        """The first fold: for commands that want one split, such as `prepare_data.py --info`."""
        return next(iter(self.folds(data, columns).values()))(data, columns, seed)


def _some(known: list[str], asked: str) -> str:
    """Names to choose from: all of a dozen; of more, those that look like `asked` or else the first."""
    near = get_close_matches(asked, known, n=5) if len(known) > 12 else []
    return f"{', '.join(near)}, ... ({len(known)} in all)" if near else listed(known)


def target_level(data: AnnData, columns: Columns, target: str | int | None) -> str:
    """The level asked for; where none is named, the only one beside control. UserError says which there are."""
    levels = data.obs[columns.perturbation].astype(str)
    present = sorted(levels.unique())
    if columns.control not in present:
        raise UserError(
            f"no cell has {columns.perturbation}={columns.control} (data.control); levels: {', '.join(present)}"
        )
    others = [level for level in present if level != columns.control]
    if target is None and len(others) != 1:
        raise UserError(f"task.target: {columns.perturbation} has {len(others)} levels beside control, name one: "
                        f"{', '.join(others)}")  # fmt: skip
    chosen = others[0] if target is None else str(target)
    if chosen not in others:
        raise UserError(f"task.target={chosen}: not a level of {columns.perturbation}; levels: {', '.join(others)}")
    return chosen


def scorable_types(data: AnnData, columns: Columns, target: str) -> tuple[list[str], dict[str, str]]:
    """Cell types with at least two cells under control and under the target, and what is wrong with each other one."""
    level, kind = (data.obs[c].astype(str).to_numpy() for c in (columns.perturbation, columns.cell_type))
    fit, unfit = [], {}
    for name in np.unique(kind):
        counts = {want: int(((kind == name) & (level == want)).sum()) for want in (columns.control, target)}
        short = [f"{n} cells with {columns.perturbation}={want}" for want, n in counts.items() if n < FEWEST]
        if short:
            unfit[str(name)] = f"has {' and '.join(short)}, {FEWEST} are needed"
        else:
            fit.append(str(name))
    return fit, unfit
