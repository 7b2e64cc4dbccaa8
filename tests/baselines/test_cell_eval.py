"""Our genetic scores beside those of cell-eval, on simulated cells."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "cell_eval_check.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("cell_eval_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_shared_metrics_agree_with_cell_eval(script):
    pytest.importorskip("cell_eval")
    table = script.compare(*script.simulated(0))
    assert (table["largest difference"] < 1e-6).all()
    assert 0 < table.loc["discrimination_score_l1", "ours"] < 1
    assert 0 < table.loc["pearson_delta", "ours"] < 1


def test_mistakes_are_one_clear_line(script, capsys, tmp_path):
    predicted, real, key, control = script.simulated(0)
    with pytest.raises(script.UserError, match="other genes"):
        script.compare(predicted[:, :5], real, key, control)
    with pytest.raises(script.UserError, match=r"--real: no cell has perturbation=control"):
        script.compare(predicted, real[np.flatnonzero(real.obs[key] != control)], key, control)
    assert script.main(["--predicted", str(tmp_path / "a.h5ad")]) == 2
    assert "give both" in capsys.readouterr().err
    assert script.main(["--run", str(tmp_path)]) == 2
    assert "no results.json there" in capsys.readouterr().err
    (tmp_path / "results.json").write_text('{"registry": "generation"}')
    assert script.main(["--run", str(tmp_path)]) == 2
    assert "not a run of task=perturbation on levels" in capsys.readouterr().err


@pytest.mark.slow
def test_scores_of_a_run_agree_with_cell_eval_s(script, tiny, tmp_path):
    pytest.importorskip("cell_eval")
    from scsave.runs.run import run

    run(tiny("task=perturbation", "response=default", "task.min_cells=60", "task.routes=[response]"), tmp_path / "run")
    table = script.compare_run(tmp_path / "run")
    assert set(table.index) == {"type_A", "type_B", "type_C"}
    assert set(table["metric"]) == set(script.ROWS)
    assert (table["largest difference"] < 1e-6).all()
