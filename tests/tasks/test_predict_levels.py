"""mode=predict and SAVE.predict for levels: a user's own control cells, types never seen, tables, trust, other methods."""

import anndata
import numpy as np
import pandas as pd
import pytest

from scsave import SAVE, keys
from scsave.data.simulate.cells import Simulated
from scsave.errors import UserError
from scsave.method.predict_levels import PSEUDO, Predictor, predict_levels
from scsave.results.change_figures import draw_trust
from scsave.results.frame import read
from scsave.runs.run import run
from scsave.stats.expected import TRUST

from ..conftest import results, scores

TASK = ["task=perturbation", "task.min_cells=60", "task.hold_out=type_B", "data.n_types=4"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("levels")


@pytest.fixture
def whole(tiny, outputs):
    """A run that holds type_B out, made once; three types are left to say how far to trust."""
    if not (outputs / "save").exists():
        run(tiny(*TASK, "training.trust_groups=3"), outputs / "save")
    return outputs / "save"


@pytest.fixture
def control(tmp_path):
    """Control cells of a type that training never saw, from two donors, 3 of the model's genes missing and 2 others there."""
    source = Simulated(
        name="other", conditions=["cell_type", "batch", "treatment"], cell_type_key="cell_type", batch_key="batch",
        perturbation_key="treatment", control="control", n_cells=240, n_genes=48, n_types=4, n_batches=2, seed=0,
    )  # fmt: skip
    cells = source.draw()
    cells = cells[(cells.obs["treatment"] == "control") & (cells.obs["cell_type"] != "type_A")].copy()[:, 3:].copy()
    more = anndata.AnnData(np.ones((cells.n_obs, 2)), cells.obs, pd.DataFrame(index=["EXTRA1", "EXTRA2"]))
    cells = anndata.concat([cells, more], axis=1, merge="same")
    cells.obs = cells.obs.assign(donor=["p1", "p2"] * (cells.n_obs // 2) + ["p1"] * (cells.n_obs % 2))
    cells.obs["cell_type"] = cells.obs["cell_type"].astype(str).replace({"type_B": "new_type"})
    cells.write_h5ad(tmp_path / "mine.h5ad")
    return tmp_path / "mine.h5ad"


@pytest.fixture
def called(composed, tmp_path, monkeypatch, capsys):
    """`called("mode=predict", ...)`: as from the command line; the folder that it wrote to, and what it printed."""

    def call(*given):
        for module in ("serve", "naming"):
            monkeypatch.setattr(f"scsave.runs.{module}.overrides", lambda: list(given))
        run(composed(*given), tmp_path / "predict")
        return tmp_path / "predict", capsys.readouterr().out

    return call


def test_a_run_says_how_far_to_trust_it_in_every_file_and_draws_it(whole):
    got, folder = results(whole), scores(whole)
    trust = got["info"][TRUST]["type_B"]
    assert trust["held_out"] == 3
    assert -1 <= trust["low"] <= trust["expected_pcc"] <= trust["high"] <= 1
    assert trust["reached"] == pytest.approx(got["metrics"]["save"]["type_B"]["pcc_delta_one_control"])
    table = anndata.read_h5ad(folder / "predictions" / "type_B.h5ad").uns[TRUST]
    assert table.loc["type_B", "expected_pcc"] == pytest.approx(trust["expected_pcc"])
    (drawn,) = draw_trust(whole / "trust.png", read([folder / "results.json"]).iloc[0])
    assert drawn.stat().st_size > 1000
    unknown = read([folder / "results.json"]).iloc[0].copy()
    unknown["info"] = {
        TRUST: {"type_B": {"expected_pcc": None, "low": None, "high": None, "held_out": 2, "reached": 0.5}}
    }
    assert draw_trust(whole / "none.png", unknown) == []
    assert got["info"]["hold_out_scope"] == "type"


def test_combined_is_the_weighted_mean_of_the_network_and_the_closed_form(whole):
    """Row, prediction of a loaded checkpoint, and trust of its own."""
    got = results(whole)
    assert {"save", "combined", "type_process"} <= set(got["metrics"])
    model = SAVE.load(whole / "folds" / "type_B")
    chosen = model.model.info["combined"]
    assert chosen["weight"] in (0, 0.25, 0.5, 0.75, 1)
    assert set(chosen["trust"]) == {"type_A", "type_C", "type_D"}  # never the type that is held out
    control = anndata.read_h5ad(next(whole.rglob("predictions/type_B.h5ad")))
    start = (
        control[~control.obs[keys.CONTROL_CELL].duplicated()].copy() if keys.CONTROL_CELL in control.obs else control
    )
    start.obs["treatment"] = "control"
    start.obs = start.obs[["treatment", "batch", "cell_type", keys.LIBRARY]]
    closed = model.model.closed.change_of(start, "stimulated")
    assert np.isfinite(closed).all()
    assert model.expected_accuracy(start, "stimulated", route="combined")["held_out"] == 3
    model.model.info["combined"]["weight"] = 1.0
    same = model.respond(start, "stimulated", route="combined")
    assert (same.layers["counts"] != model.respond(start, "stimulated").layers["counts"]).nnz == 0
    model.model.info["combined"]["weight"] = 0.0
    alone = model.respond(start, "stimulated", route="combined")
    assert (alone.layers["counts"] != same.layers["counts"]).nnz > 0


def test_a_file_of_control_cells_gets_cells_a_table_of_genes_and_trust(whole, control, called):
    ckpt = f"ckpt={whole}/folds/type_B"
    folder, out = called("mode=predict", ckpt, f"data.path={control}", "target=stimulated", "data.batch_key=donor")
    cells = anndata.read_h5ad(folder / "predictions.h5ad")
    assert set(cells.obs["treatment"]) == {"stimulated"}
    assert set(cells.obs["cell_type"]) == {"new_type", "type_C", "type_D"}
    assert (cells.layers[keys.COUNTS].data % 1 == 0).all()
    assert list(cells.uns[TRUST].index) == ["new_type", "type_C", "type_D"]
    assert (cells.obs["cell_type"].value_counts() >= 100).all()  # a handful of control cells is repeated
    table = pd.read_csv(folder / "per_gene.csv")
    assert len(table) == 3 * cells.n_vars
    assert set(table["interval_over"]) == {"2 donors"}
    assert (table["low"] <= table["change"]).all()
    assert (table["change"] <= table["high"]).all()
    up = table["direction"] == "up"
    assert ((table["low"] > 0) == up).all()
    after = np.expm1((table["control_mean"] + table["change"]).clip(lower=0)) + PSEUDO
    expected = np.log2(after / (np.expm1(table["control_mean"]) + PSEUDO))
    assert np.allclose(table["log2_fold_change"], expected)
    assert (~table["in_file"]).sum() == 3 * 3
    assert "3 of the model's 48 genes are not in the file and count as zero; 2 genes of the file are not" in out
    assert "new_type under stimulated: expected change-PCC" in out
    assert "on what the run behind this model held out, save reached a change-PCC of " in out
    assert ", and type_process, which trains no network, " in out
    assert list(pd.read_csv(folder / "trust.csv").columns[:4]) == ["prediction", "expected_pcc", "low", "high"]


def test_without_donors_the_interval_is_over_cells_and_said_to_be_too_narrow(whole, control):
    adata = anndata.read_h5ad(control)
    del adata.obs["batch"]
    adata = adata[adata.obs["cell_type"] == "new_type"].copy()
    model = SAVE.load(whole / "folds" / "type_B")
    cells = model.predict(adata, "stimulated")
    table = cells.uns["per_gene"]
    assert set(table["interval_over"]) == {f"{adata.n_obs} cells (too narrow)"}  # not of the rows that repeat them
    donors = model.predict(adata, target="stimulated", donor_key="donor").uns["per_gene"]
    assert set(donors["interval_over"]) == {"2 donors"}
    start = model.respond(adata, "stimulated")
    assert start.n_obs == adata.n_obs
    assert list(start.uns[TRUST].index) == ["new_type"]
    assert (model.predict(adata).X != cells.X).nnz == 0  # all targets of training are the one


def test_a_change_over_donors_is_the_mean_of_each_donor_s_own(whole, control):
    adata = anndata.read_h5ad(control)
    model = SAVE.load(whole / "folds" / "type_B").model
    predictor = Predictor.of(model, "between")
    seen = []
    spied = Predictor(
        **vars(predictor) | {"change": lambda c, t: seen.append(set(c.obs["donor"])) or np.full(48, len(seen))}
    )
    one = adata[adata.obs["cell_type"] == "type_C"].copy()
    table = predict_levels(spied, "stimulated", one, donor="donor").uns["per_gene"]
    assert seen == [{"p1"}, {"p2"}]
    assert np.allclose(table["change"], 1.5)
    real = predict_levels(predictor, "stimulated", one, donor="donor").uns["per_gene"]
    assert real["change"].std() > 0


def test_closed_forms_predict_from_their_run_and_the_others_are_refused(
    tiny, outputs, whole, control, called, tmp_path
):
    run(tiny(*TASK, "method=type_process"), outputs / "process")
    assert results(outputs / "process")["info"][TRUST]["type_B"]["held_out"] == 3
    where = [f"data.path={control}", "target=stimulated"]
    folder, out = called("mode=predict", f"ckpt={outputs / 'process' / 'folds' / 'type_B'}", *where)
    assert set(anndata.read_h5ad(folder / "predictions.h5ad").obs["treatment"]) == {"stimulated"}
    assert "type_C under stimulated: expected change-PCC" in out
    run(tiny(*TASK, "method=gene_slope"), outputs / "slope")
    with pytest.raises(
        UserError, match=r"method=gene_slope keeps nothing that mode=predict could use; train method=save"
    ):
        called("mode=predict", f"ckpt={outputs / 'slope' / 'folds' / 'type_B'}", *where)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["target=nothing"], "target=nothing: not a level of treatment; levels: stimulated"),
        (
            ["perturbations=[STAT1]"],
            "its perturbations are levels of 'treatment'; name one: target=",
        ),
        (["target=stimulated", "route=generate"], "route=generate needs the part noise"),
        (["target=stimulated"], "control cells are needed: give a file"),
        (["target=stimulated", "n_cells=3"], "n_cells"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(given, message, whole, called):
    if given[-1].startswith("n_cells"):
        from scsave.runs.serve import check_keys

        with pytest.raises(UserError, match=r"mode=predict does not use it; it takes .*target"):
            check_keys("predict", given)
        return
    with pytest.raises(UserError, match=message):
        called("mode=predict", f"ckpt={whole}/folds/type_B", *given)
