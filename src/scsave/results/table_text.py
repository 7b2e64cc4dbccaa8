"""What a table says, whatever it is written in: heads, entries, what its numbers come to, and the lines at its foot."""

from __future__ import annotations

import pandas as pd

from scsave import keys
from scsave.metrics.row import CFGEN, CFGEN_LEGACY, NEUTRAL, Metric
from scsave.results.table import CEILING, COSTS, FLOOR, NO_SKILL, REPORTED, Column, Table

MISSING, PASSED, PAPER, DIFFERS = "–", "‡", "paper", "differs in"
BESIDE = (NO_SKILL, FLOOR, CEILING)
PROTOCOLS = {
    NEUTRAL: "PCA fitted on a reference half of the training cells, of which neither side of a comparison is",
    CFGEN: "PCA fitted on the real test cells, as in CFGen's code since its fix of 2026-07-26",
    CFGEN_LEGACY: "PCA fitted on the real test cells, generated cells projected without subtracting its mean, as in "
    "CFGen's code until its fix of 2026-07-26: a constant offset in every distance",
}
CEILING_PASSED = (
    "have passed the ceiling, which is no achievement: it is one random half of the real cells predicting the other, "
    "and half of the cells is noisier than a prediction that rests on all training cells"
)


def head(table: Table, column: Column) -> tuple[str, str]:
    """Data and group of a column, as far as the table has several; the metric with its arrow."""
    parts = [column.label] * (len({c.label for c in table.columns}) > 1)
    parts += [column.group] * (len({c.group for c in table.columns}) > 1)
    return ", ".join(parts), column.metric.label + (f" {column.metric.arrow}" if column.ranked else "")


def row_label(table: Table, row: str) -> str:
    """The method, without its settings, and what it is for where it is no method."""
    role = table.rows[row]
    return f"{table.method(row)} ({role})" if role and role not in (REPORTED, row) else table.method(row)


def entry_text(table: Table, row: str, number: int) -> str:
    """`8.30 ± 0.12 (3)`; for one run `8.30 (1)`, or its bootstrap interval, `0.52 [0.44, 0.60]`; `‡` at a passed ceiling."""
    entry, digits = table.entry(row, number), table.columns[number].digits
    mean, sd, n, low, high = entry[["mean", "sd", "n", "low", "high"]]
    if not n:
        return MISSING
    mark = f" {PASSED}" if table.passed(row, number) else ""
    if n == 1 and low == low and high == high:
        return f"{_rounded(mean, digits)} [{_rounded(low, digits)}, {_rounded(high, digits)}]{mark}"
    return f"{_rounded(mean, digits)}{f' ± {_rounded(sd, digits)}' if n > 1 else ''} ({n:.0f}){mark}"


def _rounded(value: float, digits: int) -> str:
    """Never `-0.00`."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}"


def paper_text(table: Table, row: str, number: int) -> str:
    """`8.30 (+0.12)`: the paper's number, and ours minus it; "" where the paper has none."""
    if (one := table.paper.get((row, number))) is None:
        return ""
    entry = table.entry(row, number)
    return f"{one.value:.2f}" + (f" ({entry['mean'] - one.value:+.2f})" if entry["n"] else "")


def title(table: Table) -> str:
    """`generation on heart, protocol neutral`."""
    labels = list(dict.fromkeys(column.label for column in table.columns))
    groups = list(dict.fromkeys(column.group for column in table.columns))
    where = labels[0] if len(labels) == 1 else f"{len(labels)} data sets"
    group = f", group {groups[0]}" if len(groups) == 1 and groups[0] != keys.ALL else ""
    protocol = f", protocol {table.protocol}" if table.protocol in PROTOCOLS else ""
    return f"{table.registry} on {where}{group}{protocol}"


def verdict(table: Table, number: int) -> str:
    """What a column comes to, in a sentence: the best method, beside the best no-skill row, the floor and the ceiling.

    "" for a cost and for a column without methods.
    """
    column = table.columns[number]
    means = {row: float(table.entry(row, number)["mean"]) for row in table.rows}
    of = {role: {row: x for row, x in means.items() if table.rows[row] == role and x == x} for role in ("", *BESIDE)}
    if not of[""] or not column.ranked:
        return ""
    best = column.metric.ranked(of[""])[0]
    said = {row: f"{row} ({_rounded(mean, column.digits)})" for row, mean in means.items()}
    parts = [f"best is {said[best]}" if len(of[""]) > 1 else f"{said[best]} is the only method"]
    for skill in column.metric.ranked(of[NO_SKILL])[:1]:
        beats = column.metric.better(*(round(means[row], column.digits) for row in (best, skill)))
        parts.append(f"{'better' if beats else 'no better'} than no skill, {said[skill]}")
    parts += [said[row] if row == role else f"{role} {said[row]}" for role in (FLOOR, CEILING) for row in of[role]]
    return f"{', '.join(part for part in head(table, column) if part)}: {'; '.join(parts)}"


def verdicts(table: Table) -> list[str]:
    return [said for number in range(len(table.columns)) if (said := verdict(table, number))]


def footer(table: Table, sources: str) -> list[str]:
    """Lines that a reader needs to believe a number; `sources` is the name of the file that traces each of them."""
    lines = [
        "mean ± sd over seeds (number of seeds), a seed being a split and weights of its own; best of a column in bold, "
        "second underlined, by the mean as shown; noise floor, training cells, ceiling and the paper's rows are not ranked, "
        "no-skill rows are never marked"
    ]
    if ((table.entries["n"] == 1) & table.entries["low"].notna()).any():
        lines.append("[low, high]: bootstrap 95% interval over perturbations, of a single run")
    if {column.group for column in table.columns} != {keys.ALL}:
        lines.append(
            "mean or pooled in brackets says how the group all is made; the group pooled is all test cells at once, any "
            "other its own part of them"
        )
    if methods := list(dict.fromkeys(m for row, number in table.entries.index for m in table.passed(row, number))):
        lines.append(f"{PASSED} {', '.join(methods)} {CEILING_PASSED}")
    # a run without versions had 1 throughout; columns keep versions apart, so the first run speaks for its column
    lines += [
        _metric(table, metric) for metric in {column.metric.key: column.metric for column in table.columns}.values()
    ]
    if table.protocol in PROTOCOLS:
        lines.append(f"protocol {table.protocol}: {PROTOCOLS[table.protocol]}")
    lines += [data_line(label, runs) for label, runs in table.runs.groupby("column", sort=False)]
    if table.paper:
        lines.append(_paper(table))
    return [*lines, *table.notes, f"file and command of every value: {sources}"]


def _metric(table: Table, metric: Metric) -> str:
    """The registry's line; where the runs were made with another version, that is said and not the formula of today."""
    if metric.name in COSTS:
        return f"{metric.label}: {metric.formula}, {metric.description}"
    shown = {column.label for column in table.columns if column.metric.key == metric.key}
    first = table.runs[table.runs["column"].isin(shown)].groupby("column", sort=False)["metric_versions"].first()
    then = {label: versions.get(metric.name, 1) for label, versions in first.items()}
    old = [f"v{version} in {label}" for label, version in then.items() if version != metric.version]
    return metric.footer + (f"; computed by another version: {', '.join(old)}" if old else "")


def data_line(label: str, runs: pd.DataFrame) -> str:
    """`toy: 100 cells x 50 genes, split random (seed 0 abababab); on cpu`."""
    first = runs.iloc[0]
    genes = "-".join(f"{n:,}" for n in sorted(runs["genes"].dropna().unique()))
    size = f"{first['cells']:,} cells x {genes} genes" if first["cells"] and genes else ""
    data = first["config"].get("data", {})
    capped = [f"{key} {data[key]:,}" for key in ("max_cells", "max_genes", "n_top_genes") if data.get(key)]
    size += (f" ({', '.join(capped)})" if capped else "") + ", " * bool(size)
    splits = runs.sort_values("seed").drop_duplicates("seed", keep="last")
    seeds = ", ".join(f"seed {one.seed} {one.split_hash[:8]}" for one in splits.itertuples())
    devices = ", ".join(sorted({device for device in runs["device"] if device}))
    return f"{label}: {size}split {first['split']} ({seeds})" + (f"; on {devices}" if devices else "")


def _paper(table: Table) -> str:
    first = "paper: the number that arXiv 2604.16776 reports, and ours minus it"
    notes = sorted({f"{one.method} {one.note}" for one in table.paper.values() if one.note})
    told = f" ({'; '.join(notes)})" if notes else ""
    if table.protocol not in PROTOCOLS:
        return f"{first}{told}"
    return (
        f"{first}, ours in protocol {table.protocol}{told}; the paper names neither space nor projection nor kernels (its "
        "WD is read as W1, its MMD as the biased MMD² of CFGen's code), so that a difference is like for like only if it "
        "measured so; --protocol cfgen and cfgen_legacy give the other readings"
    )
