import os
import socket
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import yaml
from anndata import AnnData
from hydra.utils import get_class

from scsave import keys
from scsave.data.downloaded import Downloaded
from scsave.errors import UserError

from .server import serve
from .sources import CONFIGS, make, shipped, tiny

ROWS = sorted(p.stem for p in (CONFIGS / "data").glob("*.yaml") if "mirrors" in yaml.safe_load(p.read_text()))
SHARED = Path(os.environ.get("SCSAVE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def shared_file(name: str) -> str:
    if not (SHARED / name).is_file():
        pytest.skip(f"the optional file {name} is not in {SHARED}")
    return str(SHARED / name)


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_complete(name):
    source = make("data", name)
    assert isinstance(source, Downloaded)
    assert source.name == name
    assert source.citation
    assert source.licence
    assert source.conditions
    assert all(
        key in source.obs_keys for key in [source.cell_type_key, source.batch_key, source.perturbation_key] if key
    )
    for place in source.places:
        assert (place.url or place.page).startswith("http")
        for known in (place.sum, place.member_sum):
            assert known is None or known.split(":")[0] in ("sha256", "md5")
        # a file put there by hand must not pass as that of a mirror which states no sum
        assert {other.sum for other in source.places if other.file == place.file} == {place.sum}
        assert {*place.settings} <= {"layer", "normalised_by", "symbol_key", "gene_id"}


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONFIGS / "data").glob("*.yaml")))
def test_every_setting_stands_in_the_config_and_so_can_be_overridden(name):
    node = dict(shipped("data", name))
    assert set(node) == {"_target_", *(field.name for field in fields(get_class(node["_target_"])))}


def test_every_set_of_the_paper_is_there():
    named = "pbmc3k dentate_gyrus tabula_muris heart lung_atlas pbmc pancreas lung_cancer pbmc_ifn norman"
    assert set(named.split()) == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_no_network_ends_in_one_line(name, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    source = make("data", name)
    with pytest.raises(UserError) as error:
        source.load(tmp_path)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"data={name}: {source.places[0].file} is missing")
    assert (source.places[0].url or source.places[0].page) in line
    assert str(tmp_path / "raw" / name) in line


def gears_file(path: Path) -> AnnData:
    """The layout of GEARS' perturb_processed.h5ad: Ensembl index, gene_name, log1p in X, dense counts in a layer."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, size=(48, 10)).astype(np.float32)
    counts[:, 0] += 1
    condition = np.array(["ctrl", "AHR+ctrl", "ctrl+AHR", "KLF1+MAP2K6"])[np.arange(48) % 4]
    dose = np.where(condition == "ctrl", "1", "1+1")
    obs = pd.DataFrame(
        {
            "condition": pd.Categorical(condition),
            "cell_type": pd.Categorical(["A549"] * 48),
            "dose_val": pd.Categorical(dose),
            "control": (condition == "ctrl").astype(int),
            "condition_name": pd.Categorical([f"A549_{c}_{d}" for c, d in zip(condition, dose, strict=True)]),
        },
        index=pd.Index([f"AAACCTGAGGCA{i:04d}-{i % 3 + 1}" for i in range(48)], name="cell_barcode"),
    )
    var = pd.DataFrame(
        {"gene_name": pd.Categorical([f"SYM{g}" for g in range(10)])},
        index=pd.Index([f"ENSG0000018{g:04d}" for g in range(10)], name="gene_id"),
    )
    data = AnnData(X=sp.csr_matrix(np.log1p(counts)), obs=obs, var=var, layers={"counts": counts})
    names = sorted(set(obs["condition_name"]) - {"A549_ctrl_1"})
    for key in ("non_dropout_gene_idx", "non_zeros_gene_idx"):
        data.uns[key] = {name: np.arange(5) for name in names}
    for key in ("rank_genes_groups_cov_all", "top_non_dropout_de_20", "top_non_zero_de_20"):
        data.uns[key] = {name: var.index.to_numpy()[:5] for name in names}
    data.write_h5ad(path)
    return data


def test_gears_layout(tmp_path):
    written = gears_file(tmp_path / "perturb_processed.h5ad")
    source = make("data", "norman", path=str(tmp_path / "perturb_processed.h5ad"))
    cells = source.load(tmp_path / "cache")
    assert list(cells.var_names) == [f"SYM{g}" for g in range(10)]
    assert cells.var[keys.GENE_ID].iloc[0] == "ENSG00000180000"
    assert cells.obs["condition"].value_counts().to_dict() == {"control": 12, "AHR": 24, "KLF1+MAP2K6": 12}
    assert cells.obs["gem_group"].value_counts().to_dict() == {"1": 16, "2": 16, "3": 16}
    np.testing.assert_array_equal(cells.layers[keys.COUNTS].toarray(), written.layers["counts"])
    np.testing.assert_array_equal(cells.obs[keys.LIBRARY], written.layers["counts"].sum(1))


def test_loom_layout(tmp_path):
    counts = np.random.default_rng(0).poisson(2.0, size=(8, 30))  # genes x cells
    with h5py.File(tmp_path / "a.loom", "w") as file:
        file["matrix"] = counts
        file["layers/spliced"] = counts // 2
        file["row_attrs/Gene"] = np.array([b"Gm1", b"Gm1", *(f"Gene{i}".encode() for i in range(6))])
        file["col_attrs/CellID"] = np.array([f"cell{i}".encode() for i in range(30)])
        file["col_attrs/ClusterName"] = np.array([b"Granule", b"Astro", b"OPC"])[np.arange(30) % 3]
        file["col_attrs/TSNE"] = np.zeros((30, 2))
    cells = make("data", "dentate_gyrus", path=str(tmp_path / "a.loom")).load(tmp_path / "cache")
    assert cells.shape == (30, 7)
    assert set(cells.obs["clusters"]) == {"Granule", "Astro", "OPC"}
    np.testing.assert_array_equal(cells[:, "Gm1"].layers[keys.COUNTS].toarray()[:, 0], counts[:2].sum(0))
    np.testing.assert_array_equal(cells[:, "Gene3"].layers[keys.COUNTS].toarray()[:, 0], counts[5])


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.rds").write_bytes(b"x")
    with pytest.raises(UserError, match=r"cannot read a '.rds' file"):
        make("data", "heart", path=str(tmp_path / "a.rds")).load(tmp_path)


def test_download_prepare_and_cache_with_the_settings_of_the_mirror(tmp_path):
    data = tiny(cells=90)
    counts = data.X.toarray()
    total = counts.sum(1)
    data.obs["louvain"], data.obs["n_counts"] = data.obs["cell_type"], total
    del data.obs["cell_type"]
    data.raw = AnnData(X=sp.csr_matrix(np.log1p(counts / total[:, None] * 1e4)), obs=data.obs, var=data.var)
    data.X = data.X.toarray() - 1.0  # scaled, of no use
    data.write_h5ad(tmp_path / "a.h5ad")
    with serve((tmp_path / "a.h5ad").read_bytes()) as (url, hits):
        first = make("data", "pbmc3k").mirrors[0]
        mirrors = [first | {"url": f"{url}/right", "sum": None}]
        source = make("data", "pbmc3k", mirrors=mirrors)
        cells = source.load(tmp_path / "cache")
        np.testing.assert_array_equal(cells.layers[keys.COUNTS].toarray(), counts)
        np.testing.assert_array_equal(source.load(tmp_path / "cache").X.toarray(), cells.X.toarray())
        # the prepared cells need neither the network nor the raw file
        (tmp_path / "cache" / "raw" / "pbmc3k" / first["file"]).unlink()
        source.load(tmp_path / "cache")
        assert hits == ["right"]
    assert len(list((tmp_path / "cache" / "prepared").glob("*.h5ad"))) == 1


@pytest.mark.parametrize(
    ("name", "file", "shape", "levels"),
    [
        ("pbmc_ifn", "kang_pbmc_ifnb.h5ad", (13_999, 14_053), {"condition": 2, "cell_type": 13, "donor": 9}),
        ("pbmc3k", "pbmc3k.h5ad", (2_638, 16_579), {"cell_type": 9}),
        ("pbmc", "pbmc_integration_4studies.h5ad", (10_238, 10_904), {"batch": 4, "cell_type": 11}),
        ("norman", "norman_subset.h5ad", (3_375, 500), {"condition": 34}),
        ("pancreas", "pancreas_panc8_5tech.h5ad", (500, 2_000), {"tech": 5, "cell_type": 6}),
    ],
)
def test_local_copies_under_the_name_of_their_set(tmp_path, name, file, shape, levels):
    cells = make("data", name, path=shared_file(file)).load(tmp_path)
    assert cells.shape == shape
    assert {column: cells.obs[column].nunique() for column in levels} == levels
    counts = cells.layers[keys.COUNTS]
    assert (counts.data == np.round(counts.data)).all()
    assert (cells.obs[keys.LIBRARY] >= np.asarray(counts.sum(1)).ravel() * 0.999).all()


def test_anyones_perturb_seq(tmp_path):
    source = make(
        "data",
        "perturbseq_h5ad",
        path=shared_file("papalexi_thp1_crispr.h5ad"),
        perturbation_key="perturbation",
        control="control",
    )
    cells = source.load(tmp_path)
    assert cells.obs["perturbation"].nunique() == 26
    assert source.conditions == ["perturbation"]
    with pytest.raises(UserError, match="perturbation_key"):
        make("data", "perturbseq_h5ad", path=source.path, control="control")
