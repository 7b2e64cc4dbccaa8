"""On what it ran: machines, commits, versions, dates; and what it cost."""

from __future__ import annotations

import statistics

from scsave.results.collect import Result
from scsave.results.report.content import Content
from scsave.results.report.html import Html, code, details, html, paragraph, section, table
from scsave.results.report.runs import shown_number


def machines_section(content: Content) -> Html:
    if not content.results:
        return section("machines", "On what it ran", paragraph("No run is done yet."))
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in content.results:
        groups.setdefault((result.device or "unknown", result.git_commit or "outside of a repository"), []).append(
            result
        )
    rows = []
    for (device, commit), results in sorted(groups.items()):
        dates = sorted(result.written for result in results)
        rows.append([device, code(commit[:12] + commit[40:]), len(results), _day(dates[0]), _day(dates[-1])])
    head = ["Machine", "Commit", "Runs", "First", "Last"]
    notes = []
    if any((result.git_commit or "").endswith("+") for result in content.results):
        notes.append(paragraph("A commit with + had uncommitted changes.", class_="note"))
    return section(
        "machines",
        "On what it ran",
        table("Machines, commits and dates (UTC) of the runs", head, rows, numeric=False),
        *notes,
        _versions(content.results),
    )


def _day(written: str) -> str:
    return written[:16].replace("T", " ")


def _versions(results: list[Result]) -> Html:
    found: dict[str, dict[str, int]] = {}
    for result in results:
        for name, version in result.versions.items():
            counted = found.setdefault(name, {})
            counted[version] = counted.get(version, 0) + 1
    rows = [
        [code(name), ", ".join(f"{v} ({n} runs)" if len(versions) > 1 else v for v, n in sorted(versions.items()))]
        for name, versions in sorted(found.items())
    ]
    if not rows:
        return html()
    return details("Package versions", table("Package versions", ["Package", "Version"], rows, numeric=False))


def costs_section(content: Content) -> Html:
    if not content.results:
        return section("costs", "What it cost", paragraph("No run is done yet."))
    groups: dict[tuple[str, str, str, str], list[Result]] = {}
    for result in content.results:
        groups.setdefault((result.task, result.data, result.method, result.device), []).append(result)
    rows = [
        [f"{task}, {data}, {method}", *_cost(results)] for (task, data, method, _), results in sorted(groups.items())
    ]
    total = sum(result.cost.get("seconds_total") or 0 for result in content.results)
    head = [
        "Task, data, method",
        "Runs",
        "Parameters",
        "Steps",
        "Fit, s",
        "Sample, s",
        "Cells/s sampled",
        "Whole run, s",
        "Peak memory, MB",
    ]
    return section(
        "costs",
        "What it cost",
        paragraph(
            f"{len(content.results)} runs took {duration(total)} in all, with scoring and pictures. Means over the runs of a "
            "line; times are wall time on the machine above, beside whatever else ran on it.",
        ),
        table("Cost a run", head, rows),
        _left_out(content.results),
    )


def _cost(results: list[Result]) -> list[object]:
    keys = (
        "parameters",
        "steps",
        "seconds_fit",
        "seconds_sample",
        "cells_per_second_sample",
        "seconds_total",
        "peak_rss_mb",
    )
    shown: list[object] = [len(results)]
    for key in keys:
        values = [result.cost[key] for result in results if result.cost.get(key) is not None]
        shown.append(shown_number(statistics.fmean(values)) if values else "–")
    return shown


def _left_out(results: list[Result]) -> Html:
    if any(result.cost.get("peak_device_mb") for result in results):
        return html()
    return paragraph("No run used an accelerator.", class_="note")


def duration(seconds: float) -> str:
    """`95.0` is "1 min 35 s"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
    shown = [f"{n} {unit}" for n, unit in parts if n]
    return " ".join(shown[:2]) or "0 s"
