import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

from scsave.blocking import describe
from scsave.blocking.blocks import GeneBlocks


@pytest.fixture
def planted():
    """Three blocks of 20 genes around three points, a set inside each block and one across; one gene without vector."""
    rng = np.random.default_rng(0)
    block = np.arange(60) % 3
    vectors = np.eye(3)[block] * 5 + 0.1 * rng.normal(size=(60, 3))
    found = np.ones(60, dtype=bool)
    found[59], vectors[59] = False, 0
    member = np.zeros((4, 60))
    for j in range(3):
        member[j, np.flatnonzero(block == j)[:12]] = 1
    member[3, :12] = 1
    sets = describe.Sets(sparse.csr_array(member), ["first", "second", "third", "all over"], np.ones(60, dtype=bool))
    blocks = GeneBlocks(tuple(f"G{i:02d}" for i in range(60)), block, "planted", {"coverage": 59 / 60})
    return blocks, vectors, found, sets


def test_planted_blocks_are_found(planted):
    blocks, vectors, found, sets = planted
    table, enriched = describe.describe(blocks, vectors, found, sets)
    assert table["size"].tolist() == [20, 20, 20]
    assert table["with_vector"].tolist() == [20, 20, 19]
    assert (table["cohesion"] > 0.9).all()
    for j, central in enumerate(table["central_genes"].str.split(", ")):
        inside = np.flatnonzero(found & (blocks.assignment == j))
        distance = np.linalg.norm(vectors[inside] - vectors[inside].mean(0), axis=1)
        assert central == [blocks.genes[gene] for gene in inside[np.argsort(distance)][:10]]
    assert [text.split(" (")[0] for text in table["top_sets"]] == ["first", "second", "third"]
    assert table["enriched_sets"].tolist() == [1, 1, 1]
    assert (enriched.loc[enriched["set"] == "all over", "q"] > 0.5).all()
    summary = describe.summary(table, blocks)
    assert summary["cohesion"] > 0.9
    assert summary["enriched_sets"] == 1.0


def test_shuffled_blocks_have_no_cohesion_and_no_sets(planted):
    blocks, vectors, found, sets = planted
    shuffled = GeneBlocks(blocks.genes, np.random.default_rng(1).permutation(blocks.assignment), "random")
    table, _ = describe.describe(shuffled, vectors, found, sets)
    assert table["cohesion"].abs().max() < 0.1
    assert table["enriched_sets"].sum() == 0
    assert describe.agreement(blocks, shuffled) < 0.1
    assert describe.agreement(blocks, blocks.reindex(blocks.genes[::-1])) == 1.0


def test_distances_equal_those_counted_pair_by_pair(planted):
    blocks, vectors, found, _ = planted
    table = describe.cohesion(vectors, found, blocks)
    squared = ((vectors[:, None] - vectors[None]) ** 2).sum(2)
    for j in range(3):
        inside, outside = found & (blocks.assignment == j), found & (blocks.assignment != j)
        n = inside.sum()
        within = np.sqrt(squared[np.ix_(inside, inside)].sum() / (n * (n - 1)))
        between = np.sqrt(squared[np.ix_(inside, outside)].mean())
        assert table.loc[j, ["within", "between", "cohesion"]].tolist() == pytest.approx(
            [within, between, 1 - within / between]
        )


def test_enrichment_against_fishers_exact_test(planted):
    blocks, _, _, sets = planted
    universe = np.arange(60) % 7 != 0
    member = sparse.csr_array(sets.member.toarray() * universe)
    table = describe.enrichment(blocks, describe.Sets(member, sets.titles, universe))
    assert len(table) == 12
    for row in table.itertuples():
        in_set = member[[sets.titles.index(row.set)]].toarray().ravel().astype(bool)[universe]
        in_block = (blocks.assignment == row.block)[universe]
        counts = [
            [(in_set & in_block).sum(), (in_set & ~in_block).sum()],
            [(~in_set & in_block).sum(), (~in_set & ~in_block).sum()],
        ]
        assert row.p == pytest.approx(stats.fisher_exact(counts, "greater").pvalue)
        assert row.overlap == counts[0][0]
        assert row.expected == pytest.approx(in_set.sum() * in_block.mean())


def test_a_block_of_unknown_genes_has_no_cohesion(planted):
    blocks, vectors, _, sets = planted
    table, _ = describe.describe(blocks, vectors, blocks.assignment != 1, sets)
    assert table["cohesion"].isna().tolist() == [False, True, False]
    assert table.loc[1, "central_genes"] == ""
    assert isinstance(describe.summary(table, blocks)["cohesion"], float)
    assert not pd.isna(describe.summary(table, blocks)["cohesion"])


def test_blocks_are_named_by_their_most_enriched_set(planted):
    blocks, _, _, sets = planted
    assert describe.block_names(blocks, sets, longest=5) == ["0 first", "1 seco…", "2 third"]
    shuffled = GeneBlocks(blocks.genes, np.random.default_rng(1).permutation(blocks.assignment), "random")
    assert describe.block_names(shuffled, sets) == ["0", "1", "2"]
    unknown = describe.Sets(sets.member, sets.titles, np.zeros(60, dtype=bool))
    assert describe.block_names(blocks, unknown) == ["0", "1", "2"]
