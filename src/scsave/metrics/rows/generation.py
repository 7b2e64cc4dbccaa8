"""Rows of generation (evaluation.md, section "Generation")."""

from functools import partial

from scsave.metrics.row import PROTOCOLS, Metric

PCA = "PCA (30) of log1p CP10K, 2,000 variable genes"
LOG1P = "log1p CP10K, all genes of the data"

_PER_COMBINATION = partial(
    Metric, task="generation", space=PCA, best="min", aggregate="mean", min_cells=1, protocols=PROTOCOLS
)
_POOLED = partial(Metric, task="generation", space=LOG1P, best="max", aggregate="pooled", min_cells=10)
_MANIFOLD = partial(_POOLED, space=PCA, min_cells=6)

ROWS = (
    _PER_COMBINATION(
        name="w1",
        label="W1",
        formula="emd2(u, u, ||x_i - y_j||)",
        description="exact 1-Wasserstein distance of generated to real test cells, uniform weights",
    ),
    _PER_COMBINATION(
        name="w2",
        label="W2",
        formula="sqrt(emd2(u, u, ||x_i - y_j||^2))",
        description="exact 2-Wasserstein distance of generated to real test cells, uniform weights",
    ),
    _PER_COMBINATION(
        name="mmd2_rbf",
        label="MMD² (biased)",
        formula="V-statistic of k = sum_s exp(-||x - y||^2 / (2 s^2)), s in {0.01, 0.1, 1, 10, 100}",
        description="comparable with CFGen's code; has a floor of about 6/m at m cells a group",
        cite="Palma et al. 2025",
    ),
    _PER_COMBINATION(
        name="mmd2_unbiased",
        label="MMD² (unbiased)",
        formula="U-statistic of the mean of 5 Gaussian kernels, bandwidth = median real distance x {1/4, 1/2, 1, 2, 4}",
        min_cells=2,
        description="no floor: near 0, and as often below as above, for two samples of one distribution",
        cite="Gretton et al. 2012",
    ),
    _PER_COMBINATION(
        name="energy",
        label="energy",
        formula="2 E||x - y|| - E||x - x'|| - E||y - y'||, V-statistic",
        description="energy distance; 0 only for equal samples, floor of order 1/m",
        cite="Székely & Rizzo 2013",
    ),
    _POOLED(
        name="c2st_auc",
        label="C2ST AUC",
        space=PCA,
        formula="mean AUC of 5 folds, gradient-boosted trees, real against generated",
        best=0.5,
        min_cells=50,
        description="can a non-linear classifier tell generated cells from real ones",
        cite="Lopez-Paz & Oquab 2017",
    ),
    _POOLED(
        name="c2st_auc_genes",
        label="C2ST AUC (genes)",
        space="log1p CP10K, 2,000 variable genes, each divided by its sd",
        formula="mean AUC of 5 folds, L2-regularised logistic regression, real against generated",
        best=0.5,
        min_cells=50,
        description="can a linear classifier on genes tell generated cells from real ones",
        cite="Lopez-Paz & Oquab 2017",
    ),
    _MANIFOLD(
        name="precision",
        label="precision",
        formula="share of generated cells inside a real cell's 5-nearest-neighbour ball",
        description="are generated cells where real ones are",
        cite="Kynkäänniemi et al. 2019",
    ),
    _MANIFOLD(
        name="recall",
        label="recall",
        formula="share of real cells inside a generated cell's 5-nearest-neighbour ball",
        description="are there generated cells wherever real ones are",
        cite="Kynkäänniemi et al. 2019",
    ),
    _MANIFOLD(
        name="density",
        label="density",
        formula="real 5-nearest-neighbour balls that hold a generated cell, mean over generated cells, / 5",
        best=1.0,
        description="1 for two samples of one distribution; above it, generated cells crowd the dense places",
        cite="Naeem et al. 2020",
    ),
    _MANIFOLD(
        name="coverage",
        label="coverage",
        formula="share of real cells whose 5-nearest-neighbour ball holds a generated cell",
        description="recall that outliers of the generated cells can't inflate",
        cite="Naeem et al. 2020",
    ),
    _POOLED(
        name="gene_mean_pearson",
        label="gene mean r",
        formula="Pearson of gene means",
        description="gene means, agreement up to a line",
    ),
    _POOLED(
        name="gene_mean_r2",
        label="gene mean R²",
        formula="sklearn r2_score of gene means",
        description="gene means, agreement in value",
    ),
    _POOLED(
        name="gene_variance_pearson",
        label="gene variance r",
        formula="Pearson of gene variances",
        description="gene variances, agreement up to a line",
    ),
    _POOLED(
        name="gene_variance_r2",
        label="gene variance R²",
        formula="sklearn r2_score of gene variances",
        description="gene variances, agreement in value",
    ),
    _POOLED(
        name="zero_fraction_pearson",
        label="zeros r",
        formula="Pearson of each gene's share of zeros",
        description="zeros by gene, agreement up to a line",
    ),
    _POOLED(
        name="zero_fraction_r2",
        label="zeros R²",
        formula="sklearn r2_score of each gene's share of zeros",
        description="zeros by gene, agreement in value",
    ),
    _POOLED(
        name="zero_fraction_diff",
        label="zeros diff",
        formula="share of zeros, generated minus real, over all cells and genes",
        best=0.0,
        description="smoothed cells have too few zeros (negative); values at or below 0 count as zeros",
    ),
    _POOLED(
        name="variance_ratio",
        label="variance ratio",
        formula="sum of gene variances, generated / real",
        best=1.0,
        description="below 1: cells are smoothed or modes are missing",
    ),
    _POOLED(
        name="variance_ratio_median",
        label="variance ratio (median gene)",
        formula="median of generated / real gene variance over genes seen in at least 10% of the real cells",
        best=1.0,
        description="the same for a typical gene, which the few most variable ones can't outweigh",
    ),
    _POOLED(
        name="corr_frobenius",
        label="gene-gene error",
        space="log1p CP10K, 200 most variable genes of the training cells",
        formula="||C_gen - C_real||_F / ||C_real||_F, C the Pearson correlation matrix",
        best="min",
        description="are gene-gene correlations kept; a constant gene is uncorrelated with all others",
    ),
    _POOLED(
        name="de_overlap_100",
        label="DE overlap@100",
        formula="|top-100 of real ∩ of generated| / 100, moderated |t| of a level against the rest, mean over levels",
        min_cells=None,
        description="do the same genes tell condition levels apart",
    ),
    _POOLED(
        name="library_w1",
        label="library W1",
        space="natural log of library size",
        formula="1-Wasserstein distance of ln(1 + library size)",
        best="min",
        min_cells=1,
        description="0.1 is a typical displacement of about 10%",
    ),
    _POOLED(
        name="label_accuracy",
        label="label accuracy",
        space=PCA,
        formula="share of cells that a logistic regression trained on real cells gives their own label",
        min_cells=1,
        description="do generated cells look like what they were asked to be; compare with the row `real`",
    ),
)
