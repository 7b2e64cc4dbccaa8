"""What a table says, whatever it is written in: column heads, cell texts, and the lines at its foot."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scsave import keys
from scsave.metrics.row import CFGEN, CFGEN_LEGACY, NEUTRAL
from scsave.results.costs import is_cost
from scsave.results.table import REPORTED, Cell, Column, Table

MISSING = "–"
PROTOCOLS = {
    NEUTRAL: "PCA fitted on a reference half of the training cells, of which neither side of a comparison is",
    CFGEN: "PCA fitted on the real test cells, as in CFGen's code since its fix of 2026-07-26",
    CFGEN_LEGACY: "PCA fitted on the real test cells, generated cells projected without subtracting its mean, as in "
    "CFGen's code until its fix of 2026-07-26: a constant offset in every distance",
}


@dataclass(frozen=True)
class Head:
    """The head of a column in two lines: what is compared, and by what."""

    top: str
    metric: str


def heads(table: Table) -> list[Head]:
    """Data and group of each column, as far as the table has several; the metric with its arrow."""
    groups = len({column.group for column in table.columns}) > 1
    several = len({column.bench.label for column in table.columns}) > 1
    found = []
    for column in table.columns:
        parts = [column.bench.label] * several + [column.group] * groups
        arrow = "" if is_cost(column.metric) else f" {column.metric.arrow}"
        found.append(Head(", ".join(parts), f"{column.metric.label}{arrow}"))
    return found


def row_label(table: Table, row: str) -> str:
    role = table.rows[row]
    return f"{row} ({role})" if role and role not in (REPORTED, row) else row


def value_text(cell: Cell, column: Column) -> str:
    """`8.30 ± 0.12 (3)`; for one run `8.30 (1)`, or its bootstrap interval, `0.52 [0.44, 0.60]`."""
    if not cell.n:
        return MISSING
    mean, digits = _rounded(cell.mean, column.digits), column.digits
    if cell.n == 1 and cell.interval:
        low, high = cell.interval
        return f"{mean} [{_rounded(low, digits)}, {_rounded(high, digits)}]"
    spread = f" ± {_rounded(cell.sd, digits)}" if cell.n > 1 else ""
    return f"{mean}{spread} ({cell.n})"


def _rounded(value: float, digits: int) -> str:
    """Never `-0.00`."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def paper_text(cell: Cell) -> str:
    """`8.30 (+0.12)`: the paper's number, and ours minus it; "" where the paper has none."""
    if cell.paper is None:
        return ""
    if not cell.n:
        return f"{cell.paper.value:.2f}"
    return f"{cell.paper.value:.2f} ({cell.mean - cell.paper.value:+.2f})"


def title(table: Table) -> str:
    """`generation on heart, protocol neutral`."""
    labels = list(dict.fromkeys(column.bench.label for column in table.columns))
    groups = list(dict.fromkeys(column.group for column in table.columns))
    where = labels[0] if len(labels) == 1 else f"{len(labels)} data sets"
    group = f", group {groups[0]}" if len(groups) == 1 and groups[0] != "all" else ""
    protocol = f", protocol {table.protocol}" if table.protocol in PROTOCOLS else ""
    return f"{table.registry} on {where}{group}{protocol}"


def footer(table: Table, sources: str) -> list[str]:
    """Lines that a reader needs to believe a number; `sources` is the name of the file that traces each of them."""
    lines = [
        "mean ± sd over seeds (number of seeds), a seed being a split and weights of its own; best of a column in bold, "
        "second underlined, by the mean as shown; noise floor, training cells, ceiling and the paper's rows are not ranked"
    ]
    if any(cell.n == 1 and cell.interval for cell in table.cells.values()):
        lines.append("[low, high]: bootstrap 95% interval over perturbations, of a single run")
    if {column.group for column in table.columns} != {keys.ALL}:
        lines.append(
            "mean or pooled in brackets says how the group all is made; the group pooled is all test cells at once, any "
            "other its own part of them"
        )
    metrics = {column.metric.key: column.metric for column in table.columns}
    # a run without versions had 1 throughout; benches keep versions apart, so the first run speaks for its column
    lines += [_metric(table, key) for key in metrics]
    if table.protocol in PROTOCOLS:
        lines.append(f"protocol {table.protocol}: {PROTOCOLS[table.protocol]}")
    lines += [_data(column) for column in {column.bench.label: column for column in table.columns}.values()]
    if any(table.has_paper(number) for number in range(len(table.columns))):
        lines.append(_paper(table))
    return [*lines, *table.notes, f"file and command of every value: {sources}"]


def _metric(table: Table, key: str) -> str:
    """The registry's line; where the runs were made with another version, that is said and not the formula of today."""
    columns = [column for column in table.columns if column.metric.key == key]
    metric = columns[0].metric
    then = {column.bench.label: column.bench.first.metric_versions.get(metric.name, 1) for column in columns}
    old = [f"v{version} in {label}" for label, version in then.items() if version != metric.version]
    said = f"; computed by another version: {', '.join(old)}" if old and not is_cost(metric) else ""
    return (f"{metric.label}: {metric.formula}, {metric.description}" if is_cost(metric) else metric.footer) + said


def _data(column: Column) -> str:
    results = column.bench.results
    first = column.bench.first
    genes = sorted({result.genes for result in results if result.genes is not None})
    size = f"{first.cells:,} cells x {'-'.join(f'{n:,}' for n in genes)} genes" if first.cells and genes else ""
    data = first.config.get("data", {})
    capped = [f"{key} {data[key]:,}" for key in ("max_cells", "max_genes", "n_top_genes") if data.get(key)]
    size += (f" ({', '.join(capped)})" if capped else "") + ", " * bool(size)
    splits = {result.seed: result.split_hash[:8] for result in results}
    told = ", ".join(f"seed {seed} {digest}" for seed, digest in sorted(splits.items()))
    devices = sorted({result.device for result in results if result.device})
    return f"{column.bench.label}: {size}split {first.split} ({told})" + (
        f"; on {', '.join(devices)}" if devices else ""
    )


def _paper(table: Table) -> str:
    first = "paper: the number that arXiv 2604.16776 reports, and ours minus it"
    notes = {
        f"{cell.paper.method} {cell.paper.note}" for cell in table.cells.values() if cell.paper and cell.paper.note
    }
    told = f" ({'; '.join(sorted(notes))})" if notes else ""
    if table.protocol not in PROTOCOLS:
        return f"{first}{told}"
    return (
        f"{first}, ours in protocol {table.protocol}{told}; the paper names neither space nor projection nor kernels (its "
        "WD is read as W1, its MMD as the biased MMD² of CFGen's code), so that a difference is like for like only if it "
        "measured so; --protocol cfgen and cfgen_legacy give the other readings"
    )


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
