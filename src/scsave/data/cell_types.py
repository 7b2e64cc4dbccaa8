"""Cell types of PBMCs from marker genes, for counts that come without labels.

Cells are grouped finely (k-means on principal components), so that a marker missed in one cell does not decide;
each group gets the type whose markers stand out most in it. A marker with a minus speaks against
the type (CD8 T cells make the NK genes too). No parameter is fitted to published labels,
but the negative markers were chosen with them in view.
"""

import numpy as np
import scipy.sparse as sp

MARKERS = {
    "CD14 Mono": ["CD14", "LYZ", "S100A8", "S100A9", "FCN1", "VCAN"],
    "CD16 Mono": ["FCGR3A", "MS4A7", "VMO1", "CDKN1C", "LST1", "-CD14", "-S100A8"],
    "CD4 T": ["CD3D", "CD3E", "IL7R", "CCR7", "LDHB"],
    "CD8 T": ["CD3D", "CD3E", "CD8A", "CD8B", "GZMK"],
    "NK": ["GNLY", "NKG7", "KLRD1", "KLRF1", "FCER1G", "SPON2", "-CD3D", "-CD3E", "-CD8A", "-CD8B"],
    "B": ["MS4A1", "CD79A", "CD79B", "BLNK", "CD19"],
    "DC": ["FCER1A", "CLEC10A", "CD1C", "CLEC9A", "CST3"],
    "pDC": ["LILRA4", "IL3RA", "TCF4", "GZMB", "ITM2C"],
    "Mk": ["PPBP", "PF4", "GNG11", "TUBB1"],
    "Eryth": ["HBA1", "HBA2", "HBB", "ALAS2"],
}


def standardised(expression: sp.csr_matrix, columns: np.ndarray) -> np.ndarray:
    """Columns of log1p values as z-scores, (N, n)."""
    dense = expression[:, columns].toarray()
    return (dense - dense.mean(axis=0)) / np.maximum(dense.std(axis=0), 1e-8)


def fine_groups(expression: sp.csr_matrix, n_groups: int, n_genes: int, seed: int) -> np.ndarray:
    """Group of each cell by k-means on 30 principal components of the most dispersed genes, (N,)."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    from scsave.data.gene_selection import gene_moments, normalised_dispersion

    mean, variance, detected = gene_moments(expression, np.arange(expression.shape[0]))
    score = np.nan_to_num(normalised_dispersion(mean, variance), nan=-np.inf)
    score[detected < 10] = -np.inf
    values = np.clip(standardised(expression, np.argsort(-score)[:n_genes]), -10, 10)
    components = PCA(30, svd_solver="randomized", random_state=seed).fit_transform(values)
    return KMeans(n_groups, n_init=3, random_state=seed).fit_predict(components)


def marker_types(expression: sp.csr_matrix, genes: list[str], n_groups: int = 60, seed: int = 0) -> np.ndarray:
    """Type of each cell, (N,) object, from log1p values (N, G) of one sample under one condition."""
    position = {gene: i for i, gene in enumerate(genes)}
    used = {kind: [m for m in markers if m.lstrip("-") in position] for kind, markers in MARKERS.items()}
    signs = {kind: np.array([-1.0 if m.startswith("-") else 1.0 for m in markers]) for kind, markers in used.items()}
    columns = {kind: np.array([position[m.lstrip("-")] for m in markers]) for kind, markers in used.items()}
    groups = fine_groups(expression, n_groups, 1500, seed)
    member = np.eye(n_groups)[groups]  # (N, groups)
    member /= np.maximum(member.sum(axis=0), 1)
    scores = np.column_stack(
        [(member.T @ standardised(expression, columns[kind]) * signs[kind]).mean(axis=1) for kind in used]
    )  # (groups, types)
    return np.array(list(used), dtype=object)[scores.argmax(axis=1)][groups]
