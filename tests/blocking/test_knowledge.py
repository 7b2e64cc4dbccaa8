import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from scsave.blocking.knowledge import Pathway, Semantic, membership_vectors
from scsave.blocking.schemes import BlockingContext
from scsave.errors import UserError
from scsave.genes.sets import GeneSets
from scsave.genes.vectors import GeneVectors, Packaged

RIBOSOME = [f"RPL{i}" for i in (3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15)]
T_CELL = ["CD3D", "CD3E", "CD3G", "CD247", "CD4", "CD8A", "CD8B", "LCK", "ZAP70", "LAT", "CD28", "ITK"]
RESPIRATION = [f"NDUFA{i}" for i in (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13)]


def context(genes, organism="human", gene_ids=None) -> BlockingContext:
    return BlockingContext(
        genes=list(genes),
        train=AnnData(sparse.csr_matrix((3, len(genes)), dtype=np.float32)),
        organism=organism,
        gene_ids=gene_ids,
    )


@pytest.mark.parametrize("scheme", [Semantic(n_blocks=3), Pathway(n_blocks=3)])
def test_genes_of_one_function_share_a_block(scheme):
    genes = [gene for trio in zip(RIBOSOME, T_CELL, RESPIRATION, strict=True) for gene in trio]
    blocks = scheme(context(genes))
    groups = [blocks.assignment[blocks.lookup(group)] for group in (RIBOSOME, T_CELL, RESPIRATION)]
    assert [np.bincount(group).max() for group in groups] == [12, 12, 12]
    assert blocks.info["coverage"] == 1.0
    assert blocks.info["found_by"] == {"symbol": 36, "none": 0}
    assert blocks.scheme == type(scheme).__name__.lower()


@pytest.mark.parametrize("scheme", [Semantic(n_blocks=2), Pathway(n_blocks=2)])
def test_mouse_symbols_give_the_blocks_of_their_human_namesakes(scheme):
    genes = RIBOSOME + T_CELL
    human = scheme(context(genes))
    mouse = scheme(context([gene.capitalize() for gene in genes], "mouse"))
    assert mouse.assignment.tolist() == human.assignment.tolist()
    assert mouse.info["found_by"] == {"case": 24, "none": 0}


@pytest.mark.parametrize("scheme", [Semantic(n_blocks=4), Pathway(n_blocks=4)])
def test_unknown_genes_are_counted_and_fill_the_blocks(scheme):
    genes = RIBOSOME + T_CELL + [f"NOT_A_GENE_{i}" for i in range(10)]
    blocks = scheme(context(genes))
    assert blocks.info["without_vector"] == 10
    assert blocks.info["found_by"] == {"symbol": 24, "none": 10}
    assert blocks.info["coverage"] == pytest.approx(24 / 34)
    assert sorted(blocks.sizes) == [8, 8, 9, 9]


@pytest.mark.parametrize("scheme", [Semantic(), Pathway()])
def test_ensembl_ids_of_no_gene_are_an_error_that_says_so(scheme):
    with pytest.raises(UserError, match=r"0 of 100 genes are known.*look like Ensembl ids.*ENSG99999"):
        scheme(context([f"ENSG99999{i:06d}" for i in range(100)]))


def test_semantic_uses_the_vectors_that_it_is_given(tmp_path):
    rng = np.random.default_rng(0)
    genes = tuple(f"G{i}" for i in range(20))
    sides = np.repeat([[5.0], [-5.0]], 10, axis=0) + rng.normal(size=(20, 3))
    GeneVectors(genes, sides.astype(np.float32), "x").save(tmp_path / "v.npz")
    blocks = Semantic(vectors=Packaged(path=str(tmp_path / "v.npz")), n_blocks=2)(context(genes[::-1]))
    assert (
        len(set(blocks.assignment[blocks.lookup(genes[:10])]))
        == len(set(blocks.assignment[blocks.lookup(genes[10:])]))
        == 1
    )


def test_pathway_takes_any_gmt(tmp_path):
    path = tmp_path / "my.gmt"
    path.write_text("A\ta\tG1\tG2\tG3\nB\tb\tG4\tG5\tG6\n")
    scheme = Pathway(gene_sets=GeneSets(path=str(path), min_genes=2), n_blocks=2)
    blocks = scheme(context(["G1", "G4", "G2", "G5", "G3", "G6"]))
    assert len(set(blocks.assignment[blocks.lookup(["G1", "G2", "G3"])])) == 1
    assert blocks.sizes.tolist() == [3, 3]
    assert blocks.info["gene_sets"] == "my.gmt"


def test_membership_vectors_carry_the_weighted_cosine():
    rng = np.random.default_rng(0)
    member = (rng.random((12, 9)) < 0.4).astype(float)
    member[:, 4] = 0  # a gene of no set
    vectors, found = membership_vectors(sparse.csr_array(member), 100, seed=0)
    weighted = member.T * np.sqrt(np.log(9 / np.maximum(member.sum(1), 1)) + 1e-12)
    unit = weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(vectors @ vectors.T, unit @ unit.T, atol=1e-8)
    assert found.tolist() == [True] * 4 + [False] + [True] * 4
