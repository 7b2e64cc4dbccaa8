import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, ttest_ind
from sklearn.metrics import r2_score

from scsave.errors import UserError
from scsave.metrics.distribution import energy_distance, squared
from scsave.metrics.genetic import GeneticScorer
from scsave.metrics.registry import rows
from tests.metrics.cells import prepared

GENES = [f"g{i}" for i in range(120)]
EFFECT = np.random.default_rng(7).normal(0, 0.6, size=(8, 120)) * (np.random.default_rng(8).random((8, 120)) < 0.3)


def cells(labels, seed):
    """Each gene of a label adds its effect to the log rates."""
    draw = np.random.default_rng(seed)
    rate = np.log(np.random.default_rng(5).gamma(1.5, 2, size=120))
    effect = {f"g{i}": EFFECT[i] for i in range(8)} | {"control": np.zeros(120)}
    log_rate = np.array([rate + sum(effect[gene] for gene in label.split("+")) for label in labels])
    return prepared(draw.poisson(np.exp(log_rate)), {"perturbation": labels}, GENES)


TEST = {"unseen_single": ["g3", "g4"], "combo_seen1": ["g0+g3", "g1+g4"], "combo_seen0": []}
NAMES = sorted(TEST["unseen_single"] + TEST["combo_seen1"])


@pytest.fixture(scope="module")
def given():
    return {
        "train": cells(["control"] * 80 + ["g0"] * 30 + ["g1"] * 50 + ["g2"] * 20, 1),
        "control_pred": cells(["control"] * 60, 2),
        "control_truth": cells(["control"] * 50, 3),
        "real": cells(np.repeat(NAMES, 40).tolist(), 4),
        "perturbation_key": "perturbation",
        "groups": TEST,
        "control": "control",
        "n_components": 8,
    }


@pytest.fixture(scope="module")
def scorer(given):
    return GeneticScorer(**given)


@pytest.fixture(scope="module")
def predicted():
    return cells(np.repeat(NAMES, 25).tolist(), 6)


def dense(data, label=None):
    x = data.X.toarray().astype(float)
    return x if label is None else x[(data.obs["perturbation"] == label).to_numpy()]


def test_every_row_of_the_registry_is_emitted(scorer, predicted):
    for scores in (scorer.score(predicted), scorer.ceiling()):
        assert list(scores.per_perturbation) == list(rows("genetic"))
        assert list(scores.per_perturbation.index) == NAMES
        assert list(scores.groups) == ["all", *TEST]
        for values in scores.groups.values():
            assert list(values) == list(rows("genetic"))


def test_values_of_a_perturbation_against_brute_force(scorer, given, predicted):
    found = scorer.score(predicted).per_perturbation.loc["g0+g3"]
    real, pred = dense(given["real"], "g0+g3"), dense(predicted, "g0+g3")
    c_pred, c_truth = dense(given["control_pred"]), dense(given["control_truth"])
    delta, real_delta = pred.mean(0) - c_pred.mean(0), real.mean(0) - c_truth.mean(0)
    reference = np.mean([dense(given["train"], g).mean(0) for g in ("g0", "g1", "g2")], axis=0)
    t = ttest_ind(real, c_truth, equal_var=False).statistic

    def error(a, b):
        return np.sqrt(a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b))

    scale = np.median(error(real, c_truth))
    moderated, pred_t = (
        np.abs(real_delta) / (error(real, c_truth) + scale),
        np.abs(delta) / (error(pred, c_pred) + scale),
    )
    size = np.abs(t)
    weights = ((size - size.min()) / (size.max() - size.min())) ** 2
    top = np.argsort(-size)[:20]
    ranks = []
    for name in NAMES:
        other = dense(given["real"], name).mean(0) - c_truth.mean(0)
        ranks.append(np.delete(np.abs(delta - other), [0, 3]).sum())
    pca = scorer.space.projection
    project = lambda x: (x - pca.mean) @ pca.components  # noqa: E731
    expected = {
        "l2_top1000": np.linalg.norm(pred.mean(0) - real.mean(0)),
        "pcc_delta": pearsonr(real_delta, delta)[0],
        "pcc_delta_centroid": pearsonr(real.mean(0) - reference, pred.mean(0) - reference)[0],
        "mse_de20": ((pred.mean(0) - real.mean(0))[top] ** 2).mean(),
        "r2_weighted": r2_score(real_delta, delta, sample_weight=weights),
        "mse_weighted": np.average((real_delta - delta) ** 2, weights=weights),
        "discrimination": 1 - np.argsort(ranks).tolist().index(NAMES.index("g0+g3")) / 4,
        "overlap_20": len(set(np.argsort(-moderated)[:20]) & set(np.argsort(-pred_t)[:20])) / 20,
        "overlap_100": len(set(np.argsort(-moderated)[:100]) & set(np.argsort(-pred_t)[:100])) / 100,
        "energy": energy_distance(squared(project(pred), project(real))),
    }
    assert scorer.reference == pytest.approx(reference, rel=1e-5)
    assert found.to_dict() == pytest.approx(expected, rel=1e-5)


def test_groups_are_means_with_intervals_and_an_empty_one_is_missing(scorer, predicted):
    scores = scorer.score(predicted)
    table = scores.per_perturbation
    for name in table:
        assert scores.groups["all"][name] == pytest.approx(table[name].mean())
        assert scores.groups["unseen_single"][name] == pytest.approx(table.loc[["g3", "g4"], name].mean())
        low, high = scores.intervals["all"][name]
        assert table[name].min() <= low <= scores.groups["all"][name] <= high <= table[name].max()
    assert np.isnan(list(scores.groups["combo_seen0"].values())).all()
    assert np.isnan(list(scores.intervals["combo_seen0"].values())).all()
    assert scores.counts == {"all": 4, "unseen_single": 2, "combo_seen1": 2, "combo_seen0": 0}


def test_no_change_and_the_perturbed_mean_have_no_specific_skill(scorer, given):
    control = given["control_pred"]
    no_change = control[np.tile(np.arange(control.n_obs), 4)].copy()
    no_change.obs["perturbation"] = np.repeat(NAMES, control.n_obs)
    table = scorer.score(no_change).per_perturbation
    assert (table["pcc_delta"] == 0).all()
    assert (table[["overlap_20", "overlap_100"]] == 0).all(axis=None)
    assert table["discrimination"].mean() < 0.9
    mean = control[np.arange(4)].copy()
    mean.X = np.tile(scorer.reference, (4, 1))
    mean.obs["perturbation"] = NAMES
    found = scorer.score(mean)
    assert (found.per_perturbation["pcc_delta_centroid"].abs() < 1e-6).all()
    assert found.groups["all"]["pcc_delta"] > 0.05


def test_identical_cells_are_perfect_and_above_the_ceiling(given):
    scorer = GeneticScorer(**given | {"control_truth": given["control_pred"]})
    best, ceiling = scorer.score(given["real"]).groups["all"], scorer.ceiling().groups["all"]
    for name, row in rows("genetic").items():
        assert best[name] == pytest.approx(1 if row.best == "max" else 0, abs=1e-9)
        assert not row.better(ceiling[name], best[name] + (1e-9 if row.best == "max" else -1e-9))
    assert ceiling["pcc_delta"] > 0.5


def test_a_perturbation_with_two_cells_and_one_with_one(given, predicted):
    real = given["real"]
    kept = np.ones(real.n_obs, dtype=bool)
    kept[np.flatnonzero(real.obs["perturbation"] == "g3")[2:]] = False
    kept[np.flatnonzero(real.obs["perturbation"] == "g4")[1:]] = False
    scorer = GeneticScorer(**given | {"real": real[kept].copy()})
    assert scorer.info["cells_per_perturbation"]["g3"] == 2
    scores, ceiling = scorer.score(predicted), scorer.ceiling()
    assert np.isfinite(scores.per_perturbation).all(axis=None)
    assert np.isfinite(ceiling.per_perturbation.loc["g3"]).all()
    assert ceiling.per_perturbation.loc["g4"].isna().all()
    assert ceiling.counts == {"all": 3, "unseen_single": 1, "combo_seen1": 2, "combo_seen0": 0}


def test_no_ceiling_at_all(given):
    single = given["real"][np.unique(given["real"].obs["perturbation"], return_index=True)[1]].copy()
    assert np.isnan(list(GeneticScorer(**given | {"real": single}).ceiling().groups["all"].values())).all()


def test_one_test_perturbation_has_no_rank(given, predicted):
    only = given["real"][(given["real"].obs["perturbation"] == "g3").to_numpy()].copy()
    scorer = GeneticScorer(**given | {"real": only, "groups": {}})
    scores = scorer.score(predicted[(predicted.obs["perturbation"] == "g3").to_numpy()].copy())
    assert np.isnan(scores.groups["all"]["discrimination"])
    assert np.isnan(scores.intervals["all"]["pcc_delta"]).all()


def test_cells_in_any_order_with_control_among_them(scorer, given, predicted):
    from anndata import concat

    mixed = concat([predicted, given["control_pred"]], index_unique="-")
    mixed = mixed[np.random.default_rng(0).permutation(mixed.n_obs)].copy()
    pd.testing.assert_frame_equal(scorer.score(mixed).per_perturbation, scorer.score(predicted).per_perturbation)


def test_training_with_control_only_takes_the_real_centroids(given):
    scorer = GeneticScorer(**given | {"train": given["control_pred"]})
    expected = np.mean([dense(given["real"], name).mean(0) for name in NAMES], axis=0)
    assert scorer.reference == pytest.approx(expected, rel=1e-5)


def test_mistakes_get_one_line(scorer, given, predicted):
    with pytest.raises(UserError, match="none for 1 test perturbations \\(g4\\)"):
        scorer.score(predicted[(predicted.obs["perturbation"] != "g4").to_numpy()].copy())
    wrong = predicted.copy()
    wrong.obs["perturbation"] = ["g7", *wrong.obs["perturbation"][1:]]
    with pytest.raises(UserError, match="'g7' is no test perturbation"):
        scorer.score(wrong)
    with pytest.raises(UserError, match="predicted cells: genes differ"):
        scorer.score(predicted[:, 3:].copy())
    with pytest.raises(UserError, match="group seen: no real cells for 1 perturbations \\(g0\\)"):
        GeneticScorer(**given | {"groups": {"seen": ["g0"]}})
    with pytest.raises(UserError, match="needs control cells \\(perturbation = 'control'\\)"):
        GeneticScorer(**given | {"control_truth": given["control_truth"][:0].copy()})
    with pytest.raises(UserError, match="needs perturbed cells"):
        GeneticScorer(**given | {"real": given["control_truth"], "groups": {}})
    with pytest.raises(UserError, match="real cells: no column pert in obs"):
        GeneticScorer(**given | {"perturbation_key": "pert"})
