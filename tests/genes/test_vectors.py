import numpy as np
import pytest
from anndata import AnnData

from scsave import keys
from scsave.errors import UserError
from scsave.genes.packaged import VECTORS, packaged_file
from scsave.genes.vectors import DataVectors, GeneVectors, Packaged, RandomVectors, enough


@pytest.fixture
def vectors() -> GeneVectors:
    return GeneVectors(("CD3D", "LYZ", "H2AZ1"), np.arange(6, dtype=np.float32).reshape(3, 2), "test", {"a": 1})


def test_lookup_in_the_order_that_is_asked(vectors):
    found_vectors, found = vectors.lookup(["LYZ", "NOPE", "H2AFZ", "CD3D"], "human", None)
    assert found.tolist() == [True, False, True, True]
    assert found_vectors.tolist() == [[2, 3], [0, 0], [4, 5], [0, 1]]
    assert found_vectors.dtype == np.float32


def test_coverage_says_how_genes_were_found(vectors):
    assert vectors.coverage(["Lyz", "Cd3d", "Gm1", "Xkr4"], "mouse") == {
        "vectors": "test",
        "coverage": 0.5,
        "found_by": {"case": 2, "none": 2},
    }


def test_file_roundtrip_without_pickle(vectors, tmp_path):
    vectors.save(tmp_path / "v.npz")
    again = GeneVectors.load(tmp_path / "v.npz", "again")
    assert again.genes == vectors.genes
    assert (again.vectors == vectors.vectors).all()
    assert again.info == {"a": 1}
    assert Packaged(path=str(tmp_path / "v.npz")).lookup(["LYZ"])[0].tolist() == [[2, 3]]


def test_files_of_another_kind_are_refused(tmp_path):
    np.savez(tmp_path / "code.npz", genes=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="plain arrays"):
        GeneVectors.load(tmp_path / "code.npz", "x")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(UserError, match="does not hold gene vectors"):
        GeneVectors.load(tmp_path / "other.npz", "x")
    with pytest.raises(UserError, match="no such file"):
        GeneVectors.load(tmp_path / "absent.npz", "x")


@pytest.mark.parametrize(
    ("genes", "looks"), [([f"ENSG{i:011d}" for i in range(40)], "Ensembl ids"), (["FOO1"] * 40, "symbols")]
)
def test_too_few_known_genes_say_what_the_ids_look_like(vectors, genes, looks):
    with pytest.raises(UserError, match=f"1 of 41 genes are known.*look like {looks}"):
        enough(vectors.match([*genes, "LYZ"]), [*genes, "LYZ"], "gene vectors", 0.05)
    enough(vectors.match(["LYZ", *genes[:19]]), ["LYZ", *genes[:19]], "gene vectors", 0.05)  # exactly 5%


def test_packaged_vectors_are_small_plain_and_know_what_is_alike():
    assert packaged_file(VECTORS).stat().st_size <= 3e6
    source = Packaged()
    vectors, found = source.lookup(["CD3D", "CD3E", "RPL3", "RPL4", "ENSG00000010610"])
    assert found.all()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = unit @ unit.T
    assert min(alike[0, 1], alike[2, 3]) > max(alike[0, 2], alike[0, 3], alike[1, 2]) + 0.3
    assert source.load() is source.load()
    assert np.isfinite(source.load().vectors).all()
    assert len(set(source.load().genes)) == len(source.load().genes) > 20_000


def test_random_vectors_know_the_same_genes_and_nothing_about_them():
    random, packaged = RandomVectors(), Packaged()
    genes = ["CD3D", "MARCH1", "NOT_A_GENE", "RPL3"]
    assert random.lookup(genes)[1].tolist() == packaged.lookup(genes)[1].tolist() == [True, True, False, True]
    assert (random.lookup(genes)[0] == RandomVectors().lookup(genes)[0]).all()
    assert (random.lookup(genes)[0][0] != RandomVectors(seed=1).lookup(genes)[0][0]).all()


@pytest.mark.parametrize("where", ["varm", "truth"])
def test_vectors_that_the_data_carry(where):
    data = AnnData(np.ones((2, 3), dtype=np.float32))
    data.var_names = ["GENE2", "GENE0", "GENE1"]
    values = np.array([[2.0, 2], [0, 1], [1, 1]])
    if where == "varm":
        data.varm["gene_vectors"] = values
    else:
        data.uns[keys.SIMULATED] = {
            "genes": np.array(["GENE0", "GENE1", "GENE2"], dtype=object),
            "gene_vectors": values[[1, 2, 0]],
        }
    vectors, found = DataVectors().bind(data).lookup(["GENE1", "GENE2", "X"])
    assert vectors.tolist() == [[1, 1], [2, 2], [0, 0]]
    assert found.tolist() == [True, True, False]


def test_data_without_vectors_are_told_so():
    with pytest.raises(UserError, match="carry no varm"):
        DataVectors().bind(AnnData(np.ones((2, 3), dtype=np.float32)))
    with pytest.raises(UserError, match="before the data"):
        DataVectors().lookup(["A"])
