import numpy as np

from scsave.results.response_figures import apart


def test_labels_keep_their_order_and_their_distance():
    y = np.array([0.5, 0.0, 0.01, 3.0, 0.02])
    placed = apart(y, 0.2)
    assert (np.argsort(placed) == np.argsort(y)).all()
    assert np.diff(np.sort(placed)).min() >= 0.2 - 1e-12
    assert placed[3] == 3.0
    assert placed[1] == 0.0
