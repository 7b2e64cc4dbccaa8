"""Rows of genetic perturbations (evaluation.md, section "Genetic perturbation")."""

from functools import partial

from scsave.metrics.row import Metric

DELTA = "log1p CP10K, change of gene means from control"

_ROW = partial(Metric, task="genetic", space=DELTA, best="max", aggregate="mean", min_cells=1)
_OVERLAP = partial(_ROW, space="log1p CP10K, moderated |t| against control")

# fmt: off
ROWS = (
    _ROW("l2_top1000", "L2", "||predicted - real||_2", "distance of mean profiles", best="min",
         space="log1p CP10K, gene means, 1,000 genes most expressed in control", cite="Ahlmann-Eltze et al. 2025"),
    _ROW("pcc_delta", "PCC Δ control", "Pearson of changes from the control mean",
         "much of it is what all perturbations share: see PCC Δ centroid"),
    _ROW("pcc_delta_centroid", "PCC Δ centroid", "Pearson of changes; a constant predicted change scores 0",
         "what is specific to the perturbation", cite="Systema, Viñas Torné et al. 2025",
         space="log1p CP10K, change of gene means from the mean of the training perturbations' centroids"),
    _ROW("mse_de20", "MSE DE20", "mean squared error",
         "non-dropout: seen in the perturbed cells, or in neither they nor control", best="min",
         space="log1p CP10K, gene means, top-20 non-dropout DE genes by |Welch t| against control",
         cite="GEARS, Roohani et al. 2024"),
    _ROW("r2_weighted", "weighted R²",
         "1 - sum w (d - p)^2 / sum w (d - d_w)^2, w = min-max scaled |Welch t|, squared, d_w the weighted mean",
         "agreement of change where there is one", cite="Mejia et al. 2025"),
    _ROW("mse_weighted", "weighted MSE", "sum w (d - p)^2 / sum w, w = min-max scaled |Welch t|, squared",
         "error of change where there is one", best="min", cite="Mejia et al. 2025"),
    _ROW("discrimination", "discrimination",
         "1 - rank / P, rank of the own real change among P by L1, perturbed genes excluded, ties share ranks",
         "1 if no other perturbation's real change is nearer to the prediction; about 0.5 by chance",
         cite="Wu et al. 2024"),
    _OVERLAP("overlap_20", "overlap@20", "|top-20 of real ∩ top-20 of predicted| / min(20, genes of real that differ)",
             "DE genes recovered; a gene that the prediction does not move is in no top-k"),
    _OVERLAP("overlap_100", "overlap@100",
             "|top-100 of real ∩ top-100 of predicted| / min(100, genes of real that differ)",
             "DE genes recovered; a gene that the prediction does not move is in no top-k"),
    _ROW("energy", "energy", "2 E||x - y|| - E||x - x'|| - E||y - y'||, V-statistic",
         "energy distance of predicted to real cells", best="min", cite="Székely & Rizzo 2013",
         space="PCA (30) of log1p CP10K, fitted on training cells"),
)
