import numpy as np
import ot
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from scsave.errors import UserError
from scsave.metrics.distribution import energy_distance, mmd2_unbiased, squared
from scsave.metrics.registry import rows
from scsave.metrics.response import ResponseScorer, sign_agreement, split_control
from scsave.stats.moments import moments
from scsave.stats.resample import half
from tests.metrics.cells import population

GENES = 150


@pytest.fixture(scope="module")
def cells():
    both = population(400, GENES, seed=2, types=("A",))
    stimulated = (both.obs["state"] == "y").to_numpy()
    control, predicted = both[~stimulated].copy(), population(160, GENES, seed=3, types=("A",))
    predicted = predicted[(predicted.obs["state"] == "y").to_numpy()].copy()
    return {
        "train": population(300, GENES, seed=1),
        "control": control,
        "real": both[stimulated].copy(),
        "first": predicted[:40].copy(),
        "second": predicted[40:].copy(),
        "predicted": predicted,
    }


@pytest.fixture(scope="module")
def scorer(cells):
    return ResponseScorer(cells["train"], cells["control"], cells["real"], n_components=10)


def dense(part):
    return part.X.toarray().astype(float)


def test_every_row_of_the_registry_is_emitted(scorer, cells):
    assert list(scorer.score(cells["first"], cells["second"])) == list(rows("response"))
    assert list(scorer.ceiling()) == list(rows("response"))


def test_scores_against_brute_force(scorer, cells):
    """Changes of each half's prediction from that half, against the truth from the other; all else of both together."""
    found = scorer.score(cells["first"], cells["second"])
    halves = split_control(cells["control"], seed=0)
    real, pooled, control = (dense(cells[name]) for name in ("real", "predicted", "control"))

    def error(a, b):
        return np.sqrt(a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b))

    def measured(a, b, scale):
        return (a.mean(0) - b.mean(0)) / (error(a, b) + scale)

    expected = {}
    for predicted, start, other in ((cells["first"], *halves), (cells["second"], *halves[::-1])):
        predicted, start, other = dense(predicted), dense(start), dense(other)
        scale = np.median(error(real, other))
        real_t, pred_t = measured(real, other, scale), measured(predicted, start, scale)
        de = np.argsort(-np.abs(real_t))[:100]
        real_delta, delta = real.mean(0) - other.mean(0), predicted.mean(0) - start.mean(0)
        one = {"sign_agreement": (real_delta[de] * delta[de] > 0).mean()}
        for suffix, genes in (("", np.arange(GENES)), ("_de100", de)):
            one[f"pcc_delta{suffix}"] = pearsonr(real_delta[genes], delta[genes])[0]
            one[f"r2_delta{suffix}"] = r2_score(real_delta[genes], delta[genes])
        for k in (20, 100):
            top = [set(np.argsort(-np.abs(t))[:k]) for t in (real_t, pred_t)]
            one[f"de_overlap_{k}"] = len(top[0] & top[1]) / k
        for name, value in one.items():
            expected[name] = expected.get(name, 0) + value / 2

    de = np.argsort(-np.abs(measured(real, control, np.median(error(real, control)))))[:100]
    assert scorer.de_genes == [f"gene{g}" for g in de]
    change, predicted_change = real.mean(0) - control.mean(0), pooled.mean(0) - control.mean(0)
    expected["pcc_delta_one_control"] = pearsonr(change, predicted_change)[0]
    for suffix, genes in (("", np.arange(GENES)), ("_de100", de)):
        r = pearsonr(real.mean(0)[genes], pooled.mean(0)[genes])[0]
        expected |= {f"pcc{suffix}": r, f"r2_pearson_sq{suffix}": r**2}
        expected[f"r2{suffix}"] = r2_score(real.mean(0)[genes], pooled.mean(0)[genes])
    pca = scorer.space.projection
    p, r = ((x - pca.mean) @ pca.components for x in (pooled, real))
    u, v = np.full(len(p), 1 / len(p)), np.full(len(r), 1 / len(r))
    expected |= {
        "w1": ot.emd2(u, v, ot.dist(p, r, metric="euclidean")),
        "w2": np.sqrt(ot.emd2(u, v, ot.dist(p, r))),
        "mmd2_unbiased": mmd2_unbiased(squared(p, r)),
        "energy": energy_distance(squared(p, r)),
    }
    assert pca.mean == pytest.approx(dense(cells["train"]).mean(0), abs=1e-5)
    assert found == pytest.approx(expected, rel=1e-5)


def test_control_as_prediction_is_no_change_exactly(scorer, cells):
    draw = np.random.default_rng(0)
    for shuffled in (False, True):
        start = [part[draw.permutation(part.n_obs)].copy() if shuffled else part for part in scorer.halves]
        found = scorer.score(*start)
        zero = ("pcc_delta", "pcc_delta_de100", "pcc_delta_one_control", "de_overlap_20", "de_overlap_100")
        assert [found[name] for name in (*zero, "sign_agreement")] == [0] * 6
        assert found["r2_delta"] <= 0
        means = dense(cells["real"]).mean(0), dense(cells["control"]).mean(0)
        assert found["pcc"] == pytest.approx(pearsonr(*means)[0], rel=1e-5)
    assert scorer.predicted_de(cells["control"]) == []


def test_identical_cells_reach_the_top_and_the_ceiling_is_below(scorer, cells):
    same = ResponseScorer(cells["train"], cells["control"], cells["real"], n_components=10)
    same._control = same._starts[1] = same._starts[0]  # one control for both sides
    same.truth, same._truths = same._measured(moments(same._real))
    best, ceiling = same.score(cells["real"], cells["real"]), scorer.ceiling()
    for name, row in rows("response").items():
        if name == "mmd2_unbiased":
            assert best[name] < 0
            continue
        assert best[name] == pytest.approx(1 if row.best == "max" else 0, abs=1e-7)
        assert row.better(best[name], ceiling[name]) or ceiling[name] == pytest.approx(best[name])
    assert ceiling["pcc_delta"] > 0.9
    nothing, best = scorer.score(*scorer.halves), scorer.score(cells["real"], cells["real"])
    for name in ("pcc_delta", "r2", "w1", "energy", "de_overlap_20"):
        row = rows("response")[name]
        assert row.better(best[name], ceiling[name]), name
        assert row.better(ceiling[name], nothing[name]), name


def test_ceiling_is_the_mean_of_both_directions(scorer, cells):
    real = cells["real"]
    first = half(np.zeros(real.n_obs), 0)
    directions = [
        ResponseScorer(cells["train"], cells["control"], real[b].copy(), n_components=10).score(*[real[a].copy()] * 2)
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
    predicted, nothing = cells["first"], cells["first"][:0].copy()
    for pair in ((nothing, predicted), (predicted, nothing)):
        with pytest.raises(UserError, match="the prediction has no cells"):
            scorer.score(*pair)
    with pytest.raises(UserError, match="predicted cells: genes differ"):
        scorer.score(predicted, predicted[:, 1:].copy())
    with pytest.raises(UserError, match="no real cells"):
        ResponseScorer(cells["train"], cells["control"], cells["real"][:0].copy())
    with pytest.raises(UserError, match="control cells can't be halved: 0 found"):
        ResponseScorer(cells["train"], cells["control"][:0].copy(), cells["real"])


def test_one_real_cell_has_no_ceiling(cells):
    one = ResponseScorer(cells["train"], cells["control"], cells["real"][:1].copy())
    assert np.isnan(list(one.ceiling().values())).all()
    assert np.isfinite(one.score(cells["first"], cells["second"])["pcc_delta"])


def test_a_mean_shift_is_not_ranked_by_genes_that_control_never_shows(cells):
    control = cells["control"].copy()
    control.X = control.X.toarray()
    control.X[:, 0] = 0
    moved = ResponseScorer(cells["train"], control, cells["real"], n_components=10)
    shift = (dense(cells["real"]).mean(0) - dense(cells["control"]).mean(0)).astype(np.float32)
    shifted = [part.copy() for part in moved.halves]
    for part in shifted:
        part.X = part.X + shift
    assert moved.score(*shifted)["de_overlap_20"] > 0.6
