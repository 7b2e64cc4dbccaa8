import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scsave import keys
from scsave.errors import UserError
from scsave.metrics.cells import combination_labels, expression, grouping_columns, library_size
from tests.metrics.cells import population


def test_genes_are_matched_by_name():
    cells = population(10)
    shuffled = cells[:, ::-1].copy()
    assert (expression(shuffled, "cells", list(cells.var_names)) != cells.X).nnz == 0
    with pytest.raises(UserError, match="cells: genes differ from the real cells': 2 missing \\(gene0, gene1\\), 0"):
        expression(cells[:, 2:].copy(), "cells", list(cells.var_names))
    with pytest.raises(UserError, match="1 unknown \\(gene39\\)"):
        expression(cells, "cells", list(cells.var_names[:-1]))


def test_bad_values_are_refused():
    cells = population(10)
    cells.X.data[3] = np.nan
    with pytest.raises(UserError, match="cells: X has 1 values that are NaN or infinite, in 1 cells"):
        expression(cells, "cells")
    cells.X = None
    with pytest.raises(UserError, match="X is empty"):
        expression(cells, "cells")


def test_library_sizes_are_checked():
    cells = population(5)
    assert library_size(cells, "cells") == pytest.approx(np.asarray(cells.layers[keys.COUNTS].sum(1)).ravel())
    cells.obs.loc["cell0", keys.LIBRARY] = -1
    with pytest.raises(UserError, match="library_size has negative"):
        library_size(cells, "cells")
    del cells.obs[keys.LIBRARY]
    with pytest.raises(UserError, match="no column library_size in obs; columns: type, state"):
        library_size(cells, "cells")


def test_dense_and_sparse_expression_are_one():
    cells = population(10)
    dense = cells.copy()
    dense.X = cells.X.toarray()
    assert sp.issparse(expression(dense, "cells"))
    assert (expression(dense, "cells") != expression(cells, "cells")).nnz == 0


def test_labels_join_the_columns():
    obs = pd.DataFrame({"type": pd.Categorical(["B", "T"]), "dose": np.float32([0.1, 10]), "batch": [1, 2]})
    assert combination_labels(obs, ["type", "dose", "batch"], "cells").tolist() == ["B|0.1|1", "T|10|2"]
    assert combination_labels(obs, [], "cells").tolist() == ["", ""]
    with pytest.raises(UserError, match="generated cells: no column phase in obs; columns: type, dose, batch"):
        combination_labels(obs, ["phase"], "generated cells")
    obs.loc[0, "dose"] = np.nan
    with pytest.raises(UserError, match="column dose has 1 missing"):
        combination_labels(obs, ["dose"], "cells")


def test_a_number_with_many_values_makes_no_groups():
    n = 60
    obs = pd.DataFrame({"dose": np.repeat([0.1, 1.0, 10.0], 20), "age": np.arange(n) / 7, "donor": np.arange(n)})
    obs["name"], obs["plate"] = obs["donor"].astype(str), obs["donor"].astype("category")
    assert grouping_columns(obs, ["dose", "age", "donor", "name", "plate"]) == ["dose", "name", "plate"]
    assert grouping_columns(obs, ["dose", "absent"]) == ["dose", "absent"]
