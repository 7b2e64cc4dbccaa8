"""scripts/grids: every grid composes, can be cut, and is run and tabled by the script that it is for."""

from pathlib import Path

import pytest
import yaml

from scsave.errors import UserError
from scsave.runs.config import validated

ROOT = Path(__file__).resolve().parents[1]
GRIDS = sorted((ROOT / "scripts" / "grids").glob("*.yaml"))


@pytest.fixture
def runs(monkeypatch):
    """scripts/compare_runs.py"""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import compare_runs

    return compare_runs


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_case_and_data_set_of_a_grid_is_a_valid_run(path, runs, composed):
    grid, _ = runs.read_grid(path, [], [])
    task = ["task=batch_correction"] if path.stem.startswith("correction") else []
    first, *others = grid["data"].values()
    for data, case in [(first, case) for case in grid["cases"].values()] + [(data, []) for data in others]:
        cfg = composed(*task, *grid.get("common", []), *data, "data.path=cells.h5ad", *case)
        validated(cfg)


def test_a_grid_is_cut_to_what_is_asked_for(runs):
    path = ROOT / "scripts" / "grids" / "choices.yaml"
    grid, paths = runs.read_grid(path, ["pbmc3k=a=b.h5ad"], ["case=zinb", "seed=2", "case=chosen"])
    assert list(grid["cases"]) == ["chosen", "zinb"]
    assert grid["seeds"] == [2]
    assert list(grid["data"]) == ["pbmc68k", "pbmc3k"]
    assert paths == {"pbmc3k": "a=b.h5ad"}


@pytest.mark.parametrize(
    ("files", "only", "message"),
    [
        ([], ["case=zin"], "--only case=zin: unknown; cases of .*: chosen, zinb"),
        ([], ["seed=9"], "--only seed=9: unknown; seeds of .*: 0, 1, 2"),
        ([], ["model=x"], "--only model=x: unknown; data, case, seed are what it can name"),
        (["heart=x.h5ad"], [], "--path heart: NAME=FILE is expected; data sets of .*: pbmc68k, pbmc3k"),
        (["pbmc3k"], [], "--path pbmc3k: NAME=FILE"),
    ],
)
def test_names_that_a_grid_lacks_get_one_line(files, only, message, runs):
    with pytest.raises(UserError, match=message) as caught:
        runs.read_grid(ROOT / "scripts" / "grids" / "choices.yaml", files, only)
    assert "\n" not in str(caught.value)


def test_a_grid_that_is_not_there(runs, tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: no such grid"):
        runs.read_grid(tmp_path / "none.yaml", [], [])


def test_a_cut_grid_is_run_once_and_tabled(runs, tmp_path, capsys):
    grid = {
        "group": "test",
        "seeds": [0, 1],
        "common": ["baseline=mean", f"paths.cache={tmp_path}/cache"],
        "data": {"small": ["data=simulated", "data.n_cells=240", "data.n_genes=48"], "other": ["data=simulated"]},
        "cases": {"mean": [], "resample": ["baseline=train_resample"]},
        "columns": ["w1", "gene_mean_pearson"],
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    asked = [str(tmp_path / "grid.yaml"), "--only", "data=small", "seed=0", "--out", str(tmp_path / "out")]
    runs.run(asked)
    first = capsys.readouterr()
    assert "| mean | 1 |" in first.out
    assert "other" not in first.out
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.json"))
    assert made == [f"grid/small/{case}/0.json" for case in ("mean", "real", "resample", "train_resample")]
    runs.run(asked)
    again = capsys.readouterr()
    assert again.out == first.out
    assert "seed" not in again.err  # nothing was made again
