"""docs/tutorials: every page runs, on few steps; a page and its notebook say the same; docs/api.md is what `make api` writes."""

import importlib.util
import re
import runpy
import shlex
from pathlib import Path

import pytest

from .conftest import ROOT

PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_tutorial_runs(page: Path, tmp_path, monkeypatch):
    import matplotlib
    import matplotlib.pyplot as plt

    for name in ("SCSAVE_KANG", "SCSAVE_SCREEN", "SCSAVE_SCREEN_COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCSAVE_STEPS", "3")
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context({"backend": "agg"}):
        found = runpy.run_path(str(page))
        assert plt.get_fignums(), "a tutorial draws"
        plt.close("all")
    assert repr(found["model"]).startswith("SAVE\n")
    assert not list(tmp_path.iterdir()), "a tutorial leaves no files"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_and_its_notebook_are_in_step(page: Path):
    import jupytext

    path = page.with_suffix(".ipynb")
    text, notebook = jupytext.read(page), jupytext.read(path)
    assert [(c.cell_type, c.source) for c in text.cells] == [(c.cell_type, c.source) for c in notebook.cells]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "not executed: make tutorials"
    kinds = {kind for cell in code for out in cell.outputs for kind in (*out.get("data", ()), out.output_type)}
    assert "image/png" in kinds
    assert "error" not in kinds
    assert path.stat().st_size < 300_000
    assert str(ROOT) not in path.read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every `python train.py ...` of the README, in a block or in a sentence."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"python train\.py[^`\n]*", text)
    return [command.split("  #")[0].split(" #")[0].strip() for command in found if "..." not in command]


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_is_one_that_the_config_takes(command: str, composed):
    from scsave.runs.config import validated

    if "--help" in command:
        return
    given = shlex.split(command.replace("<run dir>", "run").replace("<folder>", "folder"))[2:]
    cfg = composed(*(word for word in given if word != "-m" and not re.search(r"=.*,.*,|^seed=|^hydra/", word)))
    validated(cfg)


def test_there_are_four_tutorials_and_the_readme_names_each():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(PAGES) == 4
    assert all(f"docs/tutorials/{page.stem}.ipynb" in readme for page in PAGES)
    assert "docs/api.md" in readme


def test_the_api_page_is_what_the_docstrings_say():
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == module.api_page(), "write it anew: make api"
