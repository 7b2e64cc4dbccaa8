"""Block attention by condition: read off the networks as they run, and against the networks' own formula."""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from scsave import SAVE
from scsave.errors import UserError
from scsave.runs.attention import attention_of, long_table
from scsave.runs.run import run

from ..conftest import scores


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attention") / "run"


@pytest.fixture
def trained(tiny, folder):
    if not folder.exists():
        run(
            tiny("analysis=attention", "blocking=coexpression", "blocking.n_blocks=3", "backbone.velocity=attention"),
            folder,
        )
    return folder


def test_a_run_writes_attention_by_level_and_its_change_from_the_reference(trained):
    table = pd.read_csv(scores(trained) / "attention.csv")
    assert set(table["network"]) == {"encoder", "decoder", "velocity"}
    assert {"half 1", "half 2"} <= set(table["level"])
    sums = table.groupby(["network", "layer", "level", "block"])["weight"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    size = table.groupby("network")["block"].nunique()
    assert size.to_dict() == {"encoder": 3, "decoder": 3, "velocity": 4}  # the library size is a token too
    reference = table["level"].iloc[0]
    assert (table.loc[table["level"] == reference, "change"] == 0).all()
    assert table.loc[~table["level"].isin([reference]), "change"].abs().max() > 0
    assert (scores(trained) / "figures" / "attention.png").stat().st_size > 5000
    names = pd.read_csv(scores(trained) / "blocks.csv", dtype=str)  # simulated genes are in no set: numbers
    assert names["name"].to_list() == ["0", "1", "2"]


def test_the_mean_is_that_of_the_layer_on_its_own_input(trained):
    model = SAVE.load(trained).model
    cells = anndata.read_h5ad(scores(trained) / "generated.h5ad")
    found = attention_of(model, cells, ["encoder"], seed=0)
    inner = model.network
    counts = torch.from_numpy(cells[:, model.genes].layers["counts"].toarray())
    library = torch.from_numpy(cells.obs["library_size"].to_numpy(np.float32))
    x = torch.nn.functional.pad(inner.scaled(counts, library), (0, 1))[:, inner.gather].unflatten(1, (3, -1))
    h = inner.encoder.project(x) + inner.encoder.block_embedding
    q, k, _ = inner.encoder.blocks[0].mixing._heads(inner.encoder.blocks[0].norm1(h)).unbind(0)
    expected = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1).mean((0, 1))
    np.testing.assert_allclose(found["encoder/0"], expected.numpy(), atol=1e-5)


def test_change_is_from_the_first_level():
    stack = np.stack([np.full((2, 2), 0.5), np.array([[0.9, 0.1], [0.2, 0.8]])])
    table = long_table(["a", "b"], {"encoder/0": stack})
    assert table.query("level == 'b' and block == 0 and looks_at == 0")["change"].item() == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["analysis.column=nothing"],
            "analysis.column=nothing: the model's categorical conditions are cell_type, batch",
        ),
        (["analysis.reference=nothing"], "analysis.reference=nothing: no such level of treatment: control"),
        (["backbone=mlp", "backbone.width=16", "backbone.depth=1"], "no attention between blocks"),
        (["method=mean"], "needs a trained SAVE"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(tiny, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        run(tiny("analysis=attention", *overrides), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()  # before anything is trained
