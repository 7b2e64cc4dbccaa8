import gzip

import pandas as pd
import pytest

from scsave.errors import UserError
from scsave.genes.names import GeneNames, kind_of, match_genes, read_names, read_orthologs


@pytest.fixture
def names() -> GeneNames:
    return GeneNames(
        pd.DataFrame(
            {
                "symbol": ["MARCHF1", "CD14", "ACTB", "H2AZ1", "SAA"],
                "name": ["a", "b", "c", "d", "e"],
                "ensembl": [
                    "ENSG00000145416",
                    "ENSG00000170458|ENSG00000999999",
                    "ENSG00000075624",
                    "",
                    "ENSG00000075624",
                ],
                "aliases": ["MARCH1|RNF170|OLD", "", "OLD|CD14", "H2AFZ", ""],
            }
        )
    )


def test_each_way_of_naming_a_gene(names):
    known = pd.Index(["MARCHF1", "CD14", "ACTB", "H2AZ1"])
    match = match_genes(["CD14", "ENSG00000145416.7", "MARCH1", "h2az1", "NOPE"], known, names)
    assert match.row.tolist() == [1, 0, 0, 3, -1]
    assert match.way.tolist() == ["symbol", "ensembl", "alias", "case", ""]
    assert match.coverage == pytest.approx(0.8)
    assert match.counts == {"symbol": 1, "ensembl": 1, "alias": 1, "case": 1, "none": 1}


def test_names_of_several_genes_name_none(names):
    known = pd.Index(["MARCHF1", "CD14", "ACTB", "SAA"])
    assert match_genes(["OLD"], known, names).row.tolist() == [-1]
    assert match_genes(["ENSG00000075624"], known, names).row.tolist() == [-1]
    assert "CD14" not in names.by_alias.index  # a current symbol is no alias, whatever a table says


def test_ids_beside_symbols_help_where_the_symbol_is_unknown(names):
    known = pd.Index(["MARCHF1", "CD14"])
    match = match_genes(["AC1234.1", "CD14"], known, names, gene_ids=["ENSG00000145416", "ENSG00000145416"])
    assert match.row.tolist() == [0, 1]  # the symbol wins over the id
    assert match.way.tolist() == ["ensembl", "symbol"]


def test_a_list_older_than_the_symbol_is_searched_by_its_aliases(names):
    known = pd.Index(["H2AFZ", "MARCH1"])
    match = match_genes(["H2AZ1", "RNF170"], known, names)
    assert match.row.tolist() == [0, 1]
    assert match.way.tolist() == ["alias", "alias"]


def test_mouse_by_ortholog_then_without_case(names, tmp_path):
    table = tmp_path / "orthologs.tsv.gz"
    table.write_bytes(gzip.compress(b"MGI\tHGNC\nMarch1\tMARCH1\nTwo\tACTB\nTwo\tCD14\nGm1\tCD14\n"))
    known = pd.Index(["MARCHF1", "CD14", "ACTB"])
    genes = ["March1", "Actb", "Gm1", "Two", "Old"]
    with_table = match_genes(genes, known, names, "mouse", orthologs=read_orthologs(table))
    assert with_table.row.tolist() == [0, 2, 1, -1, -1]
    assert with_table.way.tolist() == ["ortholog", "case", "ortholog", "", ""]
    without = match_genes(genes, known, names, "mouse")
    assert without.row.tolist() == [0, 2, -1, -1, -1]
    assert without.way.tolist() == ["case", "case", "", "", ""]


def test_order_of_known_genes_decides_the_row_not_the_names(names):
    genes = ["CD14", "H2AZ1", "MARCH1"]
    for order in (["MARCHF1", "CD14", "H2AZ1"], ["H2AZ1", "MARCHF1", "CD14"]):
        match = match_genes(genes, pd.Index(order), names)
        assert [order[row] for row in match.row] == ["CD14", "H2AZ1", "MARCHF1"]


def test_packaged_names_know_renamed_genes():
    names = read_names()
    known = pd.Index(names.table["symbol"])
    match = match_genes(["MARCH1", "H2AFZ", "ENSG00000010610", "CD3D", "MT-ND1"], known, names)
    assert known[match.row].tolist() == ["MARCHF1", "H2AZ1", "CD4", "CD3D", "ND1"]
    assert known[match_genes(["Cd3d", "mt-Nd1"], known, names, "mouse").row].tolist() == ["CD3D", "ND1"]
    assert known.is_unique


@pytest.mark.parametrize(
    ("genes", "words"),
    [
        (["ENSG00000010610", "ENSG00000075624.3"], "Ensembl ids"),
        (["ENSMUSG00000010610"], "mouse Ensembl ids"),
        (["Actb", "Cd3d"], "mouse symbols"),
        (["ACTB", "CD3D"], "symbols"),
        (["1", "22"], "numbers"),
        ([], "nothing"),
    ],
)
def test_what_names_look_like(genes, words):
    assert kind_of(genes).startswith(words)


def test_bad_tables_are_named(tmp_path):
    bad = tmp_path / "names.tsv"
    bad.write_text("symbol\tname\nA\tb\n")
    with pytest.raises(UserError, match="no column aliases, ensembl"):
        read_names(bad)
    with pytest.raises(UserError, match=r"absent\.tsv"):
        read_names(tmp_path / "absent.tsv")
