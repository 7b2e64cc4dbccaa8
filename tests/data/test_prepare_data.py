"""scripts/prepare_data.py as a user runs it."""

import importlib.util
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scsave.runs.main import entry, register_resolvers

from .sources import tiny

SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare_data.py"


@pytest.fixture
def prepare(monkeypatch):
    spec = importlib.util.spec_from_file_location("prepare_data", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    register_resolvers()

    def run(*args: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *args])
        entry(module.main)

    return run


def test_info_says_what_is_there(prepare, tmp_path, capsys):
    tiny(cells=120).write_h5ad(tmp_path / "a.h5ad")
    which = ["data=h5ad", f"data.path={tmp_path}/a.h5ad", "data.conditions=[cell_type,batch]"]
    prepare(*which, f"paths.cache={tmp_path}", "--info")
    said = capsys.readouterr().out
    for part in ("120 cells x 12 genes", "cell_type (condition)", "A 40, B 40, C 40", "split random: test", "24 cells"):
        assert part in said


def test_a_mistake_is_one_line_and_exit_code_2(prepare, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        prepare("data=h5ad", f"data.path={tmp_path}/none.h5ad", "data.conditions=[a]", f"paths.cache={tmp_path}")
    assert exit_.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: {tmp_path}/none.h5ad: no such file; give data.path=<an existing file>\n"


def test_info_of_a_file_that_nobody_has_described(prepare, tmp_path, capsys):
    """Columns, levels and matrices, and a command that then works."""
    data = tiny(cells=120)
    data.layers["raw_counts"], data.X = data.X.copy(), np.log1p(data.X)
    data.obs["donor"] = np.array(["d1", "d2"])[np.arange(120) % 2]
    data.obs["condition"] = np.array(["ctrl", "stim"])[np.arange(120) // 6 % 2]
    data.var = pd.DataFrame({"feature_name": list(data.var_names)}, index=[str(g) for g in range(12)])
    data.write_h5ad(tmp_path / "my file.h5ad")
    prepare("data=h5ad", f'data.path="{tmp_path}/my file.h5ad"', f"paths.cache={tmp_path}", "--info")
    said = " ".join(capsys.readouterr().out.split())
    for part in (
        "120 x 12", "already logged", "matrix raw_counts counts", "obs cell_type 3 levels: A 40, B 40, C 40",
        "obs age numeric, 1 to 2",
    ):  # fmt: skip
        assert part in said
    command = said.partition("to begin with python train.py ")[2]
    assert shlex.split(command) == [
        "data=h5ad", "task=perturbation", f"data.path={tmp_path}/my file.h5ad",
        "data.conditions=[condition,cell_type]", "data.cell_type_key=cell_type", "data.batch_key=batch",
        "data.perturbation_key=condition", "data.control=ctrl", "data.layer=raw_counts", "data.symbol_key=feature_name",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "proposed"),
    [
        (
            ("condition", "donor", "cell_type_major", "cell_type_fine"),
            [
                "data=h5ad", "task=perturbation", "data.conditions=[condition,cell_type_fine]",
                "data.cell_type_key=cell_type_fine", "data.batch_key=donor", "data.perturbation_key=condition",
                "data.control=ctrl",
            ],
        ),
        (
            ("cell_type", "cell_type_fine", "leiden", "donor"),
            ["data=h5ad", "data.conditions=[cell_type]", "data.cell_type_key=cell_type", "data.batch_key=donor"],
        ),
        (("donor",), ["data=h5ad", "task=batch_correction", "data.conditions=[donor]", "data.batch_key=donor"]),
    ],
)  # fmt: skip
def test_a_batch_is_no_condition_beside_others_and_types_are_the_finest(prepare, tmp_path, capsys, columns, proposed):
    data, at = tiny(cells=120), np.arange(120)
    levels = {
        "condition": np.array(["ctrl", "stim"])[at % 2], "donor": np.array(["d1", "d2"])[at // 2 % 2],
        "cell_type_major": np.array(["L", "M"])[at // 4 % 2], "cell_type_fine": np.array(["T", "B", "M"])[at // 4 % 3],
        "cell_type": np.array(["L", "M"])[at // 4 % 2], "leiden": np.array(list("0123456"))[at % 7],
    }  # fmt: skip
    data.obs = pd.DataFrame({name: levels[name] for name in columns}, index=data.obs_names)
    data.write_h5ad(tmp_path / "a.h5ad")
    prepare(f"{tmp_path}/a.h5ad", f"paths.cache={tmp_path}", "--info")
    command = " ".join(capsys.readouterr().out.split()).partition("to begin with python train.py ")[2]
    assert [one for one in shlex.split(command) if not one.startswith("data.path=")] == proposed
