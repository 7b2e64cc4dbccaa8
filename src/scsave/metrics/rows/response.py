"""Rows of the response to a drug, cytokine or disease (evaluation.md, section "Response")."""

from functools import partial

from scsave.metrics.row import Metric

DELTA = "log1p CP10K, change of gene means from control"
DE = ", top-100 DE genes of the real response"
HALVES = "each side against its own half of the control cells, both ways averaged"

_ROW = partial(Metric, task="response", best="max", aggregate="mean", min_cells=2)
_MEANS = partial(_ROW, space="log1p CP10K, gene means")
_MEANS_DE = partial(_ROW, space=f"log1p CP10K, gene means{DE}")
_CHANGES = partial(_ROW, space=DELTA)
_CHANGES_DE = partial(_ROW, space=DELTA + DE)
_OVERLAP = partial(_ROW, space=f"log1p CP10K, moderated |t|, {HALVES}")
_DISTANCE = partial(_ROW, space="PCA (30) of log1p CP10K, fitted on training cells", best="min")

PCC, PCC_SAID = "Pearson of gene means", "mean expression, up to a line"
R2, R2_SAID = "sklearn r2_score of gene means", "mean expression, in value"
SQUARE, SQUARE_SAID, SCGEN = "square of Pearson of gene means", "scGen's R²", "Lotfollahi 2019"

# fmt: off
ROWS = (
    _MEANS("pcc", "PCC", PCC, PCC_SAID),
    _MEANS("r2", "R²", R2, R2_SAID),
    _MEANS("r2_pearson_sq", "r²", SQUARE, SQUARE_SAID, cite=SCGEN),
    _MEANS_DE("pcc_de100", "PCC DE100", PCC, PCC_SAID),
    _MEANS_DE("r2_de100", "R² DE100", R2, R2_SAID),
    _MEANS_DE("r2_pearson_sq_de100", "r² DE100", SQUARE, SQUARE_SAID, cite=SCGEN),
    _CHANGES("pcc_delta", "PCC Δ", f"Pearson of changes, {HALVES}",
             "agreement of the response itself; 0 where a change is constant"),
    _CHANGES("r2_delta", "R² Δ", f"sklearn r2_score of changes, {HALVES}", "agreement of the response in value"),
    _CHANGES_DE("pcc_delta_de100", "PCC Δ DE100", f"Pearson of changes, {HALVES}", "the same on DE genes"),
    _CHANGES_DE("r2_delta_de100", "R² Δ DE100", f"sklearn r2_score of changes, {HALVES}", "the same on DE genes"),
    _CHANGES("pcc_delta_one_control", "PCC Δ (one control)",
             "Pearson of changes, both against the control cells that the prediction starts from",
             "what papers report; control noise shared by both sides passes for agreement"),
    _DISTANCE("w1", "W1", "emd2(u, u, ||x_i - y_j||)", "exact 1-Wasserstein distance"),
    _DISTANCE("w2", "W2", "sqrt(emd2(u, u, ||x_i - y_j||^2))", "exact 2-Wasserstein distance"),
    _DISTANCE("mmd2_unbiased", "MMD²",
              "U-statistic of the mean of 5 Gaussian kernels, bandwidth = median real distance x {1/4, 1/2, 1, 2, 4}",
              "unbiased MMD", cite="Gretton et al. 2012"),
    _DISTANCE("energy", "energy", "2 E||x - y|| - E||x - x'|| - E||y - y'||, V-statistic", "energy distance",
              cite="Székely & Rizzo 2013"),
    _OVERLAP("de_overlap_20", "DE overlap@20",
             "|top-20 of real ∩ top-20 of predicted| / min(20, genes of real that differ)",
             "DE genes recovered; a gene that the prediction does not move is in no top-k"),
    _OVERLAP("de_overlap_100", "DE overlap@100",
             "|top-100 of real ∩ top-100 of predicted| / min(100, genes of real that differ)",
             "DE genes recovered; a gene that the prediction does not move is in no top-k"),
    _CHANGES_DE("sign_agreement", "sign", "share of genes whose predicted change has the sign of the real one",
                "no predicted change counts as disagreement"),
)
