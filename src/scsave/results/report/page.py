"""The whole page: one file, no network, readable without JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from scsave.results.report.content import Content
from scsave.results.report.finding import finding_section
from scsave.results.report.html import Html, html, link, paragraph, tag
from scsave.results.report.machines import costs_section, machines_section
from scsave.results.report.not_run import not_run_section
from scsave.results.report.numbers import numbers_section
from scsave.results.report.pictures import pictures_section
from scsave.results.report.reading import reading_section
from scsave.results.report.runs import runs_section
from scsave.results.report.summary import summary_section

SECTIONS: dict[str, tuple[str, Callable[[Content], Html]]] = {
    "summary": ("What was run", summary_section),
    "reading": ("How to read a number", reading_section),
    "numbers": ("Results", numbers_section),
    "finding": ("The evaluation finding", finding_section),
    "pictures": ("Pictures", pictures_section),
    "costs": ("What it cost", costs_section),
    "not-run": ("What was not run", not_run_section),
    "machines": ("On what it ran", machines_section),
    "runs": ("Every run", runs_section),
}
TITLE = "scsave: report"


def page(content: Content) -> str:
    """The HTML of the report."""
    style = files("scsave.results.report").joinpath("style.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", TITLE),
        tag("style", Html(style)),
    )
    contents = tag("nav", tag("ul", [tag("li", link(k, t)) for k, (t, _) in SECTIONS.items()]), aria_label="Contents")
    made = content.made.strftime("%Y-%m-%d %H:%M UTC")
    header = tag(
        "header",
        tag("h1", "SAVE, reproduced and measured"),
        paragraph(
            "Multi-condition single-cell generation with gene block attention (arXiv 2604.16776): every run of this folder, its "
            f"numbers between a floor and a ceiling, and how to make each again. Made on {made}.",
            class_="lead",
        ),
    )
    body = tag(
        "body", link("summary", "Skip to the report", class_="skip"), header, contents, tag("main", _sections(content))
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _sections(content: Content) -> Html:
    return html([make(content) for _, make in SECTIONS.values()])
