"""Which genes does this perturbation label name? One canonical spelling for all the ones in circulation."""

import re

import pandas as pd

from scsave.errors import UserError

SEPARATOR = "+"
_CONTROL = re.compile(
    r"^(|ctrl|control|ctl|nt|non[-_ ]?targeting|unperturbed|neg[-_ ]?ctrl\d*|negative[-_ ]control)$", re.I
)


def parse(label: str, control: str | None = None) -> tuple[str, ...]:
    """Sorted genes of a label; the empty tuple is control.

    Understands `A+ctrl`, `ctrl+A`, `A+B`, `A_B`, `A_NegCtrl0__A_NegCtrl0` and every spelling of control; `control` is
    one more spelling of it, the data set's own. `_` separates only where there is no `+`.
    """
    label = str(label).strip()
    if control is not None and label == control:
        return ()
    if _CONTROL.match(label):
        return ()
    label = label.split("__")[0]
    parts = label.split(SEPARATOR) if SEPARATOR in label else label.split("_")
    return tuple(sorted({p.strip() for p in parts if not _CONTROL.match(p.strip()) and p.strip() != control}))


def canonical(label: str, control: str = "control") -> str:
    """`B+A`, `A_B` -> `A+B`; `A+ctrl` -> `A`; any control -> `control`."""
    return SEPARATOR.join(parse(label, control)) or control


def canonicalise(labels: pd.Series, control: str, where: str) -> pd.Series:
    """Canonical labels as categories, (N,); raises UserError where no cell is control."""
    levels = labels.astype("category")
    names = {level: canonical(level, control) for level in levels.cat.categories}
    out = levels.map(names).astype("category")
    if control not in out.cat.categories:
        found = ", ".join(map(str, list(out.cat.categories)[:8]))
        raise UserError(
            f"{where}: no control cells: no level of '{labels.name}' reads as control ('{control}'); found {found}; "
            "give data.control=<the level of the unperturbed cells>"
        )
    return out
