"""docs/extending.md is true: its files, put into a copy of the repository, add options that run, and replace nothing."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import CELLS, NETWORK, ROOT, clean_environment

PAGE = ROOT / "docs" / "extending.md"
# Composes and runs every command of a list in one process: most of a tiny run is imports.
DRIVER = """
import json, sys
from pathlib import Path
from hydra import compose, initialize_config_dir
from scsave.runs.main import register_resolvers, run_dir
from scsave.errors import UserError
from scsave.results.frame import read
from scsave.results.tables import make_table
from scsave.runs.run import run
from scsave.runs.config import validated

register_resolvers()
with initialize_config_dir(str(Path("configs").absolute()), version_base="1.3"):
    for overrides in json.loads(sys.argv[1]):
        cfg = compose("train", overrides)
        run(cfg, Path(cfg.paths.outputs) / run_dir(cfg))
    runs = read(["outputs"])
    print("table:", json.dumps(list(make_table(runs[runs["registry"] == "augmentation"]).rows)))
    for override in json.loads(sys.argv[2]):
        try:
            validated(compose("train", override))
        except UserError as error:
            print("refused:", error)
"""


def files() -> dict[str, str]:
    """Path -> content of every block of the page that names its file."""
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return {path: f"# {path}\n{content}" for path, content in blocks}


def commands() -> list[list[str]]:
    """Overrides of every `python train.py` on the page."""
    lines = re.findall(r"^python train.py (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line) for line in lines]


def tiny(overrides: list[str]) -> list[str]:
    """The same on few cells for few steps; what the page asks for is kept."""
    given = {override.partition("=")[0] for override in overrides}
    cells = [o for o in CELLS if o.partition("=")[0] not in given and "data=simulated" in overrides]
    return [*overrides, *cells, *NETWORK]


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    """A copy of the repository with the page's files in it."""
    copy = tmp_path_factory.mktemp("extended")
    for folder in ("src", "configs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", copy)
    (copy / "data").symlink_to(ROOT / "data")
    for path, content in files().items():
        assert not (copy / path).exists(), f"{path} is there already: an extension may only add files"
        (copy / path).write_text(content, encoding="utf-8")
    return copy


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = clean_environment() | {"PYTHONPATH": str(folder / "src")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_page_has_an_example_of_each_kind():
    groups = {Path(path).parts[1] for path in files() if path.startswith("configs/")}
    assert groups == {"data", "blocking", "backbone", "objective", "training", "task"}
    assert len(commands()) == 8


def test_help_lists_the_new_options(extended):
    done = python(extended, "train.py", "--help")
    assert done.returncode == 0, done.stderr
    for name in ("count_table", "detection", "gated", "logit_normal", "decoder_last", "augmentation"):
        assert name in done.stdout


@pytest.mark.slow
def test_every_command_runs(extended):
    done = python(extended, "make_tables.py")
    assert done.returncode == 0, done.stderr
    wrong = [["objective=logit_normal", "objective.spread=-1"], ["data=count_table", "data.cells=a", "data.path=b"]]
    jobs = [[*tiny(command), "paths.outputs=outputs", "paths.cache=cache"] for command in commands()]
    done = python(extended, "-c", DRIVER, json.dumps(jobs), json.dumps(wrong))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "refused: objective.spread=-1: input should be greater than 0" in done.stdout
    (table,) = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("table: ")]
    assert sorted(table) == ["majority", "pca_gaussian", "real", "save"]
    runs = [json.loads(path.read_text()) for path in (extended / "outputs").rglob("results.json")]
    assert len(runs) == len(jobs)
    together = next(r for r in runs if r["data"] == "count_table" and r["task"] == "augmentation")
    assert together["model"]["blocking"]["scheme"] == "detection"
    assert together["config"]["backbone"]["gate_bias"] == 2.0
    assert together["config"]["objective"]["spread"] == 1.0
    assert together["cost"]["decoder_steps"] > 0
    for results in runs:
        method = results["metrics"][results["method"]]["all"]
        assert method, results["command"]
        assert all(value is not None for value in method.values()) or results["task"] == "generation"
    rows = next(r for r in runs if r["method"] == "pca_gaussian")["metrics"]
    assert set(rows) == {"pca_gaussian", "real", "majority"}
    assert rows["majority"]["all"]["balanced_accuracy"] == pytest.approx(1 / 3)
    assert rows["real"]["all"]["balanced_accuracy"] > rows["majority"]["all"]["balanced_accuracy"]
