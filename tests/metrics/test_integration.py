import logging

import numpy as np
import pytest
import torch

from scsave.errors import UserError
from scsave.metrics.integration import BATCH, BIO, IntegrationScorer, checked_labels, exact_neighbours, totals
from scsave.metrics.registry import rows
from tests.metrics.cells import population


def batches(n=360, genes=40):
    """Two batches of two types, one batch multiplying every other gene, and a third batch without trusted labels."""
    cells = population(n, genes, seed=1)
    cells.obs["batch"] = np.repeat(["b1", "b2", "b3"], n // 3)
    shift = (cells.obs["batch"] == "b2").to_numpy()[:, None] * (np.arange(genes) % 2) * 1.5
    corrected = cells.copy()
    cells.X = cells.X.toarray() + shift.astype(np.float32)
    corrected.X = corrected.X.toarray()
    return cells, corrected


@pytest.fixture(scope="module")
def scored():
    """One data set for all slow tests, since jax compiles anew for every shape: 240 labelled cells of 360."""
    cells, corrected = batches()
    held = np.arange(0, cells.n_obs, 7)
    scorer = IntegrationScorer(cells, "batch", "type", unlabelled_batches=["b3"], n_components=10, held_out=held)
    embeddings = {
        "good": IntegrationScorer(corrected, "batch", "type", n_components=10).unintegrated,
        "noise": np.random.default_rng(0).normal(size=(cells.n_obs, 10)),
    }
    threads = torch.get_num_threads()
    said, listener = [], logging.Handler()
    listener.emit = said.append
    root = logging.getLogger()
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.INFO)
    found = scorer.score(embeddings, {"good": corrected})
    root.removeHandler(listener)
    root.setLevel(level)
    assert not said
    assert torch.get_num_threads() == threads
    return cells, scorer, embeddings, found


@pytest.mark.slow
def test_every_row_of_the_registry_is_emitted(scored):
    found = scored[3]
    assert list(found) == [
        "unintegrated",
        "good",
        "noise",
        "good (expression)",
        "good (components)",
        "noise (softened)",
    ]
    for groups in found.values():
        assert list(groups) == ["all"]
        assert list(groups["all"]) == list(rows("batch_correction"))
    missing = {name for name, value in found["noise"]["all"].items() if np.isnan(value)}
    assert missing == {"marker_fold_change", "marker_fold_change_slope", "de_batch_agreement"}
    assert np.isfinite(list(found["good"]["all"].values())).all()
    transfer = {name: found[name]["all"]["transfer_accuracy"] for name in ("good", "noise")}
    assert transfer["good"] > 0.95
    assert abs(transfer["noise"] - 0.5) < 0.25  # two types, as many cells of each
    # its embedding is the PCA of its expression, so that both rows say the same
    assert found["good (expression)"]["all"] == pytest.approx(found["good"]["all"], abs=1e-3)


@pytest.mark.slow
def test_values_and_totals_are_the_librarys_own(scored):
    import pandas as pd
    import scib_metrics
    from anndata import AnnData
    from scib_metrics.benchmark import Benchmarker

    _, scorer, embeddings, found = scored
    kept = scorer.labelled
    obs = pd.DataFrame({"b": scorer.batch[kept], "l": scorer.label[kept]}, index=scorer.obs_names[kept])
    data = AnnData(obs=obs, obsm={name: x[kept] for name, x in (embeddings | {"pre": scorer.unintegrated}).items()})
    library = Benchmarker(data, "b", "l", list(embeddings), pre_integrated_embedding_obsm_key="pre", progress_bar=False)
    library.prepare(neighbor_computer=exact_neighbours)
    library.benchmark()
    table = library.get_results(min_max_scale=False, clean_names=False)
    for row, embedding in embeddings.items():
        theirs = {ours: float(table.loc[row, name]) for name, ours in (BIO | BATCH).items()}
        aggregates = {"bio_conservation": "Bio conservation", "batch_removal": "Batch correction", "total": "Total"}
        for ours, name in aggregates.items():
            assert totals(theirs)[ours] == pytest.approx(float(table.loc[row, name]), abs=1e-6)
        # mixing is of all cells, the unlabelled batch included; everything else of the labelled ones
        theirs["ilisi"] = float(scib_metrics.ilisi_knn(exact_neighbours(embedding, 90), scorer.batch))
        theirs["pcr"] = float(
            scib_metrics.pcr_comparison(scorer.unintegrated, embedding, scorer.batch, categorical=True)
        )
        theirs["silhouette_batch"] = float(
            scib_metrics.silhouette_batch(embedding[kept], scorer.label[kept], scorer.batch[kept])
        )
        theirs |= totals(theirs)
        ours = {name: found[row]["all"][name] for name in theirs}
        assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.slow
def test_correction_is_rewarded_and_noise_is_not(scored):
    before, good, noise = (scored[3][row]["all"] for row in ("unintegrated", "good", "noise"))
    assert good["total"] > before["total"]
    assert good["batch_removal"] > before["batch_removal"] + 0.1
    assert noise["bio_conservation"] < good["bio_conservation"] - 0.3
    assert before["marker_fold_change"] == pytest.approx(1)
    assert good["marker_fold_change"] > 0.99


@pytest.mark.slow
def test_labels_of_an_unlabelled_batch_do_not_matter(scored):
    cells, _, embeddings, found = scored
    wrong = cells.copy()
    labels = wrong.obs["type"].to_numpy().copy()
    labels[240:] = np.random.default_rng(0).permutation(labels[240:])
    wrong.obs["type"] = labels
    scorer = IntegrationScorer(wrong, "batch", "type", unlabelled_batches=["b3"], n_components=10)
    again = scorer.score({"good": embeddings["good"]})["good"]["all"]
    same = [name for name in again if not np.isnan(again[name])]
    assert [again[n] for n in same] == pytest.approx([found["good"]["all"][n] for n in same], abs=1e-6)
    assert scorer.info["unlabelled_batches"] == ["b3"]
    assert scorer.info["labelled_cells"] == 240


@pytest.mark.slow
def test_without_labels_only_what_needs_none(scored):
    """The same values as for the cells of all batches beside labels, and nothing else."""
    cells, _, embeddings, found = scored
    scorer = IntegrationScorer(cells, "batch", None, n_components=10)
    values = scorer.score(embeddings, {"good": batches()[1]})
    for row, groups in values.items():
        told = {name for name, value in groups["all"].items() if not np.isnan(value)}
        assert told == {"ilisi", "pcr"}, row
        for name in told:
            assert groups["all"][name] == pytest.approx(found[row]["all"][name], abs=1e-5)
    assert scorer.info["labels"] == []
    with pytest.raises(UserError, match="need two levels of batch and 100 cells, found 1 and 120"):
        IntegrationScorer(cells[cells.obs["batch"] == "b1"].copy(), "batch", None)


def test_neighbours_are_the_nearest_with_the_cell_itself_first():
    x = np.random.default_rng(0).normal(size=(50, 3))
    found = exact_neighbours(x, 7)
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    assert (found.indices == np.argsort(distance, axis=1)[:, :7]).all()
    assert found.distances == pytest.approx(np.sort(distance, axis=1)[:, :7], abs=1e-5)


def test_totals_leave_out_what_cannot_be_computed():
    values = dict.fromkeys(("isolated_labels", "kmeans_nmi", "kmeans_ari", "silhouette_label", "clisi"), 0.5)
    values |= {"bras": 0.2, "ilisi": 0.4, "kbet": np.nan, "graph_connectivity": 0.6, "pcr": 0.8}
    expected = {"bio_conservation": 0.5, "batch_removal": 0.5, "total": 0.5}
    assert totals(values) == pytest.approx(expected)


def test_mistakes_get_one_line():
    cells, _ = batches()
    with pytest.raises(UserError, match="no column donor in obs; columns: type, state, library_size, batch"):
        IntegrationScorer(cells, "donor", "type")
    with pytest.raises(UserError, match="needs two levels of batch among labelled cells, found b1"):
        IntegrationScorer(cells, "batch", "type", unlabelled_batches=["b2", "b3"])
    with pytest.raises(UserError, match="unlabelled batches: b9 not in batch"):
        IntegrationScorer(cells, "batch", "type", unlabelled_batches=["b9"])
    with pytest.raises(UserError, match="need 100 labelled cells, found 40"):
        IntegrationScorer(cells[100:140].copy(), "batch", "type")
    nested = cells.copy()
    nested.obs["type"] = nested.obs["batch"]
    with pytest.raises(UserError, match="no level of type is in two levels of batch"):
        IntegrationScorer(nested, "batch", "type")
    scorer = IntegrationScorer(cells, "batch", "type")
    with pytest.raises(UserError, match="embedding of mine: shape \\(5, 2\\), expected \\(360, D\\)"):
        scorer.score({"mine": np.zeros((5, 2))})
    with pytest.raises(UserError, match="embedding of mine: 720 values are NaN"):
        scorer.score({"mine": np.full((360, 2), np.nan)})
    with pytest.raises(UserError, match="corrected cells of mine: not the cells"):
        scorer._expression("mine", cells[::-1].copy())


def test_what_data_alone_decide_is_checked_before_a_method_is_trained():
    obs = batches()[0].obs
    checked_labels(obs, "batch", "type")
    checked_labels(obs, "batch", None, [])
    with pytest.raises(UserError, match="no column donor in obs"):
        checked_labels(obs, "donor", "type")
    nested = obs.assign(type=obs["batch"])
    with pytest.raises(UserError, match="no level of type is in two levels of batch"):
        checked_labels(nested, "batch", "type")
    with pytest.raises(UserError, match="needs two levels of batch among labelled cells, found b1"):
        checked_labels(obs, "batch", "type", ["b2", "b3"])
    few = obs.assign(type=obs["type"].where(np.arange(len(obs)) % 4 == 0))
    with pytest.raises(UserError, match="need 100 labelled cells, found 90"):
        checked_labels(few, "batch", "type")


def test_cells_without_a_label_are_left_out_of_what_needs_one():
    cells, corrected = batches()
    partly = cells.copy()
    missing = np.random.default_rng(0).random(partly.n_obs) < 0.2
    partly.obs["type"] = partly.obs["type"].where(~missing).astype("category")
    scorer = IntegrationScorer(partly, "batch", "type", n_components=10)
    assert (scorer.labelled == ~missing).all()
    assert scorer.info["labels"] == ["A", "B"]
    assert scorer.info["labelled_cells"] == (~missing).sum()
    assert scorer.info["unlabelled_batches"] == []
    kept = IntegrationScorer(cells[~missing].copy(), "batch", "type", n_components=10)
    assert scorer._before.pairs == kept._before.pairs
    assert scorer._before.change == pytest.approx(kept._before.change)
    assert scorer._kept(scorer._expression("mine", corrected)) == pytest.approx(
        kept._kept(kept._expression("mine", corrected[~missing].copy()))
    )


@pytest.mark.slow
def test_partly_labelled_cells_are_scored_like_an_unlabelled_batch(scored):
    """Labels of the third batch missing, cell by cell, instead of the batch being named: the same scores."""
    cells, _, embeddings, found = scored
    partly = cells.copy()
    partly.obs["type"] = partly.obs["type"].where(partly.obs["batch"] != "b3")
    scorer = IntegrationScorer(partly, "batch", "type", n_components=10)
    again = scorer.score({"good": embeddings["good"]})["good"]["all"]
    same = [name for name in again if not np.isnan(again[name])]
    assert len(same) > 10
    assert [again[name] for name in same] == pytest.approx([found["good"]["all"][name] for name in same], abs=1e-6)
    assert scorer.info["unlabelled_batches"] == ["b3"]
