"""HTML out of nested calls: what is text is escaped, what is markup already has the type `Html`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

VOID = frozenset({"img", "br", "meta", "link", "hr", "col"})


class Html(str):
    """Markup that is safe to put into a page as it is."""

    __slots__ = ()


def html(*children: object) -> Html:
    """Children one after another: `Html` as it is, lists flattened, None left out, everything else escaped text."""
    parts = []
    for child in children:
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(escape(child))
        elif isinstance(child, Iterable):
            parts.append(html(*child))
        elif child is not None:
            parts.append(escape(str(child)))
    return Html("".join(parts))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """`tag("a", "x", href="#y", class_="z")`. An attribute that is None or False is left out, True stands bare."""
    written = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {key}")
        elif value is not None and value is not False:
            written.append(f' {key}="{escape(str(value))}"')
    opening = f"<{name}{''.join(written)}>"
    return Html(opening if name in VOID else f"{opening}{html(*children)}</{name}>")


def anchor(*names: object) -> str:
    """An id for a page out of names: `anchor("metric", "generation/w1")` is "metric-generation-w1"."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(map(str, names)).lower()).strip("-")


def link(target: str, text: object, **attributes: object) -> Html:
    return tag("a", text, href=f"#{target}", **attributes)


def code(text: object) -> Html:
    return tag("code", text)


def paragraph(*children: object, **attributes: object) -> Html:
    return tag("p", *children, **attributes)


def bullets(items: Iterable[object]) -> Html:
    return tag("ul", [tag("li", item) for item in items])


def section(name: str, title: str, *body: object) -> Html:
    """A part of the page that the contents list can name."""
    return tag("section", tag("h2", title, id=anchor(name, "title")), *body, id=name, aria_labelledby=f"{name}-title")


def details(summary: object, *body: object, **attributes: object) -> Html:
    return tag("details", tag("summary", summary), tag("div", *body, class_="more"), **attributes)


def table(caption: object, head: list[object], rows: list[list[object]], numeric: bool = True, **attributes) -> Html:
    """A table in a box that scrolls by itself. The first cell of a row is its heading.

    A cell, or a column's heading, that is a `tag("td", ...)` or `tag("th", ...)` already is taken as it is.
    """

    def cell(value: object, kind: str, scope: str | None = None) -> Html:
        if isinstance(value, Html) and value.startswith(("<td", "<th")):
            return value
        return tag(kind, value, scope=scope)

    header = tag("thead", tag("tr", [cell(value, "th", "col") for value in head]))
    body = tag("tbody", [tag("tr", cell(row[0], "th", "row"), [cell(v, "td") for v in row[1:]]) for row in rows])
    whole = tag("table", tag("caption", tag("span", caption)), header, body, class_="numbers" if numeric else None)
    return tag("div", whole, class_="scroll", tabindex="0", role="region", **attributes)
