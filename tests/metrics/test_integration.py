import numpy as np
import pytest

from scsave.errors import UserError
from scsave.metrics.integration import IntegrationScorer, exact_neighbours, totals
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
def scores():
    cells, corrected = batches()
    scorer = IntegrationScorer(cells, "batch", "type", n_components=10)
    noise = np.random.default_rng(0).normal(size=(cells.n_obs, 10))  # 10: jax compiles for each shape
    good = IntegrationScorer(corrected, "batch", "type", n_components=10).unintegrated
    return scorer, scorer.score({"good": good, "noise": noise}, {"good": corrected}), {"good": good, "noise": noise}


@pytest.mark.slow
def test_every_row_of_the_registry_is_emitted(scores):
    _, found, _ = scores
    assert list(found) == ["unintegrated", "good", "noise"]
    for groups in found.values():
        assert list(groups) == ["all"]
        assert list(groups["all"]) == list(rows("batch_correction"))
    missing = {name for name, value in found["noise"]["all"].items() if np.isnan(value)}
    assert missing == {"marker_fold_change", "marker_fold_change_slope", "de_batch_agreement"}
    assert np.isfinite(list(found["good"]["all"].values())).all()


@pytest.mark.slow
def test_values_and_total_are_the_librarys_own(scores):
    import pandas as pd
    import scib_metrics
    from anndata import AnnData
    from scib_metrics.benchmark import Benchmarker

    scorer, found, embeddings = scores
    obs = pd.DataFrame({"b": scorer.batch, "l": scorer.label}, index=scorer.obs_names)
    data = AnnData(obs=obs, obsm=embeddings | {"pre": scorer.unintegrated})
    library = Benchmarker(
        data, "b", "l", ["good", "noise"], pre_integrated_embedding_obsm_key="pre", progress_bar=False
    )
    library.prepare(neighbor_computer=exact_neighbours)
    library.benchmark()
    table = library.get_results(min_max_scale=False)
    names = {"Total": "total", "Bio conservation": "bio_conservation", "Batch correction": "batch_removal"}
    names |= {"KMeans ARI": "kmeans_ari", "iLISI": "ilisi", "BRAS": "bras", "PCR comparison": "pcr", "KBET": "kbet"}
    for row in embeddings:
        ours = {theirs: found[row]["all"][name] for theirs, name in names.items()}
        assert ours == pytest.approx(table.loc[row, list(names)].astype(float).to_dict(), abs=1e-6)
        batch = scib_metrics.silhouette_batch(embeddings[row], scorer.label, scorer.batch)
        assert found[row]["all"]["silhouette_batch"] == pytest.approx(float(batch), abs=1e-6)


@pytest.mark.slow
def test_correction_is_rewarded_and_noise_is_not(scores):
    before, good, noise = (scores[1][row]["all"] for row in ("unintegrated", "good", "noise"))
    assert good["total"] > before["total"]
    assert good["batch_removal"] > before["batch_removal"] + 0.1
    assert noise["bio_conservation"] < good["bio_conservation"] - 0.3
    assert before["marker_fold_change"] == pytest.approx(1)
    assert good["marker_fold_change"] > 0.99


@pytest.mark.slow
def test_an_unlabelled_batch_counts_for_mixing_only(scores):
    cells, _ = batches()
    wrong = cells.copy()
    labels = wrong.obs["type"].to_numpy().copy()
    labels[240:] = np.random.default_rng(0).permutation(labels[240:])
    wrong.obs["type"] = labels
    embedding = {"good": scores[2]["good"]}
    a, b = (
        IntegrationScorer(data, "batch", "type", unlabelled_batches=["b3"], n_components=10).score(embedding)["good"][
            "all"
        ]
        for data in (cells, wrong)
    )
    assert a == pytest.approx(b, nan_ok=True, abs=1e-6)
    everyone = scores[1]["good"]["all"]
    assert [a["ilisi"], a["pcr"]] == pytest.approx([everyone["ilisi"], everyone["pcr"]], abs=1e-6)
    assert a["silhouette_label"] != everyone["silhouette_label"]


@pytest.mark.slow
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
        scorer._corrected("mine", cells[::-1].copy())
