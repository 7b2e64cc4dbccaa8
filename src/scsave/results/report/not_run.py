"""What was planned and did not run, and why; what could not be read."""

from __future__ import annotations

from collections import Counter

from scsave.results.report.content import DONE, Content, Job, Plan
from scsave.results.report.html import Html, bullets, code, details, html, paragraph, section, table, tag
from scsave.results.report.machines import duration


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
    open_jobs = [job for job in plan.jobs if job.status != DONE]
    parts: list[object] = [
        tag("h3", f"make {plan.name}" if plan.name.startswith("reproduce") else f"Reproduction {plan.name}"),
        paragraph(f"{len(plan.jobs)} runs planned: {told}. State: ", code(content.shown(plan.path)), "."),
    ]
    if open_jobs:
        rows = [[job.experiment or "–", job.overrides, job.status, job.reason or "–"] for job in open_jobs]
        head = ["Experiment", "Overrides", "Status", "Reason"]
        parts.append(table("Runs that have no result", head, rows, numeric=False))
    parts.append(_commands(plan))
    return html(*parts)


def _commands(plan: Plan) -> Html:
    def row(job: Job) -> list[object]:
        took = duration(job.seconds) if job.seconds else "–"
        return [job.experiment or "–", job.status, took, code(job.command)]

    head = ["Experiment", "Status", "Took", "Command"]
    return details(
        "Every planned run and its command", table("Planned runs", head, list(map(row, plan.jobs)), numeric=False)
    )
