import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import pearsonr, ttest_ind

from scsave.metrics.differential import batch_agreement, corrected_scores, fold_changes, marker_scores


@pytest.fixture(scope="module")
def two_batches():
    draw = np.random.default_rng(0)
    batch, kind = np.repeat([0, 1], 150), np.tile([0, 1, 2], 100)
    kind[:95] = np.where(kind[:95] == 2, 0, kind[:95])  # type 2 is rare in batch 0
    x = draw.normal(size=(300, 60)) * 0.5
    x += np.eye(3).repeat(20, axis=1)[kind] * 2  # 20 genes a type
    x += batch[:, None] * draw.normal(size=60) * 3
    return np.maximum(x + 3, 0), batch, kind


def test_fold_changes_are_within_batch(two_batches):
    x, batch, kind = two_batches
    found = fold_changes(sp.csr_matrix(x), batch, kind)
    expected = [(b, k) for b in (0, 1) for k in range(3) if ((batch == b) & (kind == k)).sum() >= 20]
    assert found.pairs == expected
    assert len(expected) == 5
    for row, (b, k) in enumerate(found.pairs):
        inside, outside = x[(batch == b) & (kind == k)], x[(batch == b) & (kind != k)]
        assert found.change[row] == pytest.approx(inside.mean(0) - outside.mean(0))
        assert found.t[row] == pytest.approx(
            np.nan_to_num(ttest_ind(inside, outside, equal_var=False).statistic)  # 0 where a gene is constant
        )


def test_scores_against_brute_force(two_batches):
    x, batch, kind = two_batches
    other = x + np.random.default_rng(1).normal(size=x.shape)
    before, after = fold_changes(x, batch, kind), fold_changes(other, batch, kind)
    tops = [np.argsort(-np.abs(t))[:10] for t in before.t]
    r, slope = {}, {}
    for row, (_, k) in enumerate(before.pairs):
        a, b = before.change[row, tops[row]], after.change[row, tops[row]]
        r.setdefault(k, []).append(pearsonr(a, b)[0])
        slope.setdefault(k, []).append((a * b).sum() / (a * a).sum())
    found = marker_scores(before, after, k=10)
    assert found["marker_fold_change"] == pytest.approx(np.mean([np.mean(v) for v in r.values()]))
    assert found["marker_fold_change_slope"] == pytest.approx(np.mean([np.mean(v) for v in slope.values()]))
    pairs = []
    for k in (0, 1):
        a, b = before.pairs.index((0, k)), before.pairs.index((1, k))
        genes = sorted({*tops[a], *tops[b]})
        pairs.append(pearsonr(after.change[a, genes], after.change[b, genes])[0])
    assert batch_agreement(before, after, k=10) == pytest.approx(np.mean(pairs))


def test_no_correction_keeps_all_and_shrinking_shows_in_the_slope(two_batches):
    x, batch, kind = two_batches
    before = fold_changes(x, batch, kind)
    same = corrected_scores(before, before)
    assert same["marker_fold_change"] == pytest.approx(1)
    assert same["marker_fold_change_slope"] == pytest.approx(1)
    half = corrected_scores(before, fold_changes(x / 2, batch, kind))
    assert half["marker_fold_change"] == pytest.approx(1)
    assert half["marker_fold_change_slope"] == pytest.approx(0.5)
    assert half["de_batch_agreement"] == pytest.approx(same["de_batch_agreement"])
    gone = corrected_scores(before, fold_changes(np.ones_like(x), batch, kind))
    assert gone == {"marker_fold_change": 0, "marker_fold_change_slope": 0, "de_batch_agreement": 0}


def test_a_shift_by_batch_is_no_fold_change(two_batches):
    x, batch, kind = two_batches
    before = fold_changes(x, batch, kind)
    moved = fold_changes(x + 5.0 * batch[:, None], batch, kind)
    assert moved.change == pytest.approx(before.change)


def test_too_few_cells_leave_nothing_to_test():
    before = fold_changes(np.random.default_rng(0).normal(size=(20, 5)), np.zeros(20, int), np.arange(20) % 2)
    assert before.pairs == []
    assert np.isnan(list(corrected_scores(before, before).values())).all()
