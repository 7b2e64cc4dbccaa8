"""What a table says, whatever it is written in: heads, entries, a verdict on each column, and the lines at its foot."""

import re

import pandas as pd

from scsave import keys
from scsave.errors import listed
from scsave.metrics.row import CFGEN, CFGEN_LEGACY, NEUTRAL, Metric
from scsave.results.frame import UNRANKED_COLUMNS
from scsave.results.noise import between
from scsave.results.tables import CEILING, FLOOR, NO_SKILL, REPORTED, Column, Table

MISSING, PASSED = "–", "‡"
NEAR = 4  # rows within noise that a verdict names
PROTOCOLS = {
    NEUTRAL: "PCA fitted on a reference half of the training cells, of which neither side of a comparison is",
    CFGEN: "PCA fitted on the real test cells, as in CFGen's code since its fix of 2026-07-26",
    CFGEN_LEGACY: "PCA fitted on the real test cells, generated cells projected without subtracting its mean, as in "
    "CFGen's code until its fix of 2026-07-26: a constant offset in every distance",
}
SEEDS = (
    "mean ± sd over seeds (number of seeds), a seed being a split and weights of its own; best of a column in bold, second "
    "underlined, by the mean as shown; noise floor, training cells, ceiling and the paper's rows are not ranked, no-skill "
    "rows are never marked"
)
CEILING_PASSED = (
    "have passed the ceiling, which is no achievement: it is one random half of the real cells predicting the other, and "
    "half of the cells is noisier than a prediction that rests on all training cells"
)
PAPER = (
    "the paper names neither space nor projection nor kernels (its WD is read as W1, its MMD as the biased MMD² of CFGen's "
    "code), so that a difference is like for like only if it measured so; --protocol cfgen and cfgen_legacy give the other "
    "readings"
)


def head(table: Table, column: Column) -> tuple[str, str]:
    """Data and group of a column, as far as the table has several; the metric with its arrow."""
    parts = [column.label] * (len({c.label for c in table.columns}) > 1)
    parts += [column.group] * (len({c.group for c in table.columns}) > 1)
    return ", ".join(parts), column.metric.label + f" {column.metric.arrow}" * column.ranked


def row_label(table: Table, row: str) -> str:
    """The method, without its settings, and what it is for where it is no method."""
    role, settings = table.rows[row], table.settings.get(row)
    name = row.replace(f" ({settings})", "") if settings else row
    return f"{name} ({role})" if role and role not in (REPORTED, row) else name


def entry_text(table: Table, row: str, number: int) -> str:
    """`8.30 ± 0.12 (3)`; for one run `8.30 (1)`, or its bootstrap interval, `0.52 [0.44, 0.60]`; `‡` at a passed ceiling."""
    entry, digits = table.entry(row, number), table.columns[number].digits
    if not entry.n:
        return MISSING
    mean, sd, low, high = (_rounded(value, digits) for value in (entry.mean, entry.sd, entry.low, entry.high))
    single = f"{mean} [{low}, {high}]" if entry.low == entry.low else f"{mean} (1)"
    text = single if entry.n == 1 else f"{mean} ± {sd} ({entry.n:.0f})"
    return f"{text} {PASSED}" if table.passed(row, number) else text


def _rounded(value: float, digits: int) -> str:
    """Never `-0.00`."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def paper_text(table: Table, row: str, number: int) -> str:
    """`8.30 (+0.12)`: the paper's number, and ours minus it; "" where the paper has none."""
    one, entry = table.paper.get((row, number)), table.entry(row, number)
    if one is None:
        return ""
    return f"{one.value:.2f}" + (f" ({entry.mean - one.value:+.2f})" if entry.n else "")


def mark(table: Table, row: str, number: int) -> int:
    """1 for the best of a column, 2 for the second, else 0; rows without skill are ranked and never marked."""
    rank = table.entry(row, number).rank
    return rank if rank in (1, 2) and table.rows[row] != NO_SKILL else 0


def title(table: Table) -> str:
    """`generation on heart, protocol neutral`."""
    labels = list(dict.fromkeys(column.label for column in table.columns))
    groups = list(dict.fromkeys(column.group for column in table.columns))
    where = labels[0] if len(labels) == 1 else f"{len(labels)} data sets"
    group = f", group {groups[0]}" if len(groups) == 1 and groups[0] != keys.ALL else ""
    return f"{table.registry} on {where}{group}" + f", protocol {table.protocol}" * (table.protocol in PROTOCOLS)


def verdict(table: Table, number: int) -> str:
    """What a column comes to, in a sentence: the best method, the rows that are within noise of it
    (`scsave.results.noise`), whether it beats the best no-skill row, and how far it is from floor and ceiling.

    "" for a cost and for a column without methods.
    """
    column, of = table.columns[number], dict[str, dict[str, float]]()
    for row, role in table.rows.items():
        if table.entry(row, number).n:
            of.setdefault(role, {})[row] = table.shown(row, number)
    if "" not in of or not column.ranked:
        return ""
    shown = {row: value for rows in of.values() for row, value in rows.items()}
    said = {row: f"{row} ({_rounded(value, column.digits)})" for row, value in shown.items()}
    best, *others = column.metric.ranked(of[""])
    parts = [f"best is {said[best]}" if others else f"{said[best]} is the only method"]
    noise = {row: between(table, number, best, row) for row in shown if row != best}
    if known := [row for row in others if noise[row].within is not None]:
        near = [said[row] for row in known if noise[row].within]
        parts.append(f"within noise of it: {listed(near, NEAR)}" if near else "no other method is within noise of it")
    skills = column.metric.ranked(of.get(NO_SKILL, {}))[: int(column.metric.skilled)]
    for row in skills:
        how = "better than" if column.metric.better(shown[best], shown[row]) else "no better than"
        parts.append(f"{'within noise of' if noise[row].within else how} no skill, {said[row]}")
        worse = [said[other] for other in others if column.metric.better(shown[row], shown[other])
                 and not between(table, number, row, other).within]  # fmt: skip
        parts += [f"worse than that: {listed(worse, NEAR)}"] if worse else []
    for row, role in [(row, kind) for kind in (FLOOR, CEILING) for row in of.get(kind, {})]:
        name = said[row] if row == role else f"{role} {said[row]}"
        if not all(column.metric.better(shown[row], shown[skill]) for skill in skills):
            parts.append(f"the {name} is no better than no skill, so that this column can hardly tell methods apart")
            continue
        gap = abs(column.metric.sort_key(shown[best]) - column.metric.sort_key(shown[row]))
        side = "short of" if isinstance(column.metric.best, str) else f"farther from {column.metric.best:g} than"
        far = "within noise of" if noise[row].within else f"{_rounded(gap, column.digits)} {side}"
        far = "at or beyond" if not column.metric.better(shown[row], shown[best]) else far
        ways = [column.metric.dynamic_range(shown[best], shown[skill], shown[row]) for skill in skills
                if not noise[skill].within]  # fmt: skip
        way = "".join(f", {way:.0%} of the way from no skill" for way in ways if 0 <= way < 1)
        parts.append(f"{far} the {name}{way}")
    lost = {one.by for one in noise.values() if one.within is None}
    used = {one.by for one in noise.values() if one.within is not None}
    unknown = [f"noise is not known ({one})" for one in sorted(lost)]
    groups = sorted({int(n) for one in used for n in re.findall(r"over (\d+) groups", one)})
    among = " to ".join(map(str, dict.fromkeys([*groups[:1], *groups[-1:]])))
    used = {re.sub(r"over \d+ groups", f"over {among} groups", one) for one in used}
    parts += [f"noise by {' and '.join(sorted(used))}"] if used else unknown
    return f"{', '.join(filter(None, head(table, column)))}: {'; '.join(parts)}"


def in_short(table: Table, method: str) -> str:
    """One method in a sentence: in how many columns it beats the best no-skill row, and where it is at floor or ceiling.

    "" where there is neither such a row, nor a floor or ceiling.
    """
    skilled, without, at = [], [], dict[str, list[str]]()
    for number, column in enumerate(table.columns):
        if not (column.ranked and table.entry(method, number).n):
            continue
        better, own, label = column.metric.better, table.shown(method, number), column.metric.label
        known = [row for row in table.rows if table.entry(row, number).n]
        values = {row: table.shown(row, number) for row in known if table.rows[row] == NO_SKILL}
        if values and column.metric.skilled:
            skill = values[column.metric.ranked(values)[0]]
            (skilled if better(own, skill) else without).append(label)
        for row in (row for row in known if table.rows[row] in (FLOOR, CEILING)):
            at.setdefault(table.rows[row], []).extend([] if better(table.shown(row, number), own) else [label])
    parts = []
    if total := len(skilled) + len(without):
        lost = f" (not in {', '.join(without)})" if skilled and without else ""
        parts.append(f"better than no skill in {len(skilled)} of {total} metrics{lost}")
    for role, labels in at.items():
        parts.append(f"at or beyond the {role} in {f'{len(labels)}: ' + ', '.join(labels) if labels else 'none'}")
    return f"{method} is {'; '.join(parts)}" if parts else ""


def footer(table: Table, sources: str) -> list[str]:
    """The verdicts, and lines that a reader needs to believe a number; `sources` names the file that traces each of them."""
    lines = [*filter(None, (verdict(table, number) for number in range(len(table.columns)))), SEEDS]
    if any(entry.n == 1 and entry.low == entry.low for entry in table.entries.values()):
        lines.append("[low, high]: bootstrap 95% interval over perturbations, of a single run")
    if {column.group for column in table.columns} != {keys.ALL}:
        lines.append(
            "mean or pooled in brackets says how the group all is made; the group pooled is all test cells at once, any "
            "other its own part of them"
        )
    lines += passed_line(table, range(len(table.columns)))
    metrics = {column.metric.key: column.metric for column in table.columns}
    lines += [_metric(table, metric) for metric in metrics.values()]
    if table.protocol in PROTOCOLS:
        lines.append(f"protocol {table.protocol}: {PROTOCOLS[table.protocol]}")
    lines += [f"{label}: {data_text(runs)}" for label, runs in table.runs.groupby("column", sort=False)]
    if table.paper:
        notes = "; ".join(sorted({f"{one.method} {one.note}" for one in table.paper.values() if one.note}))
        ours, why = (f", ours in protocol {table.protocol}", f"; {PAPER}") if table.protocol in PROTOCOLS else ("", "")
        first = f"paper: the number that arXiv 2604.16776 reports, and ours minus it{ours}"
        lines.append(first + (f" ({notes})" if notes else "") + why)
    return [*lines, *table.notes, f"file and command of every value: {sources}"]


def passed_line(table: Table, numbers: range | list[int]) -> list[str]:
    """What it means that methods have passed the ceiling, in a line where some have."""
    methods = dict.fromkeys(method for row in table.rows for number in numbers for method in table.passed(row, number))
    return [f"{PASSED} {', '.join(methods)} {CEILING_PASSED}"] if methods else []


def _metric(table: Table, metric: Metric) -> str:
    """The registry's line; where the runs were made with another version, that is said and not the formula of today."""
    if metric.name in UNRANKED_COLUMNS:
        return f"{metric.label}: {metric.formula}, {metric.description}"
    # a run without versions had 1 throughout; columns keep versions apart, so the first run speaks for its column
    shown = [column.label for column in table.columns if column.metric.key == metric.key]
    first = table.runs[table.runs["column"].isin(shown)].drop_duplicates("column")
    then = {one.column: one.metric_versions.get(metric.name, 1) for one in first.itertuples()}
    old = [f"v{version} in {label}" for label, version in then.items() if version != metric.version]
    return metric.footer + (f"; computed by another version: {', '.join(old)}" if old else "")


def data_text(runs: pd.DataFrame) -> str:
    """`100 cells x 50 genes, split random (seed 0 abababab); on cpu`."""
    first, genes = runs.iloc[0], "-".join(f"{n:,}" for n in sorted(runs["genes"].dropna().unique()))
    size = f"{first['cells']:,} cells x {genes} genes" if first["cells"] and genes else ""
    data = first["config"].get("data", {})
    capped = [f"{key} {data[key]:,}" for key in ("max_cells", "max_genes", "n_top_genes") if data.get(key)]
    size += (f" ({', '.join(capped)})" if capped else "") + ", " * bool(size)
    splits = runs.sort_values("seed", kind="stable").drop_duplicates("seed", keep="last")
    seeds = ", ".join(f"seed {one.seed} {one.split_hash[:8]}" for one in splits.itertuples())
    devices = ", ".join(sorted({device for device in runs["device"] if device}))
    return f"{size}split {first['split']} ({seeds})" + (f"; on {devices}" if devices else "")
