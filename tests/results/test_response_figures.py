import numpy as np
from scsave.results.response_figures import apart
from scsave.results.style import level_colors


def test_labels_keep_their_order_and_their_distance():
    y = np.array([0.5, 0.0, 0.01, 3.0, 0.02])
    placed = apart(y, 0.2)
    assert (np.argsort(placed) == np.argsort(y)).all()
    assert np.diff(np.sort(placed)).min() >= 0.2 - 1e-12
    assert placed[3] == 3.0
    assert placed[1] == 0.0


def test_levels_have_colours_of_their_own():
    for n in (2, 10, 11, 20):
        colors = np.array(level_colors(n))
        assert colors.shape == (n, 3)
        apart = np.linalg.norm(colors[:, None] - colors[None], axis=2)[np.triu_indices(n, 1)]
        assert apart.min() > 0.05
    near = np.array(level_colors(12))
    assert np.linalg.norm(np.diff(near, axis=0), axis=1).min() > 0.25  # no pale twin stands beside its dark one
