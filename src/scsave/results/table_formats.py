"""A table as Markdown, as LaTeX (booktabs) and as CSV, and the listing that traces each of its values to a run."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from scsave.results.not_run import NotRun
from scsave.results.table import Table, band
from scsave.results.table_text import finite, footer, heads, paper_text, row_label, title, value_text

PAPER = "paper"
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\to$", "±": r"$\pm$", "²": r"$^2$",
    "Δ": r"$\Delta$", "∩": r"$\cap$", "–": "--", "·": r"$\cdot$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$",
    "⁻": r"$^-$", "[": r"{[}", "]": r"{]}",
}  # fmt: skip


def markdown(table: Table, not_run: Sequence[NotRun], sources: str) -> str:
    """GitHub tables, as many as it takes for the width, and their foot; best **bold**, second <ins>underlined</ins>."""
    blocks = [_markdown_part(table, part) for part in table.parts()]
    foot = "\n".join(f"- {_md(line)}" for line in footer(table, sources))
    return "\n\n".join([f"### {_md(title(table))}", *blocks, foot]) + "\n" + markdown_not_run(not_run)


def _markdown_part(table: Table, part: list[int]) -> str:
    shown, lines = heads(table), [[""]]
    for number in part:
        head = shown[number]
        lines[0].append(f"{_md(head.top)}<br>{_md(head.metric)}" if head.top else _md(head.metric))
        lines[0] += [PAPER] * table.has_paper(number)
    lines.append(["---"] + ["---:"] * (len(lines[0]) - 1))
    for row in table.rows_of(part):
        line = [_md(row_label(table, row))]
        for number in part:
            cell = table.cell(row, number)
            text = value_text(cell, table.columns[number])
            line.append({1: f"**{text}**", 2: f"<ins>{text}</ins>"}.get(cell.rank or 0, text))
            line += [paper_text(cell)] * table.has_paper(number)
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown_not_run(not_run: Sequence[NotRun]) -> str:
    if not not_run:
        return ""
    lines = "\n".join(
        f"| {_md(one.experiment)} | {_md(one.method)} | {one.seeds} | {_md(one.why)} | {_md(one.paper)} |"
        for one in not_run
    )
    return f"\n| experiment | method | seeds | not in the table | the paper reports |\n| --- | --- | --- | --- | --- |\n{lines}\n"


def _md(text: str) -> str:
    for sign in ("\\", "|", "*", "<", ">", "`"):
        text = text.replace(sign, "\\" + sign)
    return text


WIDEST_LATEX, LINES_LATEX = 5, 56  # columns of values beside each other, lines of a float
# A page is narrower than a screen: what is wider than its text is shrunk, and nothing else.
_SHRUNK = r"""{\setbox0=\hbox{%%
%s}%%
\ifdim\wd0>\textwidth\resizebox{\textwidth}{!}{\box0}\else\leavevmode\box0\fi}"""


def latex_escape(text: str) -> str:
    """Plain text for a LaTeX document: special signs escaped, arrows and the like as maths."""
    return "".join(_SPECIAL.get(sign, sign) for sign in text)


def latex_number(text: str) -> str:
    """The text of a cell, with a minus for the hyphen before a digit."""
    return re.sub(r"-(?=\d)", "$-$", latex_escape(text))


def latex(table: Table, not_run: Sequence[NotRun], sources: str) -> str:
    r"""Table environments with booktabs rules, as many as it takes for the pages; best \textbf, second \underline.

    Needs booktabs and graphicx.
    """
    missing = [
        f"{one.experiment}, {one.method}, seeds {one.seeds}: {one.why}; paper: {one.paper or 'nothing'}"
        for one in not_run
    ]
    notes = [r"\par " + latex_escape(line) for line in [*footer(table, sources), *missing]]
    foot = "\n".join([r"\begin{minipage}{\textwidth}\scriptsize\raggedright", *notes, r"\end{minipage}"])
    blocks = [(len(table.rows_of(part)) + 5, _latex_part(table, part)) for part in table.parts(WIDEST_LATEX)]
    floats: list[list[str]] = []
    used = LINES_LATEX
    for lines, block in [*blocks, (2 * len(notes), foot)]:
        if used + lines > LINES_LATEX:
            floats.append([])
            used = 0
        floats[-1].append(block)
        used += lines
    texts = [r"% needs \usepackage{booktabs,graphicx}"]
    for number, parts in enumerate(floats):
        caption = latex_escape(title(table)) + ", continued" * (number > 0)
        head = [r"\begin{table}[htbp]", r"\centering", rf"\caption{{{caption}}}", r"\footnotesize"]
        texts += [*head, "\n\\par\\medskip\n".join(parts), r"\end{table}"]
    return "\n".join(texts) + "\n"


def _latex_part(table: Table, part: list[int]) -> str:
    shown = heads(table)
    widths = {number: 1 + table.has_paper(number) for number in part}
    lines = [r"\toprule"]
    if any(shown[number].top for number in part):
        cells, rules, at = [""], [], 2
        for top, group in groupby(part, key=lambda number: shown[number].top):
            span = sum(widths[number] for number in group)
            cells.append(rf"\multicolumn{{{span}}}{{c}}{{{latex_escape(top)}}}")
            rules.append(rf"\cmidrule(lr){{{at}-{at + span - 1}}}")
            at += span
        lines += [" & ".join(cells) + r" \\", " ".join(rules)]
    second = [""]
    for number in part:
        second += [latex_escape(shown[number].metric)] + [PAPER] * (widths[number] - 1)
    lines.append(" & ".join(second) + r" \\")
    before = None
    for row, role in table.rows_of(part).items():
        lines += [r"\midrule"] * (band(role) != before)
        before = band(role)
        line = [latex_escape(row_label(table, row))]
        for number in part:
            cell = table.cell(row, number)
            text = latex_number(value_text(cell, table.columns[number]))
            line.append({1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(cell.rank or 0, text))
            line += [latex_number(paper_text(cell))] * (widths[number] - 1)
        lines.append(" & ".join(line) + r" \\")
    form = f"l{'r' * sum(widths.values())}"
    body = "\n".join([rf"\begin{{tabular}}{{{form}}}", *lines, r"\bottomrule", r"\end{tabular}"])
    return _SHRUNK % body


def tidy_csv(table: Table, not_run: Sequence[NotRun]) -> str:
    """One line a cell, numbers unrounded; one line without numbers for each experiment that did not run."""
    lines = []
    for number, column in enumerate(table.columns):
        for row, role in table.rows.items():
            cell = table.cell(row, number)
            if not cell.n and cell.paper is None:
                continue
            low, high = cell.interval if cell.interval and cell.n == 1 else (None, None)
            paper = cell.paper.value if cell.paper else None
            lines.append(
                {
                    **_place(table, number, row),
                    "role": role,
                    "best": column.metric.best,
                    "mean": finite(cell.mean),
                    "sd": finite(cell.sd),
                    "n": cell.n,
                    "low": low,
                    "high": high,
                    "rank": cell.rank,
                    "paper": paper,
                    "difference": cell.mean - paper if paper is not None and cell.n else None,
                    "status": "run" if cell.n else "reported",
                }
            )
    lines += [{"row": one.experiment, "status": f"{one.why} (seeds {one.seeds})"} for one in not_run]
    return _csv(lines)


def sources_csv(table: Table) -> str:
    """One line a value: the results.json that it was read from, and the command that made it."""
    lines = []
    for (row, number), cell in table.cells.items():
        for seed, result in cell.sources.items():
            lines.append(
                {
                    **_place(table, number, row),
                    "seed": seed,
                    "value": finite(cell.values[seed]),
                    "results": str(result.path),
                    "command": result.command,
                    "experiment": result.experiment_name,
                    "config_hash": result.config_hash,
                    "split_hash": result.split_hash,
                    "git_commit": result.git_commit,
                    "device": result.device,
                    "written": result.written,
                }
            )
    return _csv(lines)


def _place(table: Table, number: int, row: str) -> dict[str, object]:
    column = table.columns[number]
    version = column.bench.first.metric_versions.get(column.metric.name, 1)
    return {
        "row": row,
        "data": column.bench.label,
        "group": column.group,
        "metric": column.metric.name,
        "metric_version": version,
        "protocol": table.protocol,
    }


def _csv(lines: Iterable[dict[str, object]]) -> str:
    lines = list(lines)
    out = io.StringIO()
    names = list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


FORMATS = {"markdown": ".md", "latex": ".tex", "csv": ".csv"}


def write_table(folder: Path, name: str, table: Table, not_run: Sequence[NotRun], formats: Iterable[str]) -> list[Path]:
    """`<name>.md`, `.tex`, `.csv` as asked, and always `<name>.sources.csv`."""
    from scsave.files import write_text

    sources = f"{name}.sources.csv"
    texts = {
        "markdown": lambda: markdown(table, not_run, sources),
        "latex": lambda: latex(table, not_run, sources),
        "csv": lambda: tidy_csv(table, not_run),
    }
    written = []
    for kind in formats:
        written.append(folder / f"{name}{FORMATS[kind]}")
        write_text(written[-1], texts[kind]())
    write_text(folder / sources, sources_csv(table))
    return [*written, folder / sources]
