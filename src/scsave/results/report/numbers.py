"""The tables: a metric a line, a method a column, and below each the runs that its numbers are from."""

from __future__ import annotations

from scsave import keys
from scsave.results.collect import Result
from scsave.results.comparable import Bench
from scsave.results.report.content import Content, run_link
from scsave.results.report.html import Html, anchor, bullets, code, details, html, link, paragraph, section, table, tag
from scsave.results.report.reading import TASKS, metric_link
from scsave.results.report.runs import command_of
from scsave.results.table import Cell, Column, Table
from scsave.results.table_text import MISSING, paper_text, value_text
from scsave.results.tables import make_table, registries

Place = tuple[str, str]  # label of the bench, group


def numbers_section(content: Content) -> Html:
    parts: list[object] = []
    for registry, results in registries(content.results).items():
        parts.append(tag("h3", TASKS.get(registry, registry.replace("_", " "))))
        for data in sorted({result.data for result in results}):
            parts += _tables(content, [result for result in results if result.data == data])
    if not parts:
        parts.append(paragraph("No run is done yet."))
    intro = paragraph(
        "A column a method, the rows that are no methods last. ",
        tag("b", "Best"),
        " and ",
        tag("u", "second"),
        " of a line are marked by their mean over seeds as it is shown; floor and ceiling are not ranked. The head of a column "
        "leads to the runs that its numbers are from, and from there to their file and command; the name of a metric leads to "
        "its formula.",
    )
    return section("numbers", "Results", intro, *parts)


def _tables(content: Content, results: list[Result]) -> list[Html]:
    """One table for each group of runs that may be compared, and group of results.json that the task shows."""
    made = make_table(results, metrics=["all"])
    places: dict[Place, list[int]] = {}
    for number, column in enumerate(made.columns):
        places.setdefault((column.bench.label, column.group), []).append(number)
    return [
        html(
            *[
                _one(content, made, numbers, anchor("table", made.registry, *place))
                for place, numbers in places.items()
            ],
            tag("div", [paragraph(note, class_="note") for note in made.notes]),
        )
    ]


def _one(content: Content, made: Table, numbers: list[int], name: str) -> Html:
    column = made.columns[numbers[0]]
    there = [row for row in made.rows if any(made.cell(row, n).n or made.cell(row, n).paper for n in numbers)]
    ours = [row for row in there if any(made.cell(row, n).n for n in numbers)]
    lines = [
        [
            html(metric_link(made.columns[n].metric), f" {made.columns[n].metric.arrow}"),
            *[_cell(made, row, n) for row in there],
        ]
        for n in numbers
        if any(made.cell(row, n).n for row in ours)
    ]
    head = ["Metric", *[_head(made, row, name, row in ours) for row in there]]
    group = f", group {column.group}" if column.group != keys.ALL else ""
    caption = html(tag("b", f"{column.bench.label}{group}"), f", {_size(column.bench)}")
    return tag(
        "div", table(caption, head, lines), _sources(content, made, ours, numbers, name), class_="result", id=name
    )


def _size(bench: Bench) -> str:
    first = bench.first
    size = f"{first.cells:,} cells, {first.genes:,} genes, " if first.cells and first.genes else ""
    protocol = f", protocol {first.headline}" if len(first.protocols) > 1 else ""
    return f"{size}split {first.split}{protocol}"


def _head(made: Table, row: str, name: str, ours: bool) -> Html:
    role = made.rows[row]
    label = link(anchor(name, "from", row), row) if ours else html(row)
    return tag("th", label, tag("small", role) if role else None, scope="col", class_="aside" if role else None)


def _cell(made: Table, row: str, number: int) -> Html:
    cell, column = made.cell(row, number), made.columns[number]
    text: object = _value(cell, column)
    if cell.rank in (1, 2):
        text = tag({1: "b", 2: "u"}[cell.rank], text)
    paper = tag("small", "paper ", paper_text(cell)) if cell.paper else None
    return tag("td", text, paper, class_="aside" if made.rows[row] else None)


def _value(cell: Cell, column: Column) -> str:
    """As in all tables; the number of seeds only where there are several."""
    text = value_text(cell, column)
    return MISSING if not cell.n else text.removesuffix(" (1)")


def _sources(content: Content, made: Table, rows: list[str], numbers: list[int], name: str) -> Html:
    """Rows by the runs that they are from: the rows that are no methods are all in every run's file."""
    group = made.columns[numbers[0]].group
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        found = {seed: result for n in numbers for seed, result in made.cell(row, n).sources.items()}
        key = tuple(str(found[seed].path) for seed in sorted(found))
        groups.setdefault(key, []).append(row)
    by_path = {str(result.path): result for column in made.columns for result in column.bench.results}
    items = []
    for paths, labels in groups.items():
        named = [html(", " if n else "", _origin(label, name)) for n, label in enumerate(labels)]
        items.append(
            html(
                named, ": ", code(f'metrics[row]["{group}"]'), " of ", bullets(_run(content, by_path[p]) for p in paths)
            )
        )
    return details("Where each number is from", bullets(items))


def _origin(label: str, name: str) -> Html:
    """The name that the head of a column leads to, and the row's name in the file where that is another."""
    row = label.split(" (")[0]
    return html(
        tag("b", label, id=anchor(name, "from", label)), html(" (row ", code(row), ")") if row != label else None
    )


def _run(content: Content, result: Result) -> Html:
    where = run_link(result, code(content.shown(result.path)))
    return html(f"seed {result.seed}: ", where, ", made by ", code(command_of(result)))
