"""Labels of genetic perturbations to sets of genes: one canonical spelling for all the ones in circulation."""

import logging
import re
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from scsave.errors import UserError

log = logging.getLogger(__name__)
SEPARATOR = "+"
_GUIDE = re.compile(r"^(g|sg|grna|sgrna|guide)?[-.]?\d+$", re.I)  # the end of a guide's name: no gene is called so
_OTHER_SEPARATORS = re.compile(r"[,;|&]")
_CONTROL = re.compile(
    r"^(|ctrl|control|ctl|nt|non[-_ ]?targeting|unperturbed|neg[-_ ]?ctrl\d*|negative[-_ ]control)$", re.I
)


def parse(label: str, control: str | None = None) -> tuple[str, ...]:
    """Sorted genes of a label; the empty tuple is control.

    Understands `A+ctrl`, `ctrl+A`, `A+B`, `A_B`, `A_NegCtrl0__A_NegCtrl0` and every spelling of control; `control` is
    one more spelling of it, the data set's own. `_` separates only where there is no `+`.
    """
    label = str(label).strip()
    if label == control or _CONTROL.match(label):
        return ()
    label = label.split("__")[0]
    parts = label.split(SEPARATOR) if SEPARATOR in label else label.split("_")
    return tuple(sorted({p.strip() for p in parts if not _CONTROL.match(p.strip()) and p.strip() != control}))


def canonical(label: str, control: str = "control") -> str:
    """`B+A`, `A_B` -> `A+B`; `A+ctrl` -> `A`; any control -> `control`."""
    return SEPARATOR.join(parse(label, control)) or control


def canonical_names(labels: pd.Series, control: str) -> pd.Series:
    """`canonical` of every cell's label, (N,); each level is read once."""
    labels = labels.astype(str)
    return labels.map({level: canonical(level, control) for level in labels.unique()})


def canonicalise(labels: pd.Series, control: str, where: str) -> pd.Series:
    """Canonical labels as categories, (N,).

    Raises UserError where no cell is control, where `control` does not read as one and another label does, and for labels
    that name guides instead of genes. Logs which labels are control where there are several.
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
    if strange := [level for level in levels.cat.categories if _OTHER_SEPARATORS.search(str(level))]:
        raise UserError(f"{where}: '{labels.name}' has '{strange[0]}': write sets of genes as A+B or A_B")
    cells = levels.value_counts()
    taken = {str(level): int(cells[level]) for level, name in names.items() if name == control}
    others = [level for level in taken if level != control]
    if control in taken and others and not _CONTROL.match(control):
        too = f"'{others[0]}' ({taken[others[0]]} cells) reads as control too"
        raise UserError(f"{where}: data.control={control}, but {too}; rename or leave out one of them in the file")
    if others and control not in taken and not _CONTROL.match(control):
        why = f"is no level of '{labels.name}', but '{others[0]}' ({taken[others[0]]} cells) reads as control"
        raise UserError(f"{where}: data.control={control} {why}; set data.control={others[0]}")
    if len(taken) > 1:
        counted = ", ".join(f"'{level}' {n}" for level, n in taken.items())
        log.warning("%s: several labels of '%s' are taken as control: %s cells", where, labels.name, counted)
    out = levels.map(names).astype("category")
    if control not in out.cat.categories:
        found = f"reads as control ('{control}'); found {', '.join(map(str, list(out.cat.categories)[:8]))}"
        give = f"give data.control=<the level of the unperturbed cells>{unlabelled(labels, control)}"
        raise UserError(f"{where}: no control cells: no level of '{labels.name}' {found}; {give}")
    return out


def unlabelled(column: pd.Series, control: str) -> str:
    """How many cells have no label, and what to set if those are the controls; "" where every cell has one."""
    lost = int(column.isna().sum())
    if not lost:
        return ""
    fill = f"data.control={control} 'data.fill_missing={{{column.name}: {control}}}'"
    return f"; {lost} of {len(column)} cells have no label: if these are the controls, set {fill}"


def respelt(labels: pd.Series, panel: Iterable[str], control: str, where: str) -> pd.Series:
    """Canonical labels whose genes are each spelled one way, whatever their case: as in `panel`, else as most cells have it.

    Otherwise `stat1` would be a perturbation of its own, held out while STAT1 is trained on. Logs what was respelt.
    """
    cells, genes = labels.value_counts(), Counter[str]()
    for level in labels.cat.categories:
        genes.update(dict.fromkeys(parse(level, control), int(cells[level])))
    spelled = {gene.casefold(): gene for gene in sorted(genes, key=genes.get)}
    exact = set(panel)
    spelled |= {gene.casefold(): gene for gene in sorted(exact, reverse=True) if gene.casefold() in spelled}
    changed = {gene: spelled[gene.casefold()] for gene in genes if gene not in exact}
    changed = {gene: new for gene, new in changed.items() if new != gene}
    if not changed:
        return labels
    told = ", ".join(f"{old} as {new}" for old, new in sorted(changed.items())[:5])
    log.warning("%s: %d perturbed genes respelt: %s%s", where, len(changed), told, ", ..." if len(changed) > 5 else "")
    names = {
        level: canonical(SEPARATOR.join(changed.get(gene, gene) for gene in parse(level, control)), control)
        for level in labels.cat.categories
    }
    return labels.map(names).astype("category")
