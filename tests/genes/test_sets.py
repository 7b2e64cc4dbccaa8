import gzip

import numpy as np
import pytest

from scsave.errors import UserError
from scsave.genes.packaged import SETS, packaged_file
from scsave.genes.sets import GeneSets, SetTable, read_gmt


@pytest.fixture
def gmt(tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text("T\tT cells\tCD3D\tCD3E\tCD4\nM\thttp://x\tLYZ\tCD14\tCD4\t\n\nONE\tone\tLYZ\n")
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_gmt(gmt, zipped):
    if zipped:
        gmt.write_bytes(gzip.compress(gmt.read_bytes()))
    table = read_gmt(gmt)
    assert table.sets == ("T", "M", "ONE")
    assert table.titles == ("T cells", "M", "one")  # a link is no title
    members = [{table.genes[gene] for gene in table.member[[row]].indices} for row in range(3)]
    assert members == [{"CD3D", "CD3E", "CD4"}, {"LYZ", "CD14", "CD4"}, {"LYZ"}]


@pytest.mark.parametrize(("content", "words"), [("", "empty"), ("A\tB\tC\nonly\ttwo\n", "line 2")])
def test_other_files_are_refused(tmp_path, content, words):
    path = tmp_path / "x.gmt"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        read_gmt(path)


def test_npz_roundtrip(gmt, tmp_path):
    table = read_gmt(gmt)
    table.save(tmp_path / "sets.npz")
    again = SetTable.load(tmp_path / "sets.npz", "again")
    assert (again.genes, again.sets, again.titles) == (table.genes, table.sets, table.titles)
    assert (again.member.toarray() == table.member.toarray()).all()


def test_membership_of_the_genes_of_the_data(gmt):
    genes = ["NOPE", "CD14", "LYZ", "CD3D"]
    member, titles, match = GeneSets(path=str(gmt), min_genes=2, max_genes=3).membership(genes)
    assert titles == ["M"]  # T has one gene here, ONE is too small
    assert member.toarray().tolist() == [[0, 1, 1, 0]]
    assert match.found.tolist() == [False, True, True, True]
    assert GeneSets(path=str(gmt), min_genes=4).membership(genes)[1] == []


def test_terms_of_a_gene_smallest_set_first(gmt):
    terms = read_gmt(gmt).terms_of()
    assert terms["LYZ"] == "one; M"
    assert terms["CD4"] == "T cells; M"


def test_limits_the_wrong_way_round():
    with pytest.raises(UserError, match="min_genes=20"):
        GeneSets(min_genes=20, max_genes=10)


def test_packaged_sets_are_go_terms_of_10_to_500_genes():
    table = GeneSets().read()
    size = np.asarray(table.member.sum(1)).ravel()
    assert 10 == size.min() < size.max() <= 500
    assert packaged_file(SETS).stat().st_size < 1e6
    row = table.titles.index("T cell receptor complex")
    members = {table.genes[gene] for gene in table.member[[row]].indices}
    assert {"CD3D", "CD3E", "CD247"} <= members
    assert "LYZ" not in members
