"""Every run: its command, its file, its cells, where and when it ran. What every number of the page leads to."""

from __future__ import annotations

from scsave.results.collect import Result
from scsave.results.report.content import Content, run_id
from scsave.results.report.html import Html, code, details, html, paragraph, section, tag

COSTS = {
    "seconds_total": "seconds in all",
    "seconds_fit": "seconds to fit",
    "seconds_sample": "seconds to sample",
    "parameters": "parameters",
    "steps": "optimiser steps",
    "cells_seen": "cells seen",
    "sampling_evaluations": "network evaluations",
    "peak_rss_mb": "peak memory, MB",
    "peak_device_mb": "peak device memory, MB",
}


def runs_section(content: Content) -> Html:
    parts: list[object] = [
        paragraph(
            "The command of a run makes its file again: folders are named by the hash of all settings that can change a "
            "number, so the same command finds the same folder. Values are at ",
            code("metrics[row][group][metric]"),
            " and ",
            code("protocols[name]…"),
            " of the file, unrounded (",
            code("docs/results.md"),
            ").",
        )
    ]
    by_task: dict[tuple[str, str], list[Result]] = {}
    for result in sorted(content.results, key=lambda r: (r.task, r.data, r.method != "scsave", r.method, r.seed)):
        by_task.setdefault((result.task, result.data), []).append(result)
    for (task, data), results in by_task.items():
        parts.append(tag("h3", f"{task} on {data}"))
        parts += [_run(content, result) for result in results]
    if not content.results:
        parts.append(paragraph("No run is done yet: ", code("make demo"), " or ", code("make reproduce-small"), "."))
    return section("runs", "Every run, and how to make it again", *parts)


def _run(content: Content, result: Result) -> Html:
    facts = [
        ("results", code(content.shown(result.path))),
        ("command", tag("pre", code(command_of(result)))),
        ("experiment", result.experiment_name),
        ("written", result.written),
        ("commit", result.git_commit and code(result.git_commit)),
        ("machine", result.device),
        ("cells, genes", f"{shown_number(result.cells)} cells, {shown_number(result.genes)} genes"),
        ("split", html(result.split, ", hash ", code(result.split_hash[:12]))),
        ("settings", html("hash ", code(result.config_hash), ", whole in ", code(content.shown(config_of(result))))),
        (
            "cost",
            "; ".join(f"{shown_number(result.cost[key])} {name}" for key, name in COSTS.items() if _has(result, key)),
        ),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(result.versions.items()))),
    ]
    listed = [html(tag("dt", name), tag("dd", value)) for name, value in facts if value]
    named = f"{result.method}, seed {result.seed}, split {result.split}"
    if result.experiment_name:
        named += f", experiment {result.experiment_name}"
    return details(html(code(result.config_hash), " ", named), tag("dl", listed, id=run_id(result)))


def command_of(result: Result) -> str:
    return result.command or "not kept: run through Python, or by a version that did not keep it"


def config_of(result: Result):
    return result.folder / "config.yaml"


def _has(result: Result, key: str) -> bool:
    return result.cost.get(key) not in (None, 0)


def shown_number(value: float | int | None) -> str:
    """Thousands with commas, three digits otherwise; "–" for what is not there."""
    if value is None or value != value:
        return "–"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
