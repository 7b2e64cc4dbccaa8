import anndata as ad
import numpy as np
import ot
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from scsave.errors import UserError
from scsave.metrics.distribution import energy_distance, mmd2_unbiased, squared
from scsave.metrics.registry import rows
from scsave.metrics.response import CrossedScorer, ResponseScorer, sign_agreement, split_control
from tests.metrics.cells import population

GENES = 150


def held_out(state, n, seed):
    return population(n, GENES, seed=seed, types=("A",), states=(state,) if state == "x" else ("x", "y"))


@pytest.fixture(scope="module")
def cells():
    train = population(300, GENES, seed=1)
    both = population(400, GENES, seed=2, types=("A",))
    stimulated = (both.obs["state"] == "y").to_numpy()
    pred, truth = split_control(both[~stimulated].copy(), seed=0)
    predicted = population(160, GENES, seed=3, types=("A",))
    return {
        "train": train,
        "control_pred": pred,
        "control_truth": truth,
        "real": both[stimulated].copy(),
        "predicted": predicted[(predicted.obs["state"] == "y").to_numpy()].copy(),
    }


@pytest.fixture(scope="module")
def scorer(cells):
    given = {name: cells[name] for name in ("train", "control_pred", "control_truth", "real")}
    return ResponseScorer(**given, n_components=10)


def test_every_row_of_the_registry_is_emitted(scorer, cells):
    assert list(scorer.score(cells["predicted"])) == list(rows("response"))
    assert list(scorer.ceiling()) == list(rows("response"))


def test_scores_against_brute_force(scorer, cells):
    found = scorer.score(cells["predicted"])
    x = {name: part.X.toarray().astype(float) for name, part in cells.items()}
    mean = {name: value.mean(0) for name, value in x.items()}

    def error(a, b):
        return np.sqrt(a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b))

    scale = np.median(error(x["real"], x["control_truth"]))
    real_t = (mean["real"] - mean["control_truth"]) / (error(x["real"], x["control_truth"]) + scale)
    pred_t = (mean["predicted"] - mean["control_pred"]) / (error(x["predicted"], x["control_pred"]) + scale)
    de = np.argsort(-np.abs(real_t))[:100]
    assert scorer.de_genes == [f"gene{g}" for g in de]
    real_delta, delta = mean["real"] - mean["control_truth"], mean["predicted"] - mean["control_pred"]
    expected = {
        "pcc_delta_one_control": pearsonr(mean["real"] - mean["control_pred"], delta)[0],
        "sign_agreement": (real_delta[de] * delta[de] > 0).mean(),
    }
    for suffix, genes in (("", np.arange(GENES)), ("_de100", de)):
        r = pearsonr(mean["real"][genes], mean["predicted"][genes])[0]
        expected |= {f"pcc{suffix}": r, f"r2_pearson_sq{suffix}": r**2}
        expected[f"r2{suffix}"] = r2_score(mean["real"][genes], mean["predicted"][genes])
        expected[f"pcc_delta{suffix}"] = pearsonr(real_delta[genes], delta[genes])[0]
        expected[f"r2_delta{suffix}"] = r2_score(real_delta[genes], delta[genes])
    for k in (20, 100):
        top = [set(np.argsort(-np.abs(t))[:k]) for t in (real_t, pred_t)]
        expected[f"de_overlap_{k}"] = len(top[0] & top[1]) / k
    pca = scorer.projection
    p, r = ((x[name] - pca.mean) @ pca.components for name in ("predicted", "real"))
    u, v = np.full(len(p), 1 / len(p)), np.full(len(r), 1 / len(r))
    expected |= {
        "w1": ot.emd2(u, v, ot.dist(p, r, metric="euclidean")),
        "w2": np.sqrt(ot.emd2(u, v, ot.dist(p, r))),
        "mmd2_unbiased": mmd2_unbiased(squared(p, r)),
        "energy": energy_distance(squared(p, r)),
    }
    assert pca.mean == pytest.approx(x["train"].mean(0), abs=1e-5)
    assert found == pytest.approx(expected, rel=1e-5)


def test_control_as_prediction_is_no_change_exactly(scorer, cells):
    control = cells["control_pred"]
    order = np.random.default_rng(0).permutation(control.n_obs)
    for prediction in (control, control[order].copy()):
        found = scorer.score(prediction)
        zero = (
            "pcc_delta",
            "pcc_delta_de100",
            "pcc_delta_one_control",
            "de_overlap_20",
            "de_overlap_100",
            "sign_agreement",
        )
        assert [found[name] for name in zero] == [0] * 6
        assert found["r2_delta"] <= 0
        assert found["pcc"] == pytest.approx(pearsonr(cells["real"].X.mean(0).A1, control.X.mean(0).A1)[0], rel=1e-5)
        assert scorer.predicted_de(prediction) == []


def test_identical_cells_reach_the_top_and_the_ceiling_is_below(scorer, cells):
    same = ResponseScorer(cells["train"], cells["control_pred"], cells["control_pred"], cells["real"], n_components=10)
    best, ceiling = same.score(cells["real"]), scorer.ceiling()
    for name, row in rows("response").items():
        if name == "mmd2_unbiased":
            assert best[name] < 0
            continue
        assert best[name] == pytest.approx(1 if row.best == "max" else 0, abs=1e-9)
        assert row.better(best[name], ceiling[name]) or ceiling[name] == pytest.approx(best[name])
    assert ceiling["pcc_delta"] > 0.9
    assert rows("response")["w1"].better(ceiling["w1"], scorer.score(cells["control_pred"])["w1"])


def test_ceiling_is_the_mean_of_both_directions(scorer, cells):
    from scsave.stats.resample import half

    real = cells["real"]
    first = half(np.zeros(real.n_obs), 0)
    directions = [
        ResponseScorer(
            cells["train"], cells["control_pred"], cells["control_truth"], real[b].copy(), n_components=10
        ).score(real[a].copy())
        for a, b in ((first, ~first), (~first, first))
    ]
    expected = {name: np.mean([d[name] for d in directions]) for name in directions[0]}
    assert scorer.ceiling() == pytest.approx(expected, rel=1e-6)


def test_predicted_de_genes_are_named(scorer, cells):
    top = scorer.predicted_de(cells["predicted"], k=20)
    assert len(top) == 20
    planted = {f"gene{g}" for g in range(GENES) if g // (GENES // 5) in (3, 4)}
    assert len(set(top) & planted) >= 15


def test_sign_agreement_counts_no_change_as_wrong():
    assert sign_agreement(np.array([1, -1, 2, -2.0]), np.array([3, 1, 0, -1e-3])) == 0.5
    assert np.isnan(sign_agreement(np.empty(0), np.empty(0)))


def test_control_halves_are_disjoint_and_whole():
    control = population(11, seed=0)
    a, b = split_control(control, seed=0)
    assert sorted([*a.obs_names, *b.obs_names]) == sorted(control.obs_names)
    assert abs(a.n_obs - b.n_obs) == 1
    with pytest.raises(UserError, match="control cells can't be halved: 1 found"):
        split_control(control[:1].copy(), seed=0)


def test_mistakes_get_one_line(scorer, cells):
    with pytest.raises(UserError, match="the prediction has no cells"):
        scorer.score(cells["predicted"][:0].copy())
    with pytest.raises(UserError, match="predicted cells: genes differ"):
        scorer.score(cells["predicted"][:, 1:].copy())
    with pytest.raises(UserError, match="no real cells"):
        ResponseScorer(cells["train"], cells["control_pred"], cells["control_truth"], cells["real"][:0].copy())


def test_one_real_cell_has_no_ceiling(cells):
    one = ResponseScorer(cells["train"], cells["control_pred"], cells["control_truth"], cells["real"][:1].copy())
    assert np.isnan(list(one.ceiling().values())).all()
    assert np.isfinite(one.score(cells["predicted"])["pcc_delta"])


def test_a_mean_shift_is_not_ranked_by_genes_that_control_never_shows(scorer, cells):
    control = cells["control_pred"].copy()
    control.X = control.X.toarray()
    control.X[:, 0] = 0
    shifted = control.copy()
    shifted.X = shifted.X + scorer.delta_truth.astype(np.float32)
    moved = ResponseScorer(cells["train"], control, cells["control_truth"], cells["real"], n_components=10)
    assert moved.score(shifted)["de_overlap_20"] > 0.6


def test_crossed_scores_are_both_directions_and_the_pool(cells):
    control = ad.concat([cells["control_pred"], cells["control_truth"]], merge="same")
    control.obs_names_make_unique()
    crossed = CrossedScorer(cells["train"], control, cells["real"], n_components=10, seed=0)
    a, b = crossed.halves
    first, second = cells["predicted"][:40].copy(), cells["predicted"][40:].copy()
    found = crossed.score(first, second)
    one = ResponseScorer(cells["train"], a, b, cells["real"], n_components=10).score(first)
    two = ResponseScorer(cells["train"], b, a, cells["real"], n_components=10).score(second)
    for name in ("pcc_delta", "r2_delta", "pcc_delta_de100", "de_overlap_20", "de_overlap_100", "sign_agreement"):
        assert found[name] == pytest.approx((one[name] + two[name]) / 2), name
    pool = ResponseScorer(cells["train"], control, control, cells["real"], n_components=10).score(cells["predicted"])
    for name in ("pcc", "r2", "r2_pearson_sq_de100", "pcc_delta_one_control", "w1", "w2", "mmd2_unbiased", "energy"):
        assert found[name] == pytest.approx(pool[name], rel=1e-5), name


def test_crossed_no_change_is_zero_and_identity_is_above_the_ceiling(cells):
    control = ad.concat([cells["control_pred"], cells["control_truth"]], merge="same")
    control.obs_names_make_unique()
    crossed = CrossedScorer(cells["train"], control, cells["real"], n_components=10)
    nothing = crossed.score(*crossed.halves)
    assert nothing["pcc_delta"] == nothing["pcc_delta_one_control"] == nothing["de_overlap_20"] == 0
    best, ceiling = crossed.score(cells["real"], cells["real"]), crossed.ceiling()
    assert best["r2"] == pytest.approx(1)
    for name in ("pcc_delta", "r2", "w1", "energy", "de_overlap_20"):
        row = rows("response")[name]
        assert row.better(best[name], ceiling[name]), name
        assert row.better(ceiling[name], nothing[name]), name
    with pytest.raises(UserError, match="the prediction has no cells"):
        crossed.score(crossed.halves[0], cells["real"][:0].copy())
