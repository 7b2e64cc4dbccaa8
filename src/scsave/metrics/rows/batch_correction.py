"""Rows of batch correction (evaluation.md, section "Batch correction")."""

from functools import partial

from scsave.metrics.row import Metric

_ROW = partial(Metric, task="batch_correction", best="max", aggregate="pooled", min_cells=None)
_SCIB = partial(_ROW, space="embedding", cite="Luecken et al. 2022")
_EXPRESSION = partial(_ROW, space="corrected log1p CP10K")

# fmt: off
ROWS = (
    _SCIB("total", "scIB total", "0.6 bio + 0.4 batch", "scIB's own total"),
    _SCIB("bio_conservation", "bio", "mean of isolated labels, KMeans NMI, KMeans ARI, silhouette label, cLISI",
          "are cell types kept"),
    _SCIB("batch_removal", "batch", "mean of BRAS, iLISI, kBET, graph connectivity, PCR comparison",
          "are batches mixed"),
    _SCIB("isolated_labels", "isolated labels", "silhouette of the labels found in the fewest batches, in [0, 1]",
          "rare labels kept apart"),
    _SCIB("kmeans_nmi", "NMI", "NMI of k-means clusters and labels", "clusters are types"),
    _SCIB("kmeans_ari", "ARI", "ARI of k-means clusters and labels", "clusters are types"),
    _SCIB("silhouette_label", "silhouette label", "(mean silhouette by label + 1) / 2", "types kept apart"),
    _SCIB("clisi", "cLISI", "scaled LISI of labels", "neighbours share a type"),
    _SCIB("silhouette_batch", "silhouette batch", "mean over labels of mean(1 - |silhouette by batch|), nearest batch",
          "beside the total, not in it: the reading before the library changed to BRAS in 2025"),
    _SCIB("bras", "BRAS", "silhouette batch with cosine distance and the mean of all other batches",
          "batches mixed within a type", cite="Rautenstrauch & Ohler 2025"),
    _SCIB("ilisi", "iLISI", "scaled LISI of batches", "neighbours are of many batches"),
    _SCIB("kbet", "kBET", "kBET acceptance by label", "local batch shares are global ones"),
    _SCIB("graph_connectivity", "graph connectivity",
          "share of each label in its largest component of the 15-neighbour graph", "a type is in one piece"),
    _SCIB("pcr", "PCR", "(R2_before - R2_after) / R2_before, batch regressed on components",
          "variance explained by batch removed"),
    _ROW("transfer_accuracy", "transfer accuracy",
         "share of held-out cells (split=new_cells) whose type most of their 15 nearest training cells have",
         "do new cells find their type; - where no cell is held out", space="embedding"),
    _EXPRESSION("marker_fold_change", "marker fold change",
                "Pearson of fold changes (type against rest, 50 markers) before and after, mean over batches and types",
                "what correction must not destroy; 1 for uncorrected cells"),
    _EXPRESSION("marker_fold_change_slope", "marker slope",
                "slope through 0 of those fold changes, after on before, mean over batches and types",
                "below 1: correction shrinks the difference between types", best=1.0),
    _EXPRESSION("de_batch_agreement", "DE agreement",
                "Pearson of fold changes (type against rest, markers of either) in two batches, mean over pairs, types",
                "does each batch say the same of each type"),
)
