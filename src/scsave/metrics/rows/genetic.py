"""Rows of genetic perturbations (evaluation.md, section "Perturbation, genetic")."""

from functools import partial

from scsave.metrics.row import Metric

TRAIN_PCA = "PCA (30) of log1p CP10K, fitted on training cells"
DELTA = "log1p CP10K, change of gene means from control"

_GENETIC = partial(Metric, task="genetic", space=DELTA, best="max", aggregate="mean", min_cells=1)

ROWS = (
    _GENETIC(
        name="l2_top1000",
        label="L2",
        space="log1p CP10K, gene means, 1,000 genes most expressed in control",
        formula="||predicted - real||_2",
        best="min",
        description="distance of mean profiles",
        cite="Ahlmann-Eltze et al. 2025",
    ),
    _GENETIC(
        name="pcc_delta",
        label="PCC Δ control",
        formula="Pearson of changes from the control mean",
        description="much of it is what all perturbations share: see PCC Δ centroid",
    ),
    _GENETIC(
        name="pcc_delta_centroid",
        label="PCC Δ centroid",
        space="log1p CP10K, change of gene means from the mean of the training perturbations' centroids",
        formula="Pearson of changes; a constant predicted change scores 0",
        description="what is specific to the perturbation",
        cite="Systema, Viñas Torné et al. 2025",
    ),
    _GENETIC(
        name="mse_de20",
        label="MSE DE20",
        space="log1p CP10K, gene means, top-20 non-dropout DE genes by |Welch t| against control",
        formula="mean squared error",
        best="min",
        description="non-dropout: seen in the perturbed cells, or in neither they nor control",
        cite="GEARS, Roohani et al. 2024",
    ),
    _GENETIC(
        name="r2_weighted",
        label="weighted R²",
        formula="1 - sum w (d - p)^2 / sum w (d - d_w)^2, w = min-max scaled |Welch t|, squared, d_w the weighted mean",
        description="agreement of change where there is one",
        cite="Mejia et al. 2025",
    ),
    _GENETIC(
        name="mse_weighted",
        label="weighted MSE",
        formula="sum w (d - p)^2 / sum w, w = min-max scaled |Welch t|, squared",
        best="min",
        description="error of change where there is one",
        cite="Mejia et al. 2025",
    ),
    _GENETIC(
        name="discrimination",
        label="discrimination",
        formula="1 - rank / P, rank of the own real change among P by L1, perturbed genes excluded, ties share ranks",
        description="1 if no other perturbation's real change is nearer to the prediction; about 0.5 by chance",
        cite="Wu et al. 2024",
    ),
    _GENETIC(
        name="overlap_20",
        label="overlap@20",
        space="log1p CP10K, moderated |t| against control",
        formula="|top-20 of real ∩ top-20 of predicted| / min(20, genes of real that differ)",
        description="DE genes recovered; a gene that the prediction does not move is in no top-k",
    ),
    _GENETIC(
        name="overlap_100",
        label="overlap@100",
        space="log1p CP10K, moderated |t| against control",
        formula="|top-100 of real ∩ top-100 of predicted| / min(100, genes of real that differ)",
        description="DE genes recovered; a gene that the prediction does not move is in no top-k",
    ),
    _GENETIC(
        name="energy",
        label="energy",
        space=TRAIN_PCA,
        formula="2 E||x - y|| - E||x - x'|| - E||y - y'||, V-statistic",
        best="min",
        description="energy distance of predicted to real cells",
        cite="Székely & Rizzo 2013",
    ),
)
