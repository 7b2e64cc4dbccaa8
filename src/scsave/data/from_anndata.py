"""An AnnData as its owner has it, to prepared cells: for Python, where no `data=...` says where the counts are."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.preprocess import as_counts, log1p_normalise, prepared
from scsave.errors import UserError

LOOKED_AT = 50  # cells whose X is compared
_HINT = "give counts in layers['counts'], in X or in raw.X"


def as_prepared(cells: AnnData) -> AnnData:
    """`cells` themselves if prepared; else a new AnnData of their counts, log1p, all of `obs` and the library size.

    Counts are whole numbers in `layers["counts"]`, `X` or `raw.X`, the first of them that holds some; the library size is
    their sum. UserError where none does, for names that are not unique and for cells without counts.
    """
    if _prepared(cells):
        return cells
    counts, names = _counts(cells.to_memory() if cells.isbacked else cells)
    for what, index in (("cell", cells.obs_names), ("gene", names)):
        if not index.is_unique:
            again = index[index.duplicated()][0]
            raise UserError(f"cells: {what} '{again}' is there more than once; make names unique first")
    library = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    if (library == 0).any():
        raise UserError(f"cells: {int((library == 0).sum())} of {len(library)} have no counts; leave them out")
    return prepared(counts, cells.obs.assign(**{keys.LIBRARY: library}), pd.DataFrame(index=names), {})


def with_genes(cells: AnnData, genes: list[str]) -> AnnData:
    """Prepared cells with a model's `genes` (N, G), by name; a gene that they lack counts as zero."""
    if list(cells.var_names) == genes:
        return cells
    return prepared(counts_of(cells, genes), cells.obs, pd.DataFrame(index=pd.Index(genes)), {})


def counts_of(cells: AnnData, genes: list[str]) -> sp.csr_matrix:
    """Counts of `genes` in prepared cells, (N, G), by name; 0 for one that they lack. UserError where they lack all."""
    place = cells.var_names.get_indexer(genes)
    if (place < 0).all():
        raise UserError(
            f"none of the model's {len(place)} genes is among the cells' genes; the model's look like {genes[0]!r}, "
            f"the cells' like {cells.var_names[0]!r}"
        )
    counts = sp.csr_matrix(cells.layers[keys.COUNTS])
    return sp.hstack([counts, sp.csr_matrix((cells.n_obs, 1), dtype=counts.dtype)], format="csr")[:, place]


def _prepared(cells: AnnData) -> bool:
    """Are there counts, library sizes that can be theirs, and in X (if any) log1p of the one by the other?"""
    if keys.COUNTS not in cells.layers or keys.LIBRARY not in cells.obs or cells.isbacked:
        return False
    counts, library = sp.csr_matrix(cells.layers[keys.COUNTS]), cells.obs[keys.LIBRARY]
    if not pd.api.types.is_numeric_dtype(library) or (library.to_numpy() < counts.sum(axis=1).A1 * 0.999).any():
        return False
    if cells.X is None:
        return True
    x = cells.X[:LOOKED_AT]
    expected = log1p_normalise(counts[:LOOKED_AT], library.to_numpy()[:LOOKED_AT]).toarray()
    return np.allclose(x.toarray() if sp.issparse(x) else x, expected, atol=1e-2)


def _counts(cells: AnnData) -> tuple[sp.csr_matrix, pd.Index]:
    """Counts (N, G) and their genes."""
    places = [("layers['counts']", cells.layers[keys.COUNTS], cells.var_names)] if keys.COUNTS in cells.layers else []
    places += [("X", cells.X, cells.var_names)] if cells.X is not None else []
    places += [("raw.X", cells.raw.X, cells.raw.var_names)] if cells.raw is not None else []
    refused = []
    for where, matrix, names in places:
        try:
            return as_counts(matrix, where, _HINT, round_counts=False), names
        except UserError as error:
            refused.append(str(error).removesuffix(f"; {_HINT}"))
    raise UserError(f"cells: {'; '.join(refused) or 'no matrix'}; {_HINT}")
