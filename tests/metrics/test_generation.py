import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scsave import keys
from scsave.errors import UserError
from scsave.metrics.distribution import energy_distance, mmd2_rbf, squared, w1, w2
from scsave.metrics.generation import GenerationScorer
from scsave.metrics.registry import NEUTRAL, PROTOCOLS, rows
from scsave.stats.resample import subsample
from tests.metrics.cells import population

CONDITIONS = ["type", "state"]


@pytest.fixture(scope="module")
def scorer():
    train, test = population(600, seed=1), population(240, seed=2)
    return GenerationScorer(train, test, CONDITIONS, "type", n_components=10, protocols=PROTOCOLS)


@pytest.fixture(scope="module")
def scores(scorer):
    return {
        "real": scorer.score(scorer.real_sample()),
        "train_resample": scorer.score(scorer.train_resample()),
        "fresh": scorer.score(like(scorer.test, population(2000, seed=3))),
        "identical": scorer.score(scorer.test),
    }


def like(test, pool):
    """As many cells of each combination as in `test`."""
    labels = pool.obs["type"] + pool.obs["state"]
    wanted = (test.obs["type"] + test.obs["state"]).value_counts()
    return pool[np.concatenate([np.flatnonzero(labels == label)[:m] for label, m in wanted.items()])].copy()


def test_every_row_of_the_registry_is_emitted_and_no_other(scores):
    of_all_cells = {"de_overlap_100", "c2st_pooled", "authenticity"}
    for by_protocol in scores.values():
        assert list(by_protocol) == list(PROTOCOLS)
        for protocol, groups in by_protocol.items():
            assert list(groups) == ["all", "pooled", "A|x", "A|y", "B|x", "B|y"]
            for group, values in groups.items():
                assert list(values) == list(rows("generation", protocol))
                missing = {name for name, value in values.items() if np.isnan(value)}
                per_group = group not in ("all", "pooled")
                assert missing == (of_all_cells if per_group and protocol == NEUTRAL else set())


def test_all_is_the_unweighted_mean_or_the_pooled_value(scores):
    for protocol in PROTOCOLS:
        groups = scores["fresh"][protocol]
        for name, row in rows("generation", protocol).items():
            mean = np.mean([groups[group][name] for group in ("A|x", "A|y", "B|x", "B|y")])
            assert groups["all"][name] == pytest.approx(mean if row.aggregate == "mean" else groups["pooled"][name])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_distances_are_those_of_the_protocols_projection(scorer, protocol):
    cells = like(scorer.test, population(2000, seed=3))
    test, found = scorer.test, scorer.score(cells)[protocol]["B|x"]
    pca = scorer.fidelity.spaces[protocol].projection

    def of(c):
        return c.X[((c.obs["type"] == "B") & (c.obs["state"] == "x")).to_numpy()].toarray()

    real = (of(test) - pca.mean) @ pca.components
    generated = (of(cells) - (0 if protocol == "cfgen_legacy" else pca.mean)) @ pca.components
    d = squared(generated, real)
    expected = {"w1": w1(d), "w2": w2(d), "mmd2_rbf": mmd2_rbf(d), "energy": energy_distance(d)}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_the_neutral_pca_sees_the_reference_half_and_the_others_the_test_cells(scorer):
    projections = {name: space.projection for name, space in scorer.fidelity.spaces.items()}
    reference = scorer._train.X[scorer._reference]
    assert projections["neutral"].mean == pytest.approx(np.asarray(reference.mean(0)).ravel(), abs=1e-5)
    assert projections["cfgen"].mean == pytest.approx(np.asarray(scorer.test.X.mean(0)).ravel(), abs=1e-5)
    assert projections["cfgen"] is projections["cfgen_legacy"]
    real = scorer.real_sample().obs_names
    assert set(real) <= set(scorer._train.obs_names[~scorer._reference])
    assert scorer.info["real_cells_per_combination"] == scorer.info["cells_per_combination"]


def test_identical_cells_are_perfect(scores):
    best = scores["identical"]["neutral"]["all"]
    for name in ("w1", "w2", "mmd2_rbf", "energy", "gene_mean_r2", "corr_frobenius", "library_w1", "de_overlap_100"):
        row = rows("generation")[name]
        assert best[name] == pytest.approx(1 if row.best == "max" else 0, abs=1e-9)
    assert best["precision"] == best["recall"] == best["coverage"] == best["variance_ratio"] == 1
    assert best["c2st_auc"] == pytest.approx(0.5, abs=0.02)
    assert scores["identical"]["cfgen_legacy"]["all"]["w1"] > 1


def test_cells_of_the_same_distribution_are_at_the_floor(scores):
    floor, fresh = (scores[row]["neutral"]["all"] for row in ("real", "fresh"))
    assert fresh["w1"] == pytest.approx(floor["w1"], rel=0.1)
    assert abs(fresh["mmd2_unbiased"]) < 0.01
    assert fresh["c2st_auc"] == pytest.approx(0.5, abs=0.1)
    assert fresh["variance_ratio"] == pytest.approx(1, abs=0.1)
    assert fresh["label_accuracy"] > 0.9


def test_smooth_and_wrong_cells_are_found_out(scorer, scores):
    smooth = scorer.test.copy()
    codes, _ = pd.factorize(smooth.obs["type"] + smooth.obs["state"])
    member = np.eye(codes.max() + 1)[codes]
    smooth.X = sp.csr_matrix(member @ (member.T @ smooth.X.toarray() / member.sum(0)[:, None]))
    found, real = scorer.score(smooth)["neutral"]["all"], scores["real"]["neutral"]["all"]
    assert found["w1"] < 1.3 * real["w1"]  # W1 hardly minds, which is why the others are there
    assert found["c2st_auc"] > 0.9
    assert found["variance_ratio"] < 0.7
    assert found["zero_fraction_diff"] < -0.05
    assert found["recall"] < 0.2

    wrong = scorer.test.copy()
    wrong.obs["type"] = wrong.obs["type"].map({"A": "B", "B": "A"}).to_numpy()
    wrong = scorer.score(wrong)["neutral"]
    assert wrong["all"]["label_accuracy"] < 0.1
    assert wrong["all"]["w1"] > 1.1 * real["w1"]
    assert wrong["all"]["de_overlap_100"] <= 1
    assert wrong["pooled"]["w1"] == pytest.approx(0, abs=1e-9)


def test_order_of_cells_and_genes_does_not_matter(scorer):
    cells = like(scorer.test, population(2000, seed=3))
    shuffled = cells[np.random.default_rng(0).permutation(cells.n_obs)][:, list(cells.var_names)[::-1]].copy()
    a, b = scorer.score(cells), scorer.score(shuffled)
    for protocol in PROTOCOLS:
        for group, values in a[protocol].items():
            stable = [name for name in values if not name.startswith("c2st") and name != "label_accuracy"]
            assert [b[protocol][group][n] for n in stable] == pytest.approx(
                [values[n] for n in stable], nan_ok=True, rel=1e-6, abs=1e-9
            )


def test_same_seed_same_scores():
    train, test = population(120, seed=1), population(60, seed=2)
    runs = []
    for seed in (0, 0, 1):
        scorer = GenerationScorer(train, test, CONDITIONS, "type", n_components=5, seed=seed)
        runs.append(scorer.score(scorer.real_sample())["neutral"]["all"])
    assert runs[0] == pytest.approx(runs[1], abs=0, nan_ok=True)
    assert runs[0]["w1"] != runs[2]["w1"]


def test_unseen_combinations_are_split_between_test_and_real():
    train, test = population(200, seed=1), population(100, seed=2)
    train = train[~((train.obs["type"] == "B") & (train.obs["state"] == "y")).to_numpy()].copy()
    scorer = GenerationScorer(train, test, CONDITIONS, "type", n_components=5)
    n = int(((test.obs["type"] == "B") & (test.obs["state"] == "y")).sum())
    assert scorer.info["unseen_combinations"] == ["B|y"]
    assert scorer.info["cells_per_combination"]["B|y"] == n - n // 2
    assert scorer.info["real_cells_per_combination"]["B|y"] == n // 2
    real = scorer.real_sample()
    unseen_real = real.obs_names[(real.obs["type"] == "B") & (real.obs["state"] == "y")]
    held = set(test.obs_names) - set(scorer.test.obs_names)
    assert len(held) == len(unseen_real) == n // 2
    resample = scorer.score(scorer.train_resample())["neutral"]
    assert np.isnan(resample["B|y"]["w1"])
    assert resample["all"]["w1"] == pytest.approx(np.mean([resample[g]["w1"] for g in ("A|x", "A|y", "B|x")]))
    assert np.isfinite(scorer.score(real)["neutral"]["B|y"]["w1"])


def test_nothing_seen_in_training_leaves_an_empty_resample():
    train, test = population(60, seed=1), population(40, seed=2, types=("C", "D"))
    scorer = GenerationScorer(train, test, CONDITIONS, "type", n_components=5)
    assert scorer.train_resample().n_obs == 0
    assert np.isnan(list(scorer.score(scorer.train_resample())["neutral"]["all"].values())).all()


def test_a_combination_with_one_cell_is_skipped_and_counted():
    test = population(40, seed=2)
    test.obs["type"] = ["rare", *test.obs["type"][1:]]
    train = population(100, seed=1)
    train.obs["type"] = ["rare", *train.obs["type"][1:]]
    scorer = GenerationScorer(train, test, CONDITIONS, "type", n_components=5)
    assert scorer.info["skipped_combinations"] == 1
    assert scorer.info["skipped"][0].startswith("rare|")
    found = scorer.score(test)["neutral"]
    assert not [group for group in found if group.startswith("rare")]
    assert np.isnan(found["A|x"]["c2st_auc"])
    assert np.isnan(scorer.score(test)["neutral"]["all"]["c2st_auc"])  # 40 cells are too few to ask


def test_large_groups_are_capped_and_named():
    scorer = GenerationScorer(population(300, seed=1), population(200, seed=2), ["type"], "type", max_cells=50)
    assert scorer.info["capped_groups"] == ["A", "B", "pooled"]
    cells, pca = scorer.real_sample(), scorer.fidelity.spaces[NEUTRAL].projection

    def capped(of):
        x = of.X[(of.obs["type"] == "A").to_numpy()]
        return pca(x[subsample(x.shape[0], 50, seed=0)])

    assert scorer.score(cells)["neutral"]["A"]["w1"] == pytest.approx(w1(squared(capped(cells), capped(scorer.test))))


def test_of_many_training_cells_the_same_share_of_each_combination_is_used():
    train, test = population(600, seed=1), population(240, seed=2)
    scorer = GenerationScorer(train[:], test, CONDITIONS, "type", n_components=10, max_train_cells=100)
    sizes = (train.obs["type"] + train.obs["state"]).value_counts()
    used = (scorer._train.obs["type"] + scorer._train.obs["state"]).value_counts()
    assert (used == np.ceil(sizes * 100 / 600)).all()
    assert scorer.info["reference_cells"] < 70
    whole = GenerationScorer(train[:], test, CONDITIONS, "type", n_components=10)
    assert whole.info == GenerationScorer(train, test, CONDITIONS, "type", n_components=10).info


def test_of_many_test_cells_the_same_share_of_each_combination_is_asked_for():
    train, test = population(600, seed=1), population(240, seed=2)
    few = GenerationScorer(train, test[:], CONDITIONS, "type", n_components=10, max_test_cells=60)
    sizes = (test.obs["type"] + test.obs["state"]).value_counts()
    asked = (few.test.obs["type"] + few.test.obs["state"]).value_counts()
    assert (asked == np.ceil(sizes * 60 / 240)).all()
    assert set(few.test.obs_names) < set(test.obs_names)
    assert few.info["test_cells"] == asked.sum()


def test_variable_genes_are_chosen_on_training_cells():
    train, test = population(200, seed=1), population(80, seed=2)
    chosen = (
        GenerationScorer(train, test, ["type"], "type", n_top_genes=15, n_components=5)
        .fidelity.spaces[NEUTRAL]
        .variable
    )
    poisoned = test.copy()
    poisoned.X = poisoned.X * np.float32(3)
    again = (
        GenerationScorer(train, poisoned, ["type"], "type", n_top_genes=15, n_components=5)
        .fidelity.spaces[NEUTRAL]
        .variable
    )
    assert len(chosen) == 15
    assert (chosen == again).all()


def test_numeric_conditions_and_a_label_that_is_no_condition():
    train, test = population(200, seed=1), population(80, seed=2)
    for cells in (train, test):
        cells.obs["dose"] = np.where(cells.obs["state"] == "x", 0.5, 10.0)
    scorer = GenerationScorer(train, test, ["dose"], "type", n_components=5)
    assert scorer.groups == ["0.5", "10"]
    assert scorer.info["label_key"] is None
    assert np.isnan(scorer.score(test)["neutral"]["all"]["label_accuracy"])


def test_mistakes_get_one_line(scorer):
    bad = scorer.test.copy()
    bad.X.data[0] = np.nan
    with pytest.raises(UserError, match="generated cells: X has 1 values that are NaN"):
        scorer.score(bad)
    with pytest.raises(UserError, match="generated cells: genes differ"):
        scorer.score(scorer.test[:, 5:].copy())
    few = scorer.test[(scorer.test.obs["type"] == "A").to_numpy()].copy()
    with pytest.raises(UserError, match="none for 2 combinations of type, state \\(B\\|x, B\\|y\\)"):
        scorer.score(few)
    extra = scorer.test.copy()
    extra.obs["type"] = ["C", *extra.obs["type"][1:]]
    with pytest.raises(UserError, match="1 combinations of type, state have no test cell \\(C\\|"):
        scorer.score(extra)
    del extra.obs["state"]
    with pytest.raises(UserError, match="no column state in obs"):
        scorer.score(extra)
    with pytest.raises(UserError, match="scoring needs cells, found 0 for training"):
        GenerationScorer(scorer.test[:0].copy(), scorer.test, CONDITIONS, None)


def test_columns_survive_in_the_real_row(scorer):
    real = scorer.real_sample()
    assert {*CONDITIONS, keys.LIBRARY} <= set(real.obs)
    assert real.obs_names.is_unique


def test_only_the_protocols_that_are_asked_for_are_computed(scorer, scores):
    neutral = GenerationScorer(population(600, seed=1), population(240, seed=2), CONDITIONS, "type", n_components=10)
    assert list(neutral.fidelity.spaces) == [NEUTRAL]
    found = neutral.score(neutral.real_sample())
    assert list(found) == [NEUTRAL]
    for group, values in scores["real"][NEUTRAL].items():
        assert found[NEUTRAL][group] == pytest.approx(values, abs=0, nan_ok=True)


def test_pooled_values_of_a_fixed_number_of_cells_are_at_their_floor_and_find_smooth_cells(scorer, scores):
    for row in ("real", "fresh"):
        assert scores[row][NEUTRAL]["all"]["c2st_pooled"] == pytest.approx(0.5, abs=0.08)
        assert scores[row][NEUTRAL]["pooled"]["c2st_pooled"] == scores[row][NEUTRAL]["all"]["c2st_pooled"]
        assert scores[row][NEUTRAL]["pooled"]["energy"] < 0.5 * scores[row][NEUTRAL]["all"]["energy"]
    smooth = scorer.test.copy()
    smooth.X = sp.csr_matrix(np.tile(np.asarray(scorer.test.X.mean(0)), (smooth.n_obs, 1)))
    assert scorer.score(smooth)[NEUTRAL]["all"]["c2st_pooled"] > 0.95


def test_authenticity_finds_copies_of_training_cells(scorer, scores):
    value = {row: scores[row][NEUTRAL]["all"]["authenticity"] for row in scores}
    assert value["real"] == pytest.approx(0.5, abs=0.08)
    assert value["fresh"] == pytest.approx(value["real"], abs=0.08)
    assert value["identical"] < 0.4  # many of the compared test cells themselves
    near, test = scorer.fidelity.nearby
    assert scorer.info["nearby_cells"] == len(near) == len(test) > 30
    train = scorer.fidelity.spaces[NEUTRAL].projection(scorer._train.X)
    original = (train[:, None] == near).all(-1).any(1)  # training cells that generated ones are compared with
    assert original.sum() == len(near)
    assert not set(scorer._train.obs_names[original]) & set(scorer.real_sample().obs_names)
    assert not (original & scorer._reference).any()
    copied = scorer.train_resample().obs_names.str.rsplit("-", n=1).str[0]
    share = np.isin(copied, scorer._train.obs_names[original]).mean()
    assert value["train_resample"] == pytest.approx(share + (1 - share) * value["real"], abs=0.08)


def test_authenticity_leaves_out_combinations_that_training_lacks():
    train, test = population(500, seed=1, types=("A",)), population(200, seed=2)
    scorer = GenerationScorer(train, test, ["type"], "type", n_components=5)
    assert scorer.info["nearby_cells"] == (test.obs["type"] == "A").sum()
    moved = scorer.real_sample()
    moved.X = sp.csr_matrix(moved.X.toarray() + 9.0 * (moved.obs["type"] == "B").to_numpy()[:, None])
    both = [scorer.score(cells)[NEUTRAL]["pooled"]["authenticity"] for cells in (scorer.real_sample(), moved)]
    assert both[0] == both[1] == pytest.approx(0.5, abs=0.1)


def test_without_training_cells_to_spare_there_is_no_authenticity():
    scorer = GenerationScorer(population(60, seed=1), population(80, seed=2), ["type"], "type", n_components=5)
    assert scorer.info["nearby_cells"] == 0
    assert np.isnan(scorer.score(scorer.real_sample())[NEUTRAL]["all"]["authenticity"])


def test_a_number_with_many_values_makes_no_groups():
    train, test = population(300, seed=1), population(150, seed=2)
    for seed, cells in enumerate((train, test)):
        cells.obs["age"] = np.random.default_rng(seed).normal(size=cells.n_obs)
    scorer = GenerationScorer(train, test, ["type", "age"], "type", n_components=5)
    assert scorer.groups == ["A", "B"]
    assert scorer.info["grouped_by"] == ["type"]
    expected = GenerationScorer(train, test, ["type"], "type", n_components=5)
    for cells in (scorer.test, scorer.real_sample()):
        for group, values in scorer.score(cells)[NEUTRAL].items():
            assert values == pytest.approx(expected.score(cells)[NEUTRAL][group], abs=0, nan_ok=True)
    only = GenerationScorer(train, test, ["age"], None, n_components=5)
    assert only.cells_per_combination == {"": 150}
