"""A table as Markdown, LaTeX (booktabs), HTML and CSV, and the listing that traces each of its values to a run."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from scsave.files import write_text
from scsave.results.table_text import entry_text, footer, head, mark, paper_text, row_label, title
from scsave.results.tables import REPORTED, UNRANKED, Table

DIFFERS, PAPER = "differs in", "paper"
WIDEST_LATEX = 5  # columns of values beside each other
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\to$", "±": r"$\pm$", "²": r"$^2$",
    "Δ": r"$\Delta$", "∩": r"$\cap$", "–": "--", "·": r"$\cdot$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$",
    "⁻": r"$^-$", "[": r"{[}", "]": r"{]}", "‡": r"$\ddagger$",
}  # fmt: skip
# A page is narrower than a screen: what is wider than its text is shrunk, and nothing else.
_SHRUNK = r"""{\setbox0=\hbox{%%
%s}%%
\ifdim\wd0>\textwidth\resizebox{\textwidth}{!}{\box0}\else\leavevmode\box0\fi}"""


def sheet(table: Table, part: Sequence[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The texts of some columns, the row's label first and then what rows differ in, where they do; and the marks of each
    text (1 best, 2 second, else 0). Heads have two levels, data and metric."""
    rows, texts, marks = table.rows_of(part), {}, {}
    texts["", "", -2] = [row_label(table, row) for row in rows]
    if any(table.settings.get(row) for row in rows):
        texts["", DIFFERS, -1] = [table.settings.get(row, "") for row in rows]
    for number in part:
        top, name = head(table, table.columns[number])
        texts[top, name, number] = [entry_text(table, row, number) for row in rows]
        marks[top, name, number] = [mark(table, row, number) for row in rows]
        if any(at == number for _, at in table.paper):
            texts[top, PAPER, number] = [paper_text(table, row, number) for row in rows]
    frame = pd.DataFrame(texts)
    marked = pd.DataFrame(marks).reindex(columns=frame.columns, fill_value=0)
    return frame.droplevel(2, axis=1), marked.droplevel(2, axis=1)


def styled(frame: pd.DataFrame, marks: pd.DataFrame, best: str, second: str) -> Styler:
    """The texts with a style for best and second; one line of heads where there is one data set."""
    styles = marks.map(lambda rank: {1: best, 2: second}.get(rank, "")).to_numpy()
    if not any(top for top, _ in frame.columns):
        frame = frame.droplevel(0, axis=1)
    return frame.style.apply(lambda _: styles, axis=None).hide(axis="index")


def markdown(table: Table, gaps: pd.DataFrame, sources: str) -> str:
    """GitHub tables, as many as it takes for the width, and their foot; best **bold**, second <ins>underlined</ins>."""
    foot = "\n".join(f"- {escaped(line)}" for line in footer(table, sources))
    return "\n\n".join([f"### {escaped(title(table))}", *grids(table), foot]) + "\n" + markdown_not_run(gaps)


def grids(table: Table) -> list[str]:
    """The GitHub tables alone."""
    blocks = []
    for part in table.parts():
        frame, marks = sheet(table, part)
        heads = [f"{escaped(top)}<br>{escaped(name)}" if top else escaped(name) for top, name in frame.columns]
        lines = [heads, ["---" if name in ("", DIFFERS) else "---:" for _, name in frame.columns]]
        forms = marks.map({0: "{}", 1: "**{}**", 2: "<ins>{}</ins>"}.get).to_numpy()
        for line, form in zip(frame.map(escaped).to_numpy(), forms, strict=True):
            lines.append([one.format(text) for one, text in zip(form, line, strict=True)])
        blocks.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    return blocks


def markdown_not_run(gaps: pd.DataFrame) -> str:
    """What has no result, below a table or alone; "" where nothing is missing."""
    head = "\n| experiment | method | seeds | not in the table | the paper reports |\n| --- | --- | --- | --- | --- |\n"
    lines = gaps[["experiment", "method", "seeds", "why", "paper"]].map(escaped).to_numpy()
    return head * bool(len(lines)) + "".join("| " + " | ".join(line) + " |\n" for line in lines)


def escaped(text: str) -> str:
    """Plain text for a Markdown page."""
    return re.sub(r"([\\|*<>`])", r"\\\1", text)


def latex_escape(text: str) -> str:
    """Plain text for a LaTeX document: special signs escaped, arrows and the like as maths, a minus before a digit."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", "".join(_SPECIAL.get(sign, sign) for sign in text))


def latex(table: Table, gaps: pd.DataFrame, sources: str) -> str:
    r"""Table environments with booktabs rules, as many as it takes for the width; best \textbf, second \underline.

    Needs booktabs and graphicx.
    """
    line = "{0.experiment}, {0.method}, seeds {0.seeds}: {0.why}; paper: {0.paper}"
    lost = [line.format(gap) for gap in gaps.itertuples()]
    notes = [r"\par " + latex_escape(line) for line in [*footer(table, sources), *lost]]
    foot = [r"\par\medskip", r"\begin{minipage}{\textwidth}\scriptsize\raggedright", *notes, r"\end{minipage}"]
    texts, parts = [r"% needs \usepackage{booktabs,graphicx}"], table.parts(WIDEST_LATEX)
    for number, part in enumerate(parts):
        caption = latex_escape(title(table)) + ", continued" * (number > 0)
        texts += [r"\begin{table}[htbp]", r"\centering", rf"\caption{{{caption}}}", r"\footnotesize"]
        texts.append(_tabular(table, part))
        texts += [*(foot if number == len(parts) - 1 else []), r"\end{table}"]
    return "\n".join(texts) + "\n"


def _tabular(table: Table, part: Sequence[int]) -> str:
    frame, marks = sheet(table, part)
    style = styled(frame.map(latex_escape).rename(columns=latex_escape), marks, "textbf:--rwrap;", "underline:--rwrap;")
    form = "".join("l" if name in ("", DIFFERS) else "r" for _, name in frame.columns)
    lines = style.to_latex(hrules=True, column_format=form, multicol_align="c").strip().splitlines()
    bands = [2 if role == REPORTED else int(role in UNRANKED) for role in table.rows_of(part).values()]
    first = lines.index(r"\midrule") + 1
    for n in reversed(range(1, len(bands))):
        if bands[n] != bands[n - 1]:  # a rule between what is ranked, what it is read against, and the paper's
            lines.insert(first + n, r"\midrule")
    return _SHRUNK % "\n".join(lines)


def html(table: Table, gaps: pd.DataFrame, sources: str) -> str:
    """Plain tables to paste into a page, and their foot; best bold, second underlined."""
    look = "font-weight: bold;", "text-decoration: underline;"
    sheets = [styled(*sheet(table, part), *look) for part in table.parts()]
    tables = [one.format(escape="html").format_index(escape="html", axis="columns").to_html() for one in sheets]
    foot = "".join(f"<li>{escape(line)}</li>" for line in footer(table, sources))
    parts = [f"<h3>{escape(title(table))}</h3>", *tables, f"<ul>{foot}</ul>", gaps.to_html(index=False)]
    return "\n".join(parts) + "\n"


def tidy_csv(table: Table, gaps: pd.DataFrame, sources: str = "") -> str:
    """One line an entry, numbers unrounded; one line without numbers for each experiment that did not run."""
    lines = []
    for number, column in enumerate(table.columns):
        for row, role in table.rows.items():
            entry, paper = table.entry(row, number), table.paper.get((row, number))
            if entry.n or paper:
                line = _place(table, number, row) | {"differs": table.settings.get(row, ""), "role": role}
                line |= {"best": column.metric.best} | entry._asdict()
                line |= {} if entry.n == 1 else {"low": None, "high": None}
                line |= {"paper": paper and paper.value, "difference": paper and entry.mean - paper.value}
                lines.append(line | {"status": "run" if entry.n else "reported"})
    lines += [{"row": gap.experiment, "status": f"{gap.why} (seeds {gap.seeds})"} for gap in gaps.itertuples()]
    found = pd.DataFrame(lines)
    return found.astype({key: "Int64" for key in ("n", "rank", "metric_version") if key in found}).to_csv(index=False)


def sources_csv(table: Table) -> str:
    """One line a value: the results.json that it was read from, and the command that made it."""
    kept = ["command", "experiment", "config_hash", "split_hash", "git_commit", "device", "written"]
    found = table.values[["number", "label", "seed", "value", "run"]].join(table.runs[kept], on="run")
    places = pd.DataFrame([_place(table, one.number, one.label) for one in found.itertuples()], index=found.index)
    return places.join(found.drop(columns=["number", "label"]).rename(columns={"run": "results"})).to_csv(index=False)


def _place(table: Table, number: int, row: str) -> dict[str, object]:
    column = table.columns[number]
    versions = table.runs.loc[table.runs["column"] == column.label, "metric_versions"].iloc[0]
    place = {"row": row, "data": column.label, "group": column.group, "metric": column.metric.name}
    return place | {"metric_version": versions.get(column.metric.name, 1), "protocol": table.protocol}


FORMATS = {"markdown": (".md", markdown), "latex": (".tex", latex), "html": (".html", html), "csv": (".csv", tidy_csv)}


def write_table(folder: Path, name: str, table: Table, gaps: pd.DataFrame, formats: Iterable[str]) -> list[Path]:
    """`<name>.md`, `.tex`, `.html`, `.csv` as asked, and always `<name>.sources.csv`."""
    sources = folder / f"{name}.sources.csv"
    texts = {folder / f"{name}{FORMATS[kind][0]}": FORMATS[kind][1](table, gaps, sources.name) for kind in formats}
    for path, text in (texts | {sources: sources_csv(table)}).items():
        write_text(path, text)
    return [*texts, sources]
