"""A table of results: methods x (data x group x metric), mean and sd over seeds, ranks, the paper's numbers beside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from scsave import keys
from scsave.errors import UserError
from scsave.metrics.registry import rows as registry_rows
from scsave.metrics.row import PROTOCOLS, Metric
from scsave.results.collect import Result
from scsave.results.comparable import Bench, benches
from scsave.results.costs import cost_rows
from scsave.results.table import ORDER, REPORTED, Cell, Column, Table, role
from scsave.results.table_cells import clashing, fill
from scsave.results.table_paper import add_paper
from scsave.results.table_ranks import rank
from scsave.results.variants import named, suffixes

# What a table shows unless asked for more: a few of each kind, in registry order.
SHOWN = {
    "generation": ("w1", "mmd2_rbf", "c2st_auc", "recall", "variance_ratio"),
    "batch_correction": ("total", "bio_conservation", "batch_removal"),
    "response": ("pcc", "r2", "pcc_delta", "r2_delta", "w1"),
    "genetic": ("l2_top1000", "pcc_delta_centroid", "discrimination", "energy"),
}


def shown_metrics(registry: str) -> tuple[str, ...]:
    """What a table of this registry shows unless asked for more; of a task of one's own, every metric."""
    return SHOWN.get(registry) or tuple(registry_rows(registry))


def make_table(
    results: Sequence[Result],
    *,
    metrics: Sequence[str] | None = None,
    protocol: str | None = None,
    group: Sequence[str] | None = None,
    costs: bool = False,
    strict: bool = False,
) -> Table:
    """The table of runs that share a registry (a task's metrics).

    `metrics`: names of registry rows, `["all"]` for every one; `group`: patterns of groups of results.json. UserError for
    names that are not there; with `strict`, also where runs of one data set need more than one column.
    """
    (registry,) = {result.registry for result in results}
    protocol = _protocol(results, protocol)
    chosen = _metrics(registry, metrics, protocol if protocol in PROTOCOLS else PROTOCOLS[0])
    found = benches(results, chosen)
    if strict:
        _refuse(found)
    columns = []
    for bench in found:
        columns += [Column(bench, metric, name, protocol) for name in _groups(bench, group) for metric in chosen]
        columns += [Column(bench, metric, keys.ALL, protocol) for metric in cost_rows(registry).values() if costs]
    names, notes = suffixes(found)
    notes = list(dict.fromkeys([*(note for bench in found for note in bench.notes), *notes]))
    apart = clashing(columns)
    cells: dict[tuple[str, int], Cell] = {}
    for number, column in enumerate(columns):
        cells |= {(row, number): cell for row, cell in fill(column, names, apart, notes).items()}
    table = Table(registry, protocol, columns, {}, cells, notes)
    reported = [row for number in range(len(columns)) for row in add_paper(table, number)]
    rows = dict.fromkeys(row for row, _ in cells)
    roles = {row: REPORTED if row in reported else role(row) for row in rows}
    table.rows = dict(sorted(roles.items(), key=lambda pair: (ORDER.index(pair[1]), *_natural(pair[0]))))
    for number in range(len(columns)):
        rank(table, number)
    return table


def _natural(row: str) -> tuple[bool, list[tuple[float, str]]]:
    """SAVE first, numbers by their size: 600 before 1600."""
    parts = re.findall(r"(\d+(?:\.\d+)?)|(\D+)", row)
    return not row.startswith("scsave"), [(float(number or -1), text.lower()) for number, text in parts]


def _protocol(results: Sequence[Result], asked: str | None) -> str:
    """The one protocol of the table; the headline one unless asked for another."""
    heads = {result.headline for result in results}
    if asked is None:
        if len(heads) > 1:
            raise UserError(f"the runs have several headline protocols ({', '.join(sorted(heads))}): give --protocol")
        return heads.pop()
    if "," in asked:
        raise UserError(
            f"--protocol {asked}: a column has one protocol, numbers of two can't stand in it; make two tables"
        )
    known = list(dict.fromkeys(name for result in results for name in result.protocols))
    if asked not in known:
        raise UserError(f"--protocol {asked}: none of the runs has it; they have: {', '.join(known)}")
    return asked


def _metrics(registry: str, asked: Sequence[str] | None, protocol: str) -> list[Metric]:
    known = registry_rows(registry, protocol)
    if asked is None:
        return [known[name] for name in shown_metrics(registry) if name in known]
    if list(asked) == ["all"]:
        return list(known.values())
    if lost := [name for name in asked if name not in known]:
        raise UserError(
            f"--metrics {','.join(lost)}: no such metric of {registry} in protocol {protocol}; there are: {', '.join(known)}"
        )
    return [known[name] for name in dict.fromkeys(asked)]


def _groups(bench: Bench, asked: Sequence[str] | None) -> list[str]:
    """Groups to show: `all`, for runs with intervals all that are counted, or those that fit the patterns."""
    there = list(dict.fromkeys(g for result in bench.results for groups in result.metrics.values() for g in groups))
    if asked is None:
        counts = bench.first.info.get("counts") if "intervals" in bench.first.info else None
        return [name for name in counts if counts[name]] if counts else [keys.ALL]
    if not (found := [name for name in there if any(fnmatchcase(name, pattern) for pattern in asked)]):
        shown = ", ".join(there[:12]) + (" ..." if len(there) > 12 else "")
        raise UserError(f"--group {','.join(asked)}: no such group in {bench.label}; there are: {shown}")
    return found


def _refuse(found: list[Bench]) -> None:
    for data in dict.fromkeys(bench.first.data for bench in found):
        several = [bench for bench in found if bench.first.data == data]
        if len(several) > 1:
            why = next((note for bench in several for note in bench.notes), ", ".join(bench.label for bench in several))
            raise UserError(
                f"--strict: the runs on {data} can't share a column ({why}); name fewer folders or use --data, "
                "--experiment, --seed; without --strict they get columns of their own"
            )


def plan(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Tables by name: one for the metrics of each folder of experiments (`paper_generation`), or, where three settings
    can't tell its rows apart, of each experiment (`ablation_blocks_generation`); runs of no experiment have their own.
    """
    folders: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        folder = (result.experiment_name or "").rpartition("/")[0] or result.experiment_name or ""
        folders.setdefault((folder, result.registry), []).append(result)
    found: dict[str, list[Result]] = {}
    for (folder, registry), group in sorted(folders.items()):
        if not folder or named(benches(group, _metrics(registry, None, PROTOCOLS[0]))):
            found[table_name(folder, registry)] = group
            continue
        for name in sorted({result.experiment_name or "" for result in group}):
            found[table_name(name, registry)] = [result for result in group if result.experiment_name == name]
    return found


def table_name(experiment: str, registry: str) -> str:
    """File name of the table of an experiment, or of a folder of them."""
    return "_".join(part for part in (experiment.replace("/", "_"), registry) if part)


def registries(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Runs by the metrics that they have: one table each."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.registry, []).append(result)
    return found
