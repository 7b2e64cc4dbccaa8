"""Rows of the response to a drug or cytokine (evaluation.md, section "Perturbation, chemical or cytokine")."""

from functools import partial

from scsave.metrics.row import Metric

TRAIN_PCA = "PCA (30) of log1p CP10K, fitted on training cells"
DELTA = "log1p CP10K, change of gene means from control"

_MEAN = partial(Metric, task="response", best="max", aggregate="mean", min_cells=2)
_ALL = partial(_MEAN, space="log1p CP10K, gene means")
_DE = partial(_MEAN, space="log1p CP10K, gene means, top-100 DE genes of the real response")
_DELTA = partial(_MEAN, space=DELTA)
_DELTA_DE = partial(_MEAN, space=f"{DELTA}, top-100 DE genes of the real response")
_DISTRIBUTION = partial(_MEAN, space=TRAIN_PCA, best="min")

_PCC = {"label": "PCC", "formula": "Pearson of gene means", "description": "mean expression, up to a line"}
_R2 = {"label": "R²", "formula": "sklearn r2_score of gene means", "description": "mean expression, in value"}
_SQ = {
    "label": "r²",
    "formula": "square of Pearson of gene means",
    "description": "scGen's R²",
    "cite": "Lotfollahi 2019",
}
_HALVES = "each side against its own half of the control cells, both ways averaged"

ROWS = (
    _ALL(name="pcc", **_PCC),
    _ALL(name="r2", **_R2),
    _ALL(name="r2_pearson_sq", **_SQ),
    _DE(name="pcc_de100", **{**_PCC, "label": "PCC DE100"}),
    _DE(name="r2_de100", **{**_R2, "label": "R² DE100"}),
    _DE(name="r2_pearson_sq_de100", **{**_SQ, "label": "r² DE100"}),
    _DELTA(
        name="pcc_delta",
        label="PCC Δ",
        formula=f"Pearson of changes, {_HALVES}",
        description="agreement of the response itself; 0 where a change is constant",
    ),
    _DELTA(
        name="r2_delta",
        label="R² Δ",
        formula=f"sklearn r2_score of changes, {_HALVES}",
        description="agreement of the response in value",
    ),
    _DELTA_DE(
        name="pcc_delta_de100",
        label="PCC Δ DE100",
        formula=f"Pearson of changes, {_HALVES}",
        description="the same on DE genes",
    ),
    _DELTA_DE(
        name="r2_delta_de100",
        label="R² Δ DE100",
        formula=f"sklearn r2_score of changes, {_HALVES}",
        description="the same on DE genes",
    ),
    _DELTA(
        name="pcc_delta_one_control",
        label="PCC Δ (one control)",
        formula="Pearson of changes, both against the control cells that the prediction starts from",
        description="what papers report; control noise shared by both sides passes for agreement",
    ),
    _DISTRIBUTION(
        name="w1", label="W1", formula="emd2(u, u, ||x_i - y_j||)", description="exact 1-Wasserstein distance"
    ),
    _DISTRIBUTION(
        name="w2",
        label="W2",
        formula="sqrt(emd2(u, u, ||x_i - y_j||^2))",
        description="exact 2-Wasserstein distance",
    ),
    _DISTRIBUTION(
        name="mmd2_unbiased",
        label="MMD²",
        formula="U-statistic of the mean of 5 Gaussian kernels, bandwidth = median real distance x {1/4, 1/2, 1, 2, 4}",
        description="unbiased MMD",
        cite="Gretton et al. 2012",
    ),
    _DISTRIBUTION(
        name="energy",
        label="energy",
        formula="2 E||x - y|| - E||x - x'|| - E||y - y'||, V-statistic",
        description="energy distance",
        cite="Székely & Rizzo 2013",
    ),
    _MEAN(
        name="de_overlap_20",
        label="DE overlap@20",
        space=f"log1p CP10K, moderated |t|, {_HALVES}",
        formula="|top-20 of real ∩ top-20 of predicted| / min(20, genes of real that differ)",
        description="DE genes recovered; a gene that the prediction does not move is in no top-k",
    ),
    _MEAN(
        name="de_overlap_100",
        label="DE overlap@100",
        space=f"log1p CP10K, moderated |t|, {_HALVES}",
        formula="|top-100 of real ∩ top-100 of predicted| / min(100, genes of real that differ)",
        description="DE genes recovered; a gene that the prediction does not move is in no top-k",
    ),
    _MEAN(
        name="sign_agreement",
        label="sign",
        space=f"{DELTA}, top-100 DE genes of the real response",
        formula="share of genes whose predicted change has the sign of the real one",
        description="no predicted change counts as disagreement",
    ),
)
