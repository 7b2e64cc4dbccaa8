import numpy as np
import pytest
from sklearn.decomposition import PCA

from scsave.stats.pca import Projection, fit_pca, softened, sphered_half
from tests.metrics.cells import population


@pytest.mark.parametrize(("n", "genes", "kept"), [(80, 20, 3), (30, 60, 25), (12, 5, 30)])
def test_pca_is_sklearns_up_to_sign(n, genes, kept):
    x = population(n, genes).X
    found, reference = fit_pca(x, kept, seed=0), PCA(min(kept, n - 1, genes - 1), svd_solver="full").fit(x.toarray())
    assert found.components.shape == (genes, min(kept, n - 1, genes - 1))
    assert np.abs(found(x)) == pytest.approx(np.abs(reference.transform(x.toarray())), abs=1e-3)
    assert found.mean == pytest.approx(reference.mean_, abs=1e-5)


def test_legacy_projection_is_off_by_a_constant():
    x = population(40).X
    pca = fit_pca(x, 5, seed=0)
    assert pca(x, centred=False) - pca(x) == pytest.approx(np.tile(pca.mean @ pca.components, (40, 1)))
    assert pca(x) == pytest.approx((x.toarray() - pca.mean) @ pca.components, abs=1e-5)
    assert pca(x).mean(0) == pytest.approx(np.zeros(5), abs=1e-5)


def test_softened_components_have_the_root_of_their_sd_and_keep_a_constant():
    x = np.random.default_rng(0).normal(size=(50, 3)) * [9.0, 1.0, 0.04]
    axes = softened(fit_pca(x, 2, seed=0), x)
    assert axes(x).std(0) == pytest.approx(np.sqrt(fit_pca(x, 2, seed=0)(x).std(0)))
    flat = Projection(np.zeros(3), np.eye(3)[:, :2])
    assert (softened(flat, np.ones((4, 3))).components == flat.components).all()


def test_an_embedding_is_softened_as_components_are():
    x = np.random.default_rng(0).normal(size=(50, 3)) * [5.0, 1.0, 0.2]
    softer = sphered_half(x)
    assert softer.std(0) == pytest.approx(np.sqrt(np.linalg.svd(x - x.mean(0))[1] / np.sqrt(50)))
    assert np.corrcoef(softer, rowvar=False) == pytest.approx(np.eye(3), abs=1e-9)
