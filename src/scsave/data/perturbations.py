"""Which genes does this perturbation label name? One canonical spelling for all the ones in circulation."""

import logging
import re

import pandas as pd

from scsave.errors import UserError

log = logging.getLogger(__name__)
SEPARATOR = "+"
_GUIDE = re.compile(r"^(g|sg|grna|sgrna|guide)?[-.]?\d+$", re.I)  # the end of a guide's name: no gene is called so
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
    """Canonical labels as categories, (N,).

    Raises UserError where no cell is control, where `control` does not read as one and another label does, and for labels
    that name guides instead of genes. Says which labels are control where there are several.
    """
    levels = labels.astype("category")
    names = {level: canonical(level, control) for level in levels.cat.categories}
    guides = [level for level, name in names.items() if any(map(_GUIDE.match, parse(name, control)))]
    if guides:
        column = f"obs['{labels.name}']"
        raise UserError(
            f"{where}: '{labels.name}' seems to name guides, such as '{guides[0]}', where genes are expected; make a column "
            f"of genes, {column}.astype(str).str.replace(r'_(sg|g)?[0-9]+$', '', regex=True), and name it in "
            "data.perturbation_key"
        )
    cells = levels.value_counts()
    taken = {str(level): int(cells[level]) for level, name in names.items() if name == control}
    others = [level for level in taken if level != control]
    if control in taken and others and not _CONTROL.match(control):
        raise UserError(
            f"{where}: data.control={control}, but '{others[0]}' ({taken[others[0]]} cells) reads as control too; rename or "
            "leave out one of them in the file"
        )
    if len(taken) > 1:
        counted = ", ".join(f"'{level}' {n}" for level, n in taken.items())
        log.warning("%s: several labels of '%s' are taken as control: %s cells", where, labels.name, counted)
    out = levels.map(names).astype("category")
    if control not in out.cat.categories:
        found = ", ".join(map(str, list(out.cat.categories)[:8]))
        raise UserError(
            f"{where}: no control cells: no level of '{labels.name}' reads as control ('{control}'); found {found}; "
            "give data.control=<the level of the unperturbed cells>"
        )
    return out
