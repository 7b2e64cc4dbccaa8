"""Rows of generation (evaluation.md, section "Generation")."""

from functools import partial

from scsave.metrics.row import PROTOCOLS, Metric

PCA = "PCA (30) of log1p CP10K, 2,000 variable genes"
LOG1P = "log1p CP10K, all genes of the data"

_ROW = partial(Metric, task="generation")
_DISTANCE = partial(_ROW, space=PCA, best="min", aggregate="mean", min_cells=1, protocols=PROTOCOLS)
_POOLED = partial(_ROW, space=LOG1P, best="max", aggregate="pooled", min_cells=10)
_IN_PCA = partial(_POOLED, space=PCA)
_C2ST = partial(_IN_PCA, best=0.5, min_cells=50, cite="Lopez-Paz & Oquab 2017")
_MANIFOLD = partial(_IN_PCA, min_cells=6, cite="Naeem et al. 2020")

# fmt: off
ROWS = (
    _DISTANCE("w1", "W1", "emd2(u, u, ||x_i - y_j||)",
              "exact 1-Wasserstein distance of generated to real test cells, uniform weights"),
    _DISTANCE("w2", "W2", "sqrt(emd2(u, u, ||x_i - y_j||^2))",
              "exact 2-Wasserstein distance of generated to real test cells, uniform weights"),
    _DISTANCE("mmd2_rbf", "MMD² (biased)",
              "V-statistic of k = sum_s exp(-||x - y||^2 / (2 s^2)), s in {0.01, 0.1, 1, 10, 100}",
              "comparable with CFGen's code; has a floor of about 6/m at m cells a group", cite="Palma et al. 2025"),
    _DISTANCE("mmd2_unbiased", "MMD² (unbiased)",
              "U-statistic of the mean of 5 Gaussian kernels, bandwidth = median real distance x {1/4, 1/2, 1, 2, 4}",
              "no floor: near 0, and as often below as above, for two samples of one distribution",
              min_cells=2, cite="Gretton et al. 2012"),
    _DISTANCE("energy", "energy", "2 E||x - y|| - E||x - x'|| - E||y - y'||, V-statistic",
              "energy distance; 0 only for equal samples, floor of order 1/m", cite="Székely & Rizzo 2013"),
    _C2ST("c2st_auc", "C2ST AUC", "mean AUC of 5 folds, gradient-boosted trees, real against generated",
          "can a non-linear classifier tell generated cells from real ones"),
    _C2ST("c2st_pooled", "C2ST AUC (500)",
          "mean AUC of 5 draws of at most 500 cells a side, the same number of both, a fifth of each draw held out",
          "the same on a fixed number of all cells: an AUC grows with the number", min_cells=None),
    _C2ST("c2st_auc_genes", "C2ST AUC (genes)",
          "mean AUC of 5 folds, L2-regularised logistic regression, real against generated",
          "can a linear classifier on genes tell generated cells from real ones",
          space="log1p CP10K, 2,000 variable genes, each divided by its sd"),
    _MANIFOLD("precision", "precision", "share of generated cells inside a real cell's 5-nearest-neighbour ball",
              "are generated cells where real ones are", cite="Kynkäänniemi et al. 2019"),
    _MANIFOLD("recall", "recall", "share of real cells inside a generated cell's 5-nearest-neighbour ball",
              "are there generated cells wherever real ones are", cite="Kynkäänniemi et al. 2019"),
    _MANIFOLD("density", "density",
              "real 5-nearest-neighbour balls that hold a generated cell, mean over generated cells, / 5",
              "1 for two samples of one distribution; above it, generated cells crowd the dense places", best=1.0),
    _MANIFOLD("coverage", "coverage", "share of real cells whose 5-nearest-neighbour ball holds a generated cell",
              "recall that outliers of the generated cells can't inflate"),
    _IN_PCA("authenticity", "authenticity",
            "share of generated cells nearer to a training cell than to a test cell, as many of one as of the other "
            "in each combination; the training cells are of the half that the PCA has not seen, and not in `real`",
            "above that of `real`, training cells are copied; compare with `train_resample`, which is all copies",
            best=0.5, min_cells=None, cite="Alaa et al. 2022", skilled=False),
    _POOLED("gene_mean_pearson", "gene mean r", "Pearson of gene means", "gene means, agreement up to a line"),
    _POOLED("gene_mean_r2", "gene mean R²", "sklearn r2_score of gene means", "gene means, agreement in value"),
    _POOLED("gene_variance_pearson", "gene variance r", "Pearson of gene variances",
            "gene variances, agreement up to a line"),
    _POOLED("gene_variance_r2", "gene variance R²", "sklearn r2_score of gene variances",
            "gene variances, agreement in value"),
    _POOLED("zero_fraction_pearson", "zeros r", "Pearson of each gene's share of zeros",
            "zeros by gene, agreement up to a line"),
    _POOLED("zero_fraction_r2", "zeros R²", "sklearn r2_score of each gene's share of zeros",
            "zeros by gene, agreement in value"),
    _POOLED("zero_fraction_diff", "zeros diff", "share of zeros, generated minus real, over all cells and genes",
            "smoothed cells have too few zeros (negative); values at or below 0 count as zeros", best=0.0),
    _POOLED("variance_ratio", "variance ratio", "sum of gene variances, generated / real",
            "below 1: cells are smoothed or modes are missing", best=1.0),
    _POOLED("variance_ratio_median", "variance ratio (median gene)",
            "median of generated / real gene variance over genes seen in at least 10% of the real cells",
            "the same for a typical gene, which the few most variable ones can't outweigh", best=1.0),
    _POOLED("corr_frobenius", "gene-gene error",
            "||C_gen - C_real||_F / ||C_real||_F, C the Pearson correlation matrix",
            "are gene-gene correlations kept; a constant gene is uncorrelated with all others",
            space="log1p CP10K, 200 most variable genes of the training cells", best="min"),
    _POOLED("de_overlap_100", "DE overlap@100",
            "|top-100 of real ∩ of generated| / 100, moderated |t| of a level against the rest, mean over levels",
            "do the same genes tell condition levels apart", min_cells=None),
    _POOLED("library_w1", "library W1", "1-Wasserstein distance of ln(1 + library size)",
            "0.1 is a typical displacement of about 10%", space="natural log of library size", best="min", min_cells=1),
    _IN_PCA("label_accuracy", "label accuracy",
            "share of cells that a logistic regression trained on real cells gives their own label",
            "do generated cells look like what they were asked to be; compare with the row `real`", min_cells=1),
)
