"""What is the mean of a few control cells, when training has more of them?"""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from scsave.stats.moments import group_moments


def to_pooled(control: AnnData, mean: np.ndarray, variance: np.ndarray, n: int) -> np.ndarray:
    """From the mean of `control`'s cells, (G,) in log1p, to the one that they share with training's `n` control cells.

    `mean` and `variance`, (G,) each, are of training's. A few hundred cells tell their own mean with an error of the size of
    many effects. As far as the two means differ by no more than that error they are pooled; where they differ by more
    (James & Stein's factor: another batch, another cell type), less so.
    """
    here = group_moments(control.X, np.zeros(control.n_obs, dtype=np.int64), 1).mean[0]
    apart = mean - here
    expected = float((variance * (1 / control.n_obs + 1 / n)).sum())
    share = min(1.0, expected / max(float((apart**2).sum()), 1e-12))
    return share * apart * n / (n + control.n_obs)
