"""What was planned and did not run, and why; what could not be read."""

from __future__ import annotations

from collections import Counter

from scsave.results.report.content import DONE, Content, Job, Plan, run_link
from scsave.results.report.html import Html, bullets, code, details, html, paragraph, section, table, tag
from scsave.results.report.machines import duration

WAITING = {
    "pending": "not started yet, or stopped: the same command goes on",
    "running": "was running when this was written",
}


def not_run_section(content: Content) -> Html:
    parts: list[object] = [_plan(content, plan) for plan in content.plans]
    if not content.plans:
        parts.append(
            paragraph(
                "No plan of a reproduction was found, so this page can only tell what is there, not what is missing: ",
                code("make reproduce-small"),
                " and ",
                code("make reproduce-paper"),
                " leave one.",
            )
        )
    if content.damaged:
        parts.append(tag("h3", "Results that can't be read"))
        parts.append(bullets(content.damaged))
    return section("not-run", "What was not run, and why", *parts)


def _plan(content: Content, plan: Plan) -> Html:
    counted = Counter(job.status for job in plan.jobs)
    told = ", ".join(f"{n} {status}" for status, n in counted.most_common())
    groups = Counter((job.experiment, job.status, job.reason) for job in plan.jobs if job.status != DONE)
    parts: list[object] = [
        tag("h3", code(f"make reproduce-{plan.name}")),
        paragraph(f"{len(plan.jobs)} runs planned: {told}. State: ", code(content.shown(plan.path)), "."),
    ]
    if groups:
        rows = [
            [name or "–", n, status, reason or WAITING.get(status, "–")] for (name, status, reason), n in groups.items()
        ]
        parts.append(table("Runs that have no result", ["Experiment", "Runs", "Status", "Reason"], rows, numeric=False))
    parts.append(_commands(content, plan))
    return html(*parts)


def _commands(content: Content, plan: Plan) -> Html:
    done = {result.folder.resolve(): result for result in content.results}

    def row(job: Job) -> list[object]:
        result = done.get((content.root / job.folder).resolve())
        took = duration(job.seconds) if job.seconds else "–"
        return [job.experiment or "–", run_link(result, job.status) if result else job.status, took, code(job.command)]

    head = ["Experiment", "Status", "Took", "Command"]
    rows = [row(job) for job in plan.jobs]
    return details("Every planned run and its command", table("Planned runs", head, rows, numeric=False))
