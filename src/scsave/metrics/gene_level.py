"""Agreement of genes: means, variances, zeros, correlations, DE genes, libraries (evaluation.md, "Generation").

Generated and real cells are log1p matrices over the same genes, (N, G) and (M, G), dense or sparse.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scsave.metrics.differential import overlap, typical_error, welch_t
from scsave.stats.agreement import pearson, r2
from scsave.stats.moments import Matrix, Moments, group_moments, moments, rest_of

EXPRESSED = 0.1  # a gene is expressed if this share of real cells shows it
DE_TOP = 100
LEVEL_CELLS = 5  # cells that a level needs, inside and outside, for its DE genes


def moment_scores(generated: Moments, real: Moments) -> dict[str, float]:
    """Agreement of gene means, variances and shares of zeros, (G,) each."""
    expressed = (real.positive >= EXPRESSED) & (real.variance > 0)
    ratio = generated.variance[expressed] / real.variance[expressed]
    pairs = {
        "gene_mean": (real.mean, generated.mean),
        "gene_variance": (real.variance, generated.variance),
        "zero_fraction": (1 - real.positive, 1 - generated.positive),
    }
    values = {f"{name}_pearson": pearson(*pair) for name, pair in pairs.items()}
    values |= {f"{name}_r2": r2(*pair) for name, pair in pairs.items()}
    total = float(real.variance.sum())
    return values | {
        "zero_fraction_diff": float(real.positive.mean() - generated.positive.mean()),
        "variance_ratio": float(generated.variance.sum()) / total if total > 0 else float("nan"),
        "variance_ratio_median": float(np.median(ratio)) if len(ratio) else float("nan"),
    }


def correlation(x: Matrix) -> np.ndarray:
    """Pearson correlation matrix of the genes of `x`, (G, G); a constant gene has 0 with all others, 1 with itself."""
    x = x.toarray() if sp.issparse(x) else np.asarray(x)
    x = x.astype(np.float64)
    x = x - x.mean(axis=0)
    norm = np.linalg.norm(x, axis=0)
    x = x / np.where(norm > 1e-9, norm, np.inf)
    found = x.T @ x
    np.fill_diagonal(found, 1)
    return found


def corr_frobenius(generated: Matrix, real: Matrix) -> float:
    """||C_generated - C_real||_F / ||C_real||_F over the genes given."""
    truth = correlation(real)
    return float(np.linalg.norm(correlation(generated) - truth) / np.linalg.norm(truth))


@dataclass(frozen=True)
class LevelTests:
    """Moderated t of each level of the condition columns against the rest of its column."""

    levels: list[tuple[str, str]]
    t: np.ndarray  # (levels, G)
    fudge: np.ndarray  # (levels,) what moderates each


def level_tests(x: Matrix, obs: pd.DataFrame, columns: list[str], like: LevelTests | None = None) -> LevelTests:
    """DE statistics of `x` (N, G) for every level with `LEVEL_CELLS` cells inside and outside it.

    Each is moderated by its own median standard error or, with `like`, by that of the same level there: generated cells
    by the real ones'. Levels that `like` lacks are left out.
    """
    names, t, fudges = [], [np.empty((0, x.shape[1]))], [np.empty(0)]
    of_like = None if like is None else dict(zip(like.levels, like.fudge, strict=True))
    everything = moments(x)
    for column in columns:
        codes, found = pd.factorize(obs[column].astype(str), sort=True)
        levels = [(column, str(level)) for level in found]
        inside = group_moments(x, codes, len(levels))
        outside = rest_of(inside, everything)
        tested = (inside.n >= LEVEL_CELLS) & (outside.n >= LEVEL_CELLS)
        fudge = typical_error(inside, outside)
        if of_like is not None:
            tested &= np.array([level in of_like for level in levels], dtype=bool)
            fudge = np.array([of_like.get(level, 0.0) for level in levels])
        names += [level for level, kept in zip(levels, tested, strict=True) if kept]
        t.append(welch_t(inside, outside, fudge)[tested])
        fudges.append(fudge[tested])
    return LevelTests(names, np.concatenate(t), np.concatenate(fudges))


def de_overlap(generated: LevelTests, real: LevelTests, k: int = DE_TOP) -> float:
    """Overlap of the top-`k` genes of generated and real cells, mean over the levels that the real cells can test.

    A level that the generated cells lack scores 0; NaN if there is no level to test.
    """
    place = {level: row for row, level in enumerate(generated.levels)}
    found = [
        overlap(real.t[row], generated.t[place[level]], k) if level in place else 0.0
        for row, level in enumerate(real.levels)
    ]
    return float(np.mean(found)) if found else float("nan")


def library_w1(generated: np.ndarray, real: np.ndarray) -> float:
    """1-Wasserstein distance of ln(1 + library size), from library sizes (N,) and (M,)."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(np.log1p(generated), np.log1p(real)))
