"""A table as Markdown, LaTeX (booktabs), HTML and CSV, and the listing that traces each of its values to a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from scsave.files import write_text
from scsave.results.table import NO_SKILL, REPORTED, UNRANKED, Table
from scsave.results.table_text import DIFFERS, PAPER, entry_text, footer, head, paper_text, row_label, title, verdicts

FORMATS = {"markdown": ".md", "latex": ".tex", "html": ".html", "csv": ".csv"}
WIDEST_LATEX = 5  # columns of values beside each other
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\to$", "±": r"$\pm$", "²": r"$^2$",
    "Δ": r"$\Delta$", "∩": r"$\cap$", "–": "--", "·": r"$\cdot$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$",
    "⁻": r"$^-$", "[": r"{[}", "]": r"{]}", "‡": r"$\ddagger$", "‖": r"$\Vert$", "−": "$-$", "Σ": r"$\Sigma$",
}  # fmt: skip
# A page is narrower than a screen: what is wider than its text is shrunk, and nothing else.
_SHRUNK = r"""{\setbox0=\hbox{%%
%s}%%
\ifdim\wd0>\textwidth\resizebox{\textwidth}{!}{\box0}\else\leavevmode\box0\fi}"""


def sheet(table: Table, part: Sequence[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The texts of some columns, and of each text its rank where it is to be marked (1 best, 2 second, else 0).

    Heads have two levels, data and metric. The first column says in what rows differ, where they do.
    """
    rows = table.rows_of(part)
    texts, ranks = {}, {}
    if any(table.settings.get(row) for row in rows):
        texts["", DIFFERS, -1] = [table.settings.get(row, "") for row in rows]
    for number in part:
        top, name = head(table, table.columns[number])
        texts[top, name, number] = [entry_text(table, row, number) for row in rows]
        ranks[top, name, number] = [mark(table, row, number) for row in rows]
        if any(at == number for _, at in table.paper):
            texts[top, PAPER, number] = [paper_text(table, row, number) for row in rows]
    frame = pd.DataFrame(texts, index=pd.Index([row_label(table, row) for row in rows]))
    marks = pd.DataFrame(ranks, index=frame.index).reindex(columns=frame.columns, fill_value=0)
    frame.columns = marks.columns = pd.MultiIndex.from_tuples([key[:2] for key in frame.columns])
    return frame, marks


def mark(table: Table, row: str, number: int) -> int:
    """1 for the best of a column, 2 for the second, else 0; rows without skill are ranked and never marked."""
    rank = table.entry(row, number)["rank"]
    return int(rank) if rank in (1, 2) and table.rows[row] != NO_SKILL else 0


def styled(frame: pd.DataFrame, marks: pd.DataFrame, best: str, second: str) -> Styler:
    """The texts with a style for best and second."""
    styles = marks.map(lambda rank: {1: best, 2: second}.get(rank, "")).to_numpy()
    frame = frame.reset_index(names=[("", "")])  # labels may repeat, an index of a Styler may not
    if not any(top for top, _ in frame.columns):
        frame.columns = [name for _, name in frame.columns]
    return frame.style.apply(lambda _: _padded(styles), axis=None).hide(axis="index")


def _padded(styles):
    import numpy as np

    return np.pad(styles, ((0, 0), (1, 0)), constant_values="")


def markdown(table: Table, gaps: pd.DataFrame, sources: str) -> str:
    """GitHub tables, as many as it takes for the width, and their foot; best **bold**, second <ins>underlined</ins>."""
    blocks = []
    for part in table.parts():
        frame, marks = sheet(table, part)
        heads = [f"{_md(top)}<br>{_md(name)}" if top else _md(name) for top, name in frame.columns]
        lines = [["", *heads], ["---", *("---" if name == DIFFERS else "---:" for _, name in frame.columns)]]
        for label, texts, ranks in zip(frame.index, frame.to_numpy(), marks.to_numpy(), strict=True):
            forms = [{1: "**{}**", 2: "<ins>{}</ins>"}.get(rank, "{}") for rank in ranks]
            lines.append([_md(label), *(form.format(_md(text)) for form, text in zip(forms, texts, strict=True))])
        blocks.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    foot = "\n".join(f"- {_md(line)}" for line in [*verdicts(table), *footer(table, sources)])
    return "\n\n".join([f"### {_md(title(table))}", *blocks, foot]) + "\n" + markdown_not_run(gaps)


def markdown_not_run(gaps: pd.DataFrame) -> str:
    """What has no result, below a table or alone; "" where nothing is missing."""
    if gaps.empty:
        return ""
    head = "\n| experiment | method | seeds | not in the table | the paper reports |\n| --- | --- | --- | --- | --- |\n"
    shown = gaps[["experiment", "method", "seeds", "why", "paper"]].map(_md)
    return head + "".join("| " + " | ".join(line) + " |\n" for line in shown.to_numpy())


def _md(text: str) -> str:
    return re.sub(r"([\\|*<>`])", r"\\\1", text)


def latex_escape(text: str) -> str:
    """Plain text for a LaTeX document: special signs escaped, arrows and the like as maths, a minus before a digit."""
    escaped = "".join(_SPECIAL.get(sign, sign) for sign in text)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)


def latex(table: Table, gaps: pd.DataFrame, sources: str) -> str:
    r"""Table environments with booktabs rules, as many as it takes for the width; best \textbf, second \underline.

    Needs booktabs and graphicx.
    """
    missing = [
        f"{one.experiment}, {one.method}, seeds {one.seeds}: {one.why}; paper: {one.paper or 'nothing'}"
        for one in gaps.itertuples()
    ]
    notes = [r"\par " + latex_escape(line) for line in [*verdicts(table), *footer(table, sources), *missing]]
    foot = [r"\par\medskip", r"\begin{minipage}{\textwidth}\scriptsize\raggedright", *notes, r"\end{minipage}"]
    texts, parts = [r"% needs \usepackage{booktabs,graphicx}"], table.parts(WIDEST_LATEX)
    for number, part in enumerate(parts):
        caption = latex_escape(title(table)) + ", continued" * (number > 0)
        texts += [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{caption}}}",
            r"\footnotesize",
            _tabular(table, part),
        ]
        texts += [*(foot if number == len(parts) - 1 else []), r"\end{table}"]
    return "\n".join(texts) + "\n"


def _tabular(table: Table, part: Sequence[int]) -> str:
    frame, marks = sheet(table, part)
    frame = frame.map(latex_escape).rename(index=latex_escape, columns=latex_escape)
    style = styled(frame, marks, "textbf:--rwrap;", "underline:--rwrap;")
    form = "l" + "".join("l" if name == DIFFERS else "r" for _, name in frame.columns)
    lines = style.to_latex(hrules=True, column_format=form, multicol_align="c").strip().splitlines()
    bands = [2 if role == REPORTED else int(role in UNRANKED) for role in table.rows_of(part).values()]
    first = next(n for n, line in enumerate(lines) if line == r"\midrule") + 1
    for n in reversed(range(1, len(bands))):
        if bands[n] != bands[n - 1]:  # a rule between what is ranked, what it is read against, and the paper's
            lines.insert(first + n, r"\midrule")
    return _SHRUNK % "\n".join(lines)


def html(table: Table, gaps: pd.DataFrame, sources: str) -> str:
    """Plain tables to paste into a page, and their foot; best bold, second underlined."""
    from html import escape

    parts = [f"<h3>{escape(title(table))}</h3>"]
    for part in table.parts():
        style = styled(*sheet(table, part), "font-weight: bold;", "text-decoration: underline;")
        parts.append(style.format(escape="html").format_index(escape="html", axis="columns").to_html())
    foot = "".join(f"<li>{escape(line)}</li>" for line in [*verdicts(table), *footer(table, sources)])
    missing = "" if gaps.empty else gaps.to_html(index=False)
    return "\n".join([*parts, f"<ul>{foot}</ul>", missing]) + "\n"


def tidy_csv(table: Table, gaps: pd.DataFrame) -> str:
    """One line an entry, numbers unrounded; one line without numbers for each experiment that did not run."""
    lines = []
    for number, column in enumerate(table.columns):
        for row, role in table.rows.items():
            entry, paper = table.entry(row, number), table.paper.get((row, number))
            if not entry["n"] and paper is None:
                continue
            single = entry["n"] == 1
            line = _place(table, number, row) | {"differs": table.settings.get(row, ""), "role": role}
            line |= {"best": column.metric.best, "mean": entry["mean"], "sd": entry["sd"], "n": int(entry["n"])}
            line |= {"low": entry["low"] if single else None, "high": entry["high"] if single else None}
            line |= {"rank": int(entry["rank"]) if entry["rank"] == entry["rank"] else None}
            line |= {"paper": paper and paper.value, "difference": paper and entry["mean"] - paper.value}
            lines.append(line | {"status": "run" if entry["n"] else "reported"})
    lines += [{"row": gap.experiment, "status": f"{gap.why} (seeds {gap.seeds})"} for gap in gaps.itertuples()]
    return pd.DataFrame(lines).astype({"rank": "Int64", "n": "Int64"} if table.columns else {}).to_csv(index=False)


def sources_csv(table: Table) -> str:
    """One line a value: the results.json that it was read from, and the command that made it."""
    kept = ["command", "experiment", "config_hash", "split_hash", "git_commit", "device"]
    found = table.values.drop(columns=["row", "group", "metric", "protocol", "written"]).join(
        table.runs[[*kept, "written"]], on="run"
    )
    places = pd.DataFrame([_place(table, one.number, one.label) for one in found.itertuples()], index=found.index)
    found = found.rename(columns={"run": "results"})[["seed", "value", "results", *kept, "written"]]
    return places.join(found).to_csv(index=False)


def _place(table: Table, number: int, row: str) -> dict[str, object]:
    column = table.columns[number]
    first = table.runs[table.runs["column"] == column.label].iloc[0]
    return {
        "row": row,
        "data": column.label,
        "group": column.group,
        "metric": column.metric.name,
        "metric_version": first["metric_versions"].get(column.metric.name, 1),
        "protocol": table.protocol,
    }


def write_table(folder: Path, name: str, table: Table, gaps: pd.DataFrame, formats: Iterable[str]) -> list[Path]:
    """`<name>.md`, `.tex`, `.html`, `.csv` as asked, and always `<name>.sources.csv`."""
    sources = f"{name}.sources.csv"
    writers = {"markdown": markdown, "latex": latex, "html": html, "csv": lambda table, gaps, _: tidy_csv(table, gaps)}
    written = [folder / f"{name}{FORMATS[kind]}" for kind in formats]
    for kind, path in zip(formats, written, strict=True):
        write_text(path, writers[kind](table, gaps, sources))
    write_text(folder / sources, sources_csv(table))
    return [*written, folder / sources]
