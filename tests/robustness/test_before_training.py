"""What data and settings decide is refused before a weight is trained; and cells without a type, which stop nothing."""

import numpy as np
import pandas as pd
import pytest

from scsave.data.conditions import Conditions
from scsave.keys import MASK, Columns
from scsave.method.fit import occurring
from scsave.metrics.integration import checked_labels
from scsave.runs.run import run
from scsave.tasks.correction import BatchCorrection
from scsave.training import fitting
from tests.data.sources import make
from tests.robustness.test_inputs import cells, refused


@pytest.fixture
def no_training(monkeypatch):
    def trained(*_, **__):
        raise AssertionError("something was trained")

    monkeypatch.setattr(fitting, "_fit", trained)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["task=perturbation", "task.hold_out=type_A", "task.route=transfer"], "route=transfer: not defined: the decoder is not"),
        (["task=perturbation", "task.hold_out=type_A", "task.routes=[transfer]"], "route=transfer: not defined"),
        (["task=perturbation", "task.hold_out=type_A", "task.route=transfer", "backbone.told=[batch]"], "not defined"),
        (["task=perturbation", "task.hold_out=type_A", "task.route=sideways"], "task.route=sideways: method=save has between"),
        (["sampling.guidance={batsch:2}"], "sampling.guidance names batsch, but the conditions are: cell_type, batch"),
        (["backbone.told=[batsch]"], "backbone.told=batsch: not a condition of the model"),
        (["task=batch_correction", "task.reference=b9"], "task.reference=b9: not a level of batch"),
        (["sampling.guidance=2", "training.mask_rate=0", "training.joint_mask_rate=0"], "needs a field that has seen [MASK]"),
    ],
)  # fmt: skip
def test_refused_before_training(tiny, tmp_path, no_training, asked, words):
    refused(lambda: run(tiny(*asked), tmp_path / "run"), words)


def partly() -> pd.DataFrame:
    """Every third cell has no type."""
    data = cells(120)
    data.obs["cell_type"] = np.where(np.arange(120) % 3 == 0, None, data.obs["cell_type"].astype(object))
    data.obs["lane"] = np.array(["l1", "l2"])[np.arange(120) // 2 % 2]
    return data


def test_cells_without_a_type_stay_where_the_task_can_do_with_them(tmp_path):
    partly().write_h5ad(tmp_path / "a.h5ad")
    settings = {"path": str(tmp_path / "a.h5ad"), "cell_type_key": "cell_type", "batch_key": "lane"}
    for conditions in (["lane"], ["lane", "cell_type"]):
        source = make("data", "h5ad", **settings, conditions=conditions)
        refused(lambda source=source: source.load(tmp_path / "cache"), "'cell_type' is missing in 40 of 120 cells")
        source.keeps_unlabelled = BatchCorrection.takes_unlabelled
        found = source.load(tmp_path / "cache")
        assert found.n_obs == 120
        assert found.obs["cell_type"].isna().sum() == 40
    dropping = make("data", "h5ad", **settings, conditions=["lane"], drop_missing=True)
    dropping.keeps_unlabelled = True
    assert dropping.load(tmp_path / "cache").n_obs == 80  # asked for is asked for


def test_a_missing_type_is_a_masked_condition_and_no_level():
    obs = partly().obs
    known = Conditions.fit(obs, ["lane", "cell_type"])
    assert known.columns[1].levels == ("B", "T")
    assert known.knows(obs).all()
    assert (known.encode(obs)["cell_type"].numpy() == 2).sum() == 40  # one past the last level
    table = pd.DataFrame(occurring(obs, known, {}))
    assert set(table["cell_type"]) == {"B", "T", MASK}
    assert table["cells"].sum() == 120


def test_scores_that_need_labels_leave_them_out():
    obs = partly().obs.assign(lane=np.array(["l1", "l2"])[np.arange(120) % 2])
    obs = pd.concat([obs, obs], ignore_index=True).assign(lane=np.repeat(["l1", "l2"], 120))
    labelled = checked_labels(obs, "lane", "cell_type", [])[2]
    assert labelled.sum() == 160
    BatchCorrection().check_cells(Columns("toy", ["lane"], "cell_type", "lane"), obs)


@pytest.mark.slow
def test_partly_labelled_cells_are_corrected_and_scored(tiny, tmp_path):
    import anndata

    data = partly()
    data = anndata.concat([data, data], index_unique="-")
    data.write_h5ad(tmp_path / "a.h5ad")
    folder, mine = tmp_path / "run", ["data=h5ad", f"data.path={tmp_path}/a.h5ad", "blocking=random"]
    mine += ["data.conditions=[lane]", "data.batch_key=lane", "data.cell_type_key=cell_type", "task=batch_correction"]
    run(tiny(*mine, cells=[]), folder)
    (path,) = folder.glob("scores/*/integrated.h5ad")
    found = anndata.read_h5ad(path)
    assert found.n_obs == 240
    assert found.obs["cell_type"].isna().sum() == 80
