import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import pearsonr, wasserstein_distance
from sklearn.metrics import r2_score

from scsave.metrics.gene_level import (
    LevelTests,
    corr_frobenius,
    correlation,
    de_overlap,
    level_tests,
    library_w1,
    moment_scores,
)
from scsave.stats.moments import moments


def expression(n=60, genes=12, seed=0):
    draw = np.random.default_rng(seed)
    return np.log1p(draw.poisson(draw.random(genes) * 3, size=(n, genes))).astype(np.float32)


def test_moment_scores_against_numpy():
    x, y = expression(seed=1), expression(n=45, seed=0)
    found = moment_scores(moments(sp.csr_matrix(x)), moments(sp.csr_matrix(y)))
    pairs = {
        "gene_mean": (x.mean(0), y.mean(0)),
        "gene_variance": (x.var(0, ddof=1), y.var(0, ddof=1)),
        "zero_fraction": ((x == 0).mean(0), (y == 0).mean(0)),
    }
    for name, (a, b) in pairs.items():
        assert found[f"{name}_pearson"] == pytest.approx(pearsonr(a, b)[0], abs=1e-5)
        assert found[f"{name}_r2"] == pytest.approx(r2_score(b, a), abs=1e-5)
    assert found["zero_fraction_diff"] == pytest.approx((x == 0).mean() - (y == 0).mean())
    assert found["variance_ratio"] == pytest.approx(x.var(0, ddof=1).sum() / y.var(0, ddof=1).sum(), rel=1e-5)
    seen = (y > 0).mean(0) >= 0.1
    ratio = np.median(x.var(0, ddof=1)[seen] / y.var(0, ddof=1)[seen])
    assert found["variance_ratio_median"] == pytest.approx(ratio, rel=1e-5)


def test_equal_cells_are_perfect_and_the_mean_is_not():
    y = expression()
    best = moment_scores(moments(y), moments(y))
    agreement = [value for name, value in best.items() if name.endswith(("pearson", "r2"))]
    assert agreement == pytest.approx(np.ones(6))
    assert [best["zero_fraction_diff"], best["variance_ratio"], best["variance_ratio_median"]] == [0, 1, 1]
    smooth = moment_scores(moments(np.tile(y.mean(0), (10, 1))), moments(y))
    assert smooth["gene_mean_r2"] == pytest.approx(1)
    assert smooth["variance_ratio"] == smooth["variance_ratio_median"] == 0
    assert smooth["zero_fraction_diff"] < 0


def test_zero_cells_have_no_ratio():
    nothing = np.zeros((5, 3))
    assert np.isnan(moment_scores(moments(nothing), moments(nothing))["variance_ratio"])


def test_correlation_is_numpys_and_a_constant_gene_is_uncorrelated():
    x, y = expression(seed=1), expression(seed=0)
    a, b = np.corrcoef(x.T), np.corrcoef(y.T)
    assert correlation(sp.csr_matrix(x)) == pytest.approx(a, abs=1e-6)
    assert corr_frobenius(x, y) == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b), rel=1e-5)
    assert corr_frobenius(y, y) == 0
    x[:, 2] = 0.7
    assert np.isfinite(correlation(x)).all()
    assert (correlation(x)[2] == np.eye(12)[2]).all()


def test_level_tests_are_moderated_t_against_the_rest():
    x = expression()
    obs = pd.DataFrame({"type": ["a"] * 20 + ["b"] * 37 + ["c"] * 3, "dose": [0.5, 1.0] * 30})
    found = level_tests(sp.csr_matrix(x), obs, ["type", "dose"])
    assert found.levels == [("type", "a"), ("type", "b"), ("dose", "0.5"), ("dose", "1.0")]
    for (column, level), t, fudge in zip(found.levels, found.t, found.fudge, strict=True):
        inside = (obs[column].astype(str) == level).to_numpy()
        groups = x[inside].astype(float), x[~inside].astype(float)
        error = np.sqrt(sum(group.var(0, ddof=1) / len(group) for group in groups))
        assert fudge == pytest.approx(np.median(error[error > 0]), rel=1e-5)
        assert t == pytest.approx((groups[0].mean(0) - groups[1].mean(0)) / (error + fudge), rel=1e-5)


def test_generated_levels_are_moderated_by_the_real_ones():
    obs = pd.DataFrame({"type": ["a"] * 30 + ["b"] * 30})
    real = level_tests(expression(seed=0), obs, ["type"])
    constant = level_tests(np.repeat([[0.0, 1.0], [0.5, 0.2]], 30, axis=0).repeat(6, axis=1), obs, ["type"], like=real)
    assert (constant.fudge == real.fudge).all()
    assert constant.t[0, 0] == pytest.approx(-0.5 / real.fudge[0])
    only_a = LevelTests(real.levels[:1], real.t[:1], real.fudge[:1])
    assert level_tests(expression(seed=1), obs, ["type"], like=only_a).levels == [("type", "a")]


def test_de_overlap_over_levels():
    draw = np.random.default_rng(0)
    obs = pd.DataFrame({"type": ["a"] * 30 + ["b"] * 30})
    x = draw.normal(size=(60, 40))
    x[:30, :10] += 5
    other = draw.normal(size=(60, 40))
    other[:30, 5:15] += 5
    real, generated = level_tests(x, obs, ["type"]), level_tests(other, obs, ["type"])
    assert de_overlap(real, real, k=10) == 1
    assert de_overlap(generated, real, k=10) == pytest.approx(0.5)
    only_a = level_tests(x[:30], obs[:30], ["type"])
    assert only_a.levels == []
    assert de_overlap(only_a, real, k=10) == 0
    assert np.isnan(de_overlap(real, only_a, k=10))


def test_library_w1_is_on_the_log_scale():
    draw = np.random.default_rng(0)
    a, b = draw.integers(500, 5000, 30), draw.integers(500, 5000, 20)
    assert library_w1(a, b) == pytest.approx(wasserstein_distance(np.log1p(a), np.log1p(b)))
    assert library_w1(1000 * np.ones(4), 1100 * np.ones(3)) == pytest.approx(np.log(1.1), rel=1e-3)
