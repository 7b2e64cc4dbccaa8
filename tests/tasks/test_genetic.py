"""task=perturbation for sets of genes: files, leakage, folds, prediction of new genes from a checkpoint, mistakes."""

import dataclasses
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scsave import SAVE, keys
from scsave.data.simulate.perturbseq import SimulatedPerturbSeq
from scsave.data.source import DataSource
from scsave.errors import UserError
from scsave.genes.vectors import Packaged
from scsave.method.method import SaveMethod
from scsave.method.predict import familiarity, vocabulary
from scsave.metrics.registry import rows
from scsave.runs.run import run

from ..conftest import results, scores

CELLS = [
    "data=simulated_perturbseq", "data.n_cells=700", "data.n_genes=60", "data.n_targets=14", "data.n_doubles=12",
    "data.control_share=0.15", "blocking=random", "blocking.n_blocks=3",
]  # fmt: skip
TASK = ["task=perturbation", "task.perturbation_cells=30"]
ROUTED = [*TASK, "task.routes=[generate, translate]"]
CLOSED = [*TASK, "method=set_process"]
ROUTES = ("between", "generate", "translate")
OURS = ["save", "save_generate", "save_translate"]
OTHERS = [
    "no_change", "pooled_control", "perturbed_mean", "matching_mean", "additive", "bilinear", "bilinear_carry", "nearest_text",
    "set_process",
    "ceiling",
]  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("genetic")


@pytest.fixture
def whole(tiny, outputs):
    """A run of every route, made once."""
    folder = outputs / "whole"
    if not folder.exists():
        run(tiny(*ROUTED, "figures=true", "data.n_top_genes=40", cells=CELLS), folder)
    return folder


def test_a_split_of_cells_is_called_what_it_is(tiny, tmp_path, caplog):
    run(tiny(*CLOSED, "split=random", cells=CELLS), tmp_path / "cells")
    assert "test perturbations have cells in training, so they are not unseen" in caplog.text
    caplog.clear()
    run(tiny(*CLOSED, "split=random_perturbations", cells=CELLS), tmp_path / "whole")
    assert "have cells in training" not in caplog.text
    assert results(tmp_path / "whole")["info"]["perturbations"] > 2


def test_every_route_and_baseline_is_scored_by_group_and_leaves_its_files(whole):
    got = results(whole)
    assert list(got["metrics"]) != []
    assert set(got["metrics"]) == {*OURS, *OTHERS}
    groups = set(got["metrics"]["save"])
    assert {"all", "unseen_single"} < groups <= {"all", "unseen_single", "combo_seen0", "combo_seen1", "combo_seen2"}
    assert got["metrics"]["no_change"]["all"]["pcc_delta"] == 0
    info = got["info"]
    for metric in rows("genetic"):
        low, high = info["intervals"]["save"]["all"][metric]
        assert low <= got["metrics"]["save"]["all"][metric] <= high, metric
        reach = [info["dynamic_range"][name]["all"][metric] for name in ("perturbed_mean", "ceiling")]
        # 40 genes have one top 100
        assert reach == ([None, None] if metric == "overlap_100" else [0, 1]), metric
    assert set(info["interactions"]) == {*OURS, *OTHERS} - {"ceiling"}
    assert info["genes_without_vector"] == []
    # cells, conditions and genes by name
    cells = anndata.read_h5ad(scores(whole) / "predictions.h5ad")
    tested = set(info["cells_per_perturbation"])
    assert set(cells.obs["condition"]) == tested
    assert cells.n_vars == 40
    assert all(cells.obs["condition"].value_counts() == info["control_cells"][0])
    assert (cells.layers[keys.COUNTS].data % 1 == 0).all()
    table = pd.read_csv(scores(whole) / "per_perturbation.csv").set_index(["row", "perturbation"])
    assert set(table.columns) == {"group", *rows("genetic")}
    trust = info["trust"]
    assert set(trust) == tested
    assert all(-1 <= one["low"] <= one["expected_pcc"] <= one["high"] <= 1 for one in trust.values())
    name = min(trust)
    assert trust[name]["reached"] == pytest.approx(table.loc[("save", name), "pcc_delta"])
    assert cells.uns["trust"].loc[name, "low"] == pytest.approx(trust[name]["low"])
    assert len({one["expected_pcc"] for one in trust.values()}) > 1  # by how far a set lies from those of training
    assert len(table) == len(tested) * len(got["metrics"])
    means = table.loc["save"].groupby("group")["l2_top1000"].mean()
    for group in groups - {"all"}:
        assert got["metrics"]["save"][group]["l2_top1000"] == pytest.approx(means[group])
    drawn = {path.name for path in (scores(whole) / "figures").iterdir()}
    assert {"perturbations.png", "groups.png", "trust.png"} <= drawn


def test_evaluation_of_the_run_gives_the_same_numbers(tiny, whole, tmp_path):
    copy = shutil.copytree(whole, tmp_path / "copy")
    shutil.rmtree(scores(copy))
    run(tiny("mode=evaluate", f"ckpt={copy}", *ROUTED), tmp_path / "x")
    assert results(copy)["metrics"] == results(whole)["metrics"]


def test_held_out_cells_are_never_looked_at_before_scoring(tiny, whole, tmp_path, monkeypatch):
    """Poisoned: all test cells, perturbed and control, are NaN. Genes, blocks, weights and predictions stay."""
    loads, groups = DataSource.load, pd.read_csv(whole / "split.csv", index_col="cell")["group"]
    held = set(groups[groups.str.startswith("test")].index)
    assert len(held) > 100

    def poisoned(self, cache):
        data = loads(self, cache)
        bad = data.obs_names.isin(held)
        for matrix in (data.X, data.layers[keys.COUNTS]):
            matrix.data[np.repeat(bad, np.diff(matrix.indptr))] = np.nan
        data.obs.loc[bad, keys.LIBRARY] = np.nan
        return data

    monkeypatch.setattr(SimulatedPerturbSeq, "load", poisoned)
    with pytest.raises((UserError, ValueError), match="NaN"):  # only the scorer notices
        run(tiny(*ROUTED, "data.n_top_genes=40", cells=CELLS), tmp_path / "poisoned")
    clean, bad = SAVE.load(whole).model, SAVE.load(tmp_path / "poisoned").model
    assert clean.genes == bad.genes
    assert clean.network.blocks.to_dict() == bad.network.blocks.to_dict()
    for name, value in clean.network.state_dict().items():
        assert (value == bad.network.state_dict()[name]).all(), name
    assert (clean.control.X != bad.control.X).nnz == 0
    assert not set(clean.control.obs_names) & held
    tested = results(whole)["info"]["cells_per_perturbation"]
    pair = next(name for name in tested if "+" in name)
    for route in ROUTES:
        a, b = (SAVE(model).respond(clean.control, pair, seed=0, route=route).X.toarray() for model in (clean, bad))
        assert (a == b).all(), route


def test_a_sweep_sees_validation_perturbations_only(tiny, tmp_path):
    value = run(tiny(*CLOSED, "data.n_top_genes=40", "sweep_metric=discrimination", cells=CELLS), tmp_path / "run")
    assert -1 <= value < 0  # best when smallest
    tested = results(tmp_path / "run")["metrics"]["set_process"]["all"]["discrimination"]
    assert value != pytest.approx(-tested)


def test_translation_keeps_the_batch_of_each_control_cell(whole):
    control = SAVE.load(whole).model.control
    cells = SAVE.load(whole).respond(control, "control", route="translate")
    assert (cells.obs["gem_group"].astype(str) == control.obs["gem_group"].astype(str)).all()
    assert (cells.obs_names == control.obs_names).all()


def test_every_perturbation_in_turn_and_resume_repeats_nothing(tiny, tmp_path, monkeypatch):
    few = [cell for cell in CELLS if "n_targets" not in cell and "n_doubles" not in cell]
    few += ["data.n_targets=4", "data.n_doubles=2", "data.n_cells=300"]
    cfg = tiny(*TASK, "task.hold_out=all", "trainer.limit_steps=2", cells=few)
    run(cfg, tmp_path / "run")
    got = results(tmp_path / "run")
    assert len(got["folds"]) == 6
    # every gene of a held-out double is seen alone; a single may be known from a pair
    assert set(got["metrics"]["save"]) <= {"all", "unseen_single", "seen_single", "combo_seen2"}
    assert {"all", "seen_single", "combo_seen2"} <= set(got["metrics"]["save"])
    for row, by_group in got["metrics"].items():
        assert by_group["all"]["discrimination"] is not None, row  # ranked among all folds together
    folder = scores(tmp_path / "run")
    table = pd.read_csv(folder / "per_perturbation.csv")
    assert set(table["perturbation"]) == set(got["folds"])
    cells = anndata.read_h5ad(folder / "predictions.h5ad")
    assert set(cells.obs["condition"]) == set(got["folds"])
    (folder / "folds" / got["folds"][-1] / "fold.json").unlink()
    shutil.rmtree(tmp_path / "run" / "folds" / got["folds"][-1] / "checkpoints")
    fitted, original = [], SaveMethod.fit
    monkeypatch.setattr(SaveMethod, "fit", lambda self, *a, **k: fitted.append(1) or original(self, *a, **k))
    run(tiny(f"resume={tmp_path / 'run'}"), tmp_path / "elsewhere")
    assert len(fitted) == 1
    assert results(tmp_path / "run")["metrics"] == got["metrics"]
    with pytest.raises(UserError, match="a model for each of 6 folds; name one: ckpt="):
        run(tiny("mode=predict", f"ckpt={tmp_path / 'run'}", "perturbations=[gene_1]"), tmp_path / "predict")


# --- new perturbations ---
def test_genes_never_seen_are_predicted_from_the_checkpoint_alone(tiny, whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(DataSource, "load", lambda *a: pytest.fail("the training data were read"))
    model = SAVE.load(whole)
    seen = vocabulary(model.model).seen
    new = [gene for gene in model.genes if gene not in seen][:2]
    known = seen[0]
    asked = [new[0], f"{known}+{new[1]}", f"{known}+ctrl"]
    run(tiny("mode=predict", f"ckpt={whole}", f"perturbations=[{','.join(asked)}]"), tmp_path / "predict")
    cells = anndata.read_h5ad(tmp_path / "predict" / "predictions.h5ad")
    table = pd.read_csv(tmp_path / "predict" / "per_perturbation.csv", index_col=0, keep_default_na=False)
    names = [new[0], "+".join(sorted([known, new[1]])), known]
    assert list(table.index) == names
    assert set(cells.obs["condition"]) == set(names)
    assert cells.n_obs == 3 * model.model.control.n_obs
    assert list(table["unseen_genes"]) == [new[0], new[1], ""]
    assert table.loc[known, "in_training"]
    assert (tmp_path / "predict" / "predictions.h5ad").exists()
    genes = pd.read_csv(tmp_path / "predict" / "per_gene.csv")
    assert len(genes) == 3 * cells.n_vars
    change = genes[genes["target"] == known].set_index("gene")["change"][cells.var_names]
    rows = cells[cells.obs["condition"] == known].X.mean(axis=0) - model.model.control.X.mean(axis=0)
    np.testing.assert_allclose(change, np.asarray(rows).ravel(), atol=2e-3)  # the mean of donors, not of cells
    assert np.corrcoef(change, np.asarray(rows).ravel())[0, 1] > 0.99
    assert genes["interval_over"].str.endswith("donors").all()
    said = capsys.readouterr().out
    assert f"{new[0]}: nearest training gene" in said
    assert "expected change-PCC" in said
    assert (table["low"] <= table["expected_pcc"]).all()
    assert list(cells.uns["trust"].index) == names
    for route in ROUTES[1:]:
        again = model.predict(asked, route=route)
        assert np.isfinite(again.X.data).all(), route
        assert again.n_obs == cells.n_obs


def test_a_trained_gene_in_another_spelling_is_that_gene(whole):
    model = SAVE.load(whole)
    gene = vocabulary(model.model).seen[0]
    plain, other = (model.predict([name], seed=0) for name in (gene, gene.lower()))
    assert list(other.uns["per_perturbation"].index) == [gene]
    assert (plain.X != other.X).nnz == 0


def test_another_name_of_a_trained_gene_is_that_gene(whole, caplog):
    model = SAVE.load(whole)
    gene, space = vocabulary(model.model).seen[0], model.model.space
    space.at["ALIAS"] = space.at[gene].copy()
    assert list(model.predict("ALIAS").uns["per_perturbation"].index) == [gene]
    assert f"ALIAS is taken as {gene}" in caplog.text


def test_who_gave_texts_no_weight_says_so(whole):
    known = vocabulary(SAVE.load(whole).model)
    new = next(gene for gene in known.genes if gene not in known.seen)
    said = familiarity(dataclasses.replace(known, weighted=False), [new])["warning"].iloc[0]
    assert "texts foretold none of the training perturbations" in said
    assert "texts foretold" not in familiarity(known, [new])["warning"].iloc[0]


@pytest.fixture
def control_file(whole, tmp_path):
    """Counts of 20 control cells in a layer, log1p in X; its obs and genes as asked."""

    def written(genes, **obs):
        cells = SAVE.load(whole).model.control[:20, genes]
        frame = pd.DataFrame(obs, index=cells.obs_names)
        data = anndata.AnnData(cells.X, frame, cells.var[[]], layers={"mine": cells.layers[keys.COUNTS]})
        data.write_h5ad(tmp_path / "controls.h5ad")
        return ["mode=predict", f"ckpt={whole}", f"data.path={tmp_path}/controls.h5ad"]

    return written


def test_control_cells_of_another_file(whole, control_file, composed, tmp_path, monkeypatch, capsys):
    model = SAVE.load(whole)
    seen = vocabulary(model.model).seen
    genes, new = model.genes[5:], next(g for g in model.genes[8:] if g not in seen)

    def predicted(asked, *settings):
        given = [*asked, f"perturbations={new}", *settings]
        for module in ("serve", "naming"):
            monkeypatch.setattr(f"scsave.runs.{module}.overrides", lambda: given)
        run(composed(*given, "data=simulated_perturbseq"), tmp_path / "predict")
        return anndata.read_h5ad(tmp_path / "predict" / "predictions.h5ad"), capsys.readouterr().out

    asked = control_file(genes)
    with pytest.raises(UserError, match=r"already logged; set data.layer to where the counts are \(found: mine, X"):
        predicted(asked)
    cells, out = predicted(asked, "data.layer=mine")
    assert cells.n_obs == 20
    assert f"5 of the model's {len(model.genes)} genes are not in the file and count as zero" in out
    assert "no column 'condition', so every cell is taken as control" in out
    assert not set(cells.uns["per_perturbation"]["strongest"].iloc[0].split()) & set(model.genes[:5])
    one_of_two = ["NT", seen[0]] * 10
    assert predicted(control_file(genes, condition=one_of_two), "data.layer=mine")[0].n_obs == 10
    own = [*control_file(genes, guide_gene=["mock", "mock", "mock", seen[0]] * 5), "data.layer=mine"]
    assert predicted(own, "data.perturbation_key=guide_gene", "data.control=mock")[0].n_obs == 15
    with pytest.raises(
        UserError, match=f"no control cell: no level of 'condition' reads as control; found {one_of_two[1]}"
    ):
        predicted(control_file(genes, condition=one_of_two[1:2] * 20), "data.layer=mine")


def test_a_gene_that_the_networks_had_no_place_for_gets_one_and_the_others_stay(whole, tmp_path):
    model = SAVE.load(whole)
    control, space = model.model.control, model.model.space
    before = model.respond(control, model.genes[0], seed=0, route="translate").X
    space.at["BRANDNEW"] = np.ones(len(space.axes))
    cells = model.predict("BRANDNEW", route="translate")  # one name is a list of one
    assert cells.n_obs == control.n_obs
    after = model.respond(control, model.genes[0], seed=0, route="translate").X
    assert (before != after).nnz == 0
    model.save(tmp_path)
    again = SAVE.load(tmp_path).predict(["BRANDNEW"], route="translate")
    assert (again.X != cells.X).nnz == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["perturbations=[GENE0]"], r"no gene vector for GENE0 \(names like GENE0: GENE000"),
        (["perturbations=[control]"], "name one or more sets of genes"),
        ([], "name one or more sets of genes"),
        (["perturbations=[G1]", "ckpt=/nowhere"], "ckpt=/nowhere: no such file or folder"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_one_line(overrides, message, tiny, whole, tmp_path):
    with pytest.raises(UserError, match=message):
        run(tiny("mode=predict", f"ckpt={whole}", *overrides), tmp_path / "predict")


def test_a_model_of_levels_predicts_no_genes(tiny, tmp_path):
    run(tiny("task=perturbation", "task.min_cells=60", "task.hold_out=type_A"), tmp_path / "a")
    with pytest.raises(UserError, match="target=STAT1: not a level of treatment; levels: stimulated"):
        SAVE.load(tmp_path / "a" / "folds" / "type_A").predict(["STAT1"])
    asked = ["perturbations=[STAT1]", "data.path=absent.h5ad"]
    with pytest.raises(UserError, match="this model knows no perturbed genes"):  # before the file is looked at
        run(tiny("mode=predict", f"ckpt={tmp_path}/a/folds/type_A", *asked), tmp_path / "p")


# --- a file as GEARS leaves it, real gene names, packaged vectors ---
def gears_file(path, control="ctrl"):
    """Ensembl index and gene_name, `A+ctrl` and `A+B`, log1p in X, counts in a layer, the uns keys of GEARS."""
    rng = np.random.default_rng(0)
    targets = ["FOXA1", "KLF1", "CEBPA", "BAK1", "TP53", "SPI1", "GATA1"]
    symbols = [*targets, *Packaged().load().genes[100:140]]
    labels = [control, *(f"{g}+ctrl" for g in targets[:5]), "ctrl+SPI1", "KLF1+CEBPA", "FOXA1+BAK1", "SPI1+TP53"]
    condition = rng.permutation(np.repeat(labels, [60, *[12] * 9]))
    counts = rng.poisson(2.0, size=(len(condition), len(symbols))).astype(np.float32)
    names = [f"A549_{label}_{'1' if label == 'ctrl' else '1+1'}" for label in condition]
    obs = pd.DataFrame(
        {
            "condition": pd.Categorical(condition),
            "cell_type": pd.Categorical(["A549"] * len(condition)),
            "dose_val": pd.Categorical(["1" if label == "ctrl" else "1+1" for label in condition]),
            "control": (condition == "ctrl").astype(int),
            "condition_name": pd.Categorical(names),
        },
        index=pd.Index([f"AAACCTGAGGCA{i:04d}-{i % 2 + 1}" for i in range(len(condition))], name="cell_barcode"),
    )
    ids = [f"ENSG0000099{number:04d}" for number in range(len(symbols))]
    var = pd.DataFrame({"gene_name": pd.Categorical(symbols)}, index=pd.Index(ids, name="gene_id"))
    data = anndata.AnnData(X=sp.csr_matrix(np.log1p(counts)), obs=obs, var=var, layers={"counts": counts})
    perturbed = sorted(set(names) - {"A549_ctrl_1"})
    for key in ("rank_genes_groups_cov_all", "top_non_dropout_de_20", "top_non_zero_de_20"):
        data.uns[key] = {name: np.array(ids[:20]) for name in perturbed}
    for key in ("non_dropout_gene_idx", "non_zeros_gene_idx"):
        data.uns[key] = {name: np.arange(20) for name in perturbed}
    data.write_h5ad(path)
    return path


def test_a_gears_file_from_training_to_a_gene_that_it_lacks(tiny, tmp_path, capsys):
    path = gears_file(tmp_path / "perturb_processed.h5ad")
    cells = ["data=norman", f"data.path={path}", "blocking=random", "blocking.n_blocks=2"]
    run(tiny(*TASK, "split=ahlmann_eltze", cells=cells), tmp_path / "run")
    got = results(tmp_path / "run")
    assert set(got["metrics"]["save"]) == {"all", "combo_seen2"}
    overrides = ["mode=predict", f"ckpt={tmp_path / 'run'}", "perturbations=[GATA1, IRF4+KLF1]"]
    run(tiny(*overrides, f"data.path={path}", "n=20"), tmp_path / "predict")
    table = pd.read_csv(tmp_path / "predict" / "per_perturbation.csv", index_col=0, keep_default_na=False)
    assert list(table["unseen_genes"]) == ["GATA1", "IRF4"]
    assert (table["cells"] == 20).all()
    with pytest.raises(UserError, match=r"no gene vector for GATAA1 \(names like GATAA1: .*GATA1"):
        run(tiny("mode=predict", f"ckpt={tmp_path / 'run'}", "perturbations=[GATAA1]"), tmp_path / "predict")


def test_a_control_label_that_is_absent_is_one_line(tiny, tmp_path):
    path = gears_file(tmp_path / "screen.h5ad", control="MYC")
    cells = ["data=perturbseq_h5ad", f"data.path={path}", "data.perturbation_key=condition", "data.control=NTC"]
    with pytest.raises(UserError, match=r"no control cells: no level of 'condition' reads as control .'NTC'.; found"):
        run(tiny(*TASK, "data.layer=counts", cells=cells), tmp_path / "run")


@pytest.mark.slow
def test_vectors_that_carry_the_effect_are_used_and_others_do_no_better_than_the_mean(composed, tmp_path):
    found = {}
    for informative in ("true", "false"):
        cells = [
            "data=simulated_perturbseq", "data.n_cells=3000", "data.n_genes=100", "data.n_targets=40",
            "data.n_doubles=0", f"data.informative={informative}", "blocking=random", "blocking.n_blocks=2",
        ]  # fmt: skip
        run(composed(*cells, *CLOSED, "figures=false"), tmp_path / informative)
        metrics = results(tmp_path / informative)["metrics"]
        found[informative] = {row: metrics[row]["unseen_single"] for row in metrics}
    told, untold = found["true"], found["false"]
    for metric in ("pcc_delta", "pcc_delta_centroid"):
        assert told["set_process"][metric] > 0.6
        assert told["set_process"][metric] > told["perturbed_mean"][metric] + 0.3
        # every row knows that a perturbed gene itself changes, or that control is a good guess: no more can be known
        known = max(untold[row][metric] for row in ("no_change", "perturbed_mean", "matching_mean"))
        assert untold["set_process"][metric] < known + 0.25  # ten genes
        assert untold["set_process"][metric] < told["set_process"][metric] - 0.3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.hold_out=nobody"], "task.hold_out=nobody: no such perturbation; there are"),
        (["split=random", "split.test=0"], "the test group is empty"),
        (["vectors=packaged"], "no gene vector for"),
        (
            ["method=mean_shift"],
            "method=mean_shift: no training cell has.*for sets of genes take method=perturbed_mean",
        ),
    ],
)
def test_mistakes_get_one_line(overrides, message, tiny, tmp_path):
    with pytest.raises(UserError, match=message):
        run(tiny(*TASK, *overrides, cells=CELLS), tmp_path / "run")
