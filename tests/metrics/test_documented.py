"""docs/evaluation.md names every metric of the registry, in its task's section, with its direction."""

import re

import pytest

from scsave.metrics.registry import PROTOCOLS, REGISTRY, rows

from ..conftest import ROOT

PAGE = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
SECTIONS = {
    "generation": "Generation",
    "batch_correction": "Batch correction",
    "response": "Response to a drug, a cytokine, a disease",
    "genetic": "Genetic perturbation",
}


def documented(task: str) -> dict[str, str]:
    """Metric -> arrow, from the table of the task's section."""
    section = re.search(rf"^## {SECTIONS[task]}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    found = {}
    for line in section[1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 4 and re.match("[↑↓→]", cells[1]):
            names, arrows = re.findall(r"`(\w+)`", cells[0]), cells[1].split(", ")
            found |= dict(zip(names, arrows if len(arrows) == len(names) else arrows * len(names), strict=True))
    return found


def test_every_task_of_the_registry_has_a_section():
    assert {row.task for row in REGISTRY.values()} == set(SECTIONS)


@pytest.mark.parametrize("task", SECTIONS)
def test_every_metric_is_there_with_its_direction(task):
    assert documented(task) == {name: row.arrow for name, row in rows(task).items()}


def test_the_protocols_are_there():
    assert all(f"`{name}`" in PAGE for name in PROTOCOLS)
