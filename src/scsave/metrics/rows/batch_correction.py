"""Rows of batch correction (evaluation.md, section "Batch correction")."""

from functools import partial

from scsave.metrics.row import Metric

_BIO = partial(
    Metric,
    task="batch_correction",
    space="embedding",
    best="max",
    aggregate="pooled",
    min_cells=None,
    cite="Luecken et al. 2022",
)
_EXPRESSION = partial(_BIO, space="corrected log1p CP10K", cite="")

ROWS = (
    _BIO(name="total", label="scIB total", formula="0.6 bio + 0.4 batch", description="scIB's own total"),
    _BIO(
        name="bio_conservation",
        label="bio",
        formula="mean of isolated labels, KMeans NMI, KMeans ARI, silhouette label, cLISI",
        description="are cell types kept",
    ),
    _BIO(
        name="batch_removal",
        label="batch",
        formula="mean of BRAS, iLISI, kBET, graph connectivity, PCR comparison",
        description="are batches mixed",
    ),
    _BIO(
        name="isolated_labels",
        label="isolated labels",
        formula="silhouette of the labels found in the fewest batches, in [0, 1]",
        description="rare labels kept apart",
    ),
    _BIO(
        name="kmeans_nmi", label="NMI", formula="NMI of k-means clusters and labels", description="clusters are types"
    ),
    _BIO(
        name="kmeans_ari", label="ARI", formula="ARI of k-means clusters and labels", description="clusters are types"
    ),
    _BIO(
        name="silhouette_label",
        label="silhouette label",
        formula="(mean silhouette by label + 1) / 2",
        description="types kept apart",
    ),
    _BIO(name="clisi", label="cLISI", formula="scaled LISI of labels", description="neighbours share a type"),
    _BIO(
        name="silhouette_batch",
        label="silhouette batch",
        formula="mean over labels of mean(1 - |silhouette by batch|), nearest batch",
        description="beside the total, not in it: the reading before the library changed to BRAS in 2025",
    ),
    _BIO(
        name="bras",
        label="BRAS",
        formula="silhouette batch with cosine distance and the mean of all other batches",
        description="batches mixed within a type",
        cite="Rautenstrauch & Ohler 2025",
    ),
    _BIO(name="ilisi", label="iLISI", formula="scaled LISI of batches", description="neighbours are of many batches"),
    _BIO(
        name="kbet", label="kBET", formula="kBET acceptance by label", description="local batch shares are global ones"
    ),
    _BIO(
        name="graph_connectivity",
        label="graph connectivity",
        formula="share of each label in its largest component of the 15-neighbour graph",
        description="a type is in one piece",
    ),
    _BIO(
        name="pcr",
        label="PCR",
        formula="(R2_before - R2_after) / R2_before, batch regressed on components",
        description="variance explained by batch removed",
    ),
    _EXPRESSION(
        name="marker_fold_change",
        label="marker fold change",
        formula="Pearson of fold changes (type against rest, 50 markers) before and after, mean over batches and types",
        description="what correction must not destroy; 1 for uncorrected cells",
    ),
    _EXPRESSION(
        name="marker_fold_change_slope",
        label="marker slope",
        formula="slope through 0 of those fold changes, after on before, mean over batches and types",
        best=1.0,
        description="below 1: correction shrinks the difference between types",
    ),
    _EXPRESSION(
        name="de_batch_agreement",
        label="DE agreement",
        formula="Pearson of fold changes (type against rest, markers of either) in two batches, mean over pairs, types",
        description="does each batch say the same of each type",
    ),
)
