"""The top of the page: what was run, in a few lines and one table."""

from __future__ import annotations

from scsave.results.report.content import DONE, Content
from scsave.results.report.html import Html, code, html, link, paragraph, section, table


def summary_section(content: Content) -> Html:
    results = content.results
    commits = {result.git_commit for result in results if result.git_commit}
    devices = sorted({result.device for result in results if result.device})
    dates = sorted(result.written for result in results)
    planned = [job for plan in content.plans for job in plan.jobs]
    told = [
        f"{len(results)} runs are done"
        + (f", from {dates[0][:10]} to {dates[-1][:10]}, on {' and '.join(devices)}" if results else "")
        + (f", from {len(commits)} commit{'s' * (len(commits) != 1)}." if commits else ".")
    ]
    if planned:
        open_jobs = sum(job.status != DONE for job in planned)
        told.append(f"{len(planned)} were planned, {open_jobs} of them have no result: ")
    return section(
        "summary",
        "What was run",
        paragraph(
            " ".join(told), link("not-run", "what was not run, and why") if planned else None, "." if planned else None
        ),
        _overview(content) if results else None,
        paragraph(
            "This page reads only ",
            code("results.json"),
            " files and the pictures beside them, and is made again by ",
            code(content.command),
            ".",
        ),
    )


def _overview(content: Content) -> Html:
    groups: dict[tuple[str, str, str], list] = {}
    for result in content.results:
        groups.setdefault((result.task, result.data, result.split), []).append(result)
    rows = [
        [
            html(f"{task} on {data}"),
            split,
            ", ".join(sorted({result.method for result in found}, key=lambda m: (m != "scsave", m))),
            ", ".join(map(str, sorted({result.seed for result in found}))),
            len(found),
        ]
        for (task, data, split), found in sorted(groups.items())
    ]
    return table(
        "Runs by task and data set", ["Task and data", "Split", "Methods", "Seeds", "Runs"], rows, numeric=False
    )
