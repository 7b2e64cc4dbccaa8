import builtins
import pickle
import zipfile

import numpy as np
import pytest

from scsave.errors import UserError
from scsave.genes.genept import GenePT


class Runs:
    """What an attacker would put into a pickle."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (builtins.open, (self.path, "w"))


def archive(tmp_path, values, name="GenePT_gene_embedding_ada_text.pickle"):
    path = tmp_path / "GenePT.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr(f"data/{name}", pickle.dumps(values))
        zipped.writestr("data/GenePT_protein_embedding_3_text.pickle", pickle.dumps({"NO": [0.0]}))
    return path


VALUES = {"CD3D": [1.0, 2.0], "MARCH1": [3.0, 4.0], "EMPTY": [0.0, 0.0]}


@pytest.mark.parametrize("form", ["list", "float32", "float64"])
@pytest.mark.parametrize("zipped", [False, True])
def test_plain_vectors_are_read_and_kept_as_an_array(tmp_path, form, zipped):
    values = VALUES if form == "list" else {gene: np.array(v, dtype=form) for gene, v in VALUES.items()}
    path = archive(tmp_path, values)
    if not zipped:
        path = tmp_path / "ada.pickle"
        path.write_bytes(pickle.dumps(values))
    source = GenePT(path=str(path), cache=str(tmp_path / "cache"))
    vectors, found = source.lookup(["MARCHF1", "CD3D", "EMPTY"])
    assert vectors.tolist() == [[3, 4], [1, 2], [0, 0]]
    assert found.tolist() == [True, True, False]
    kept = list((tmp_path / "cache" / "gene_vectors").glob("genept_*.npz"))
    assert len(kept) == 1
    assert set(np.load(kept[0], allow_pickle=False).files) == {"genes", "vectors", "info"}
    assert GenePT(path=str(kept[0])).lookup(["CD3D"])[0].tolist() == [[1, 2]]


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    trace = tmp_path / "trace"
    path = archive(tmp_path, {"CD3D": Runs(trace)})
    with pytest.raises(UserError, match=r"refused.*\.open"):
        GenePT(path=str(path), cache=str(tmp_path)).load()
    assert not trace.exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1, 2], "expected a dict"),
        ({}, "expected a dict"),
        ({"A": [1.0], "B": [1.0, 2.0]}, "one length"),
        ({1: [1.0]}, "not text"),
    ],
)
def test_other_pickles_are_named(tmp_path, values, words):
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps(values))
    with pytest.raises(UserError, match=words):
        GenePT(path=str(path), cache=str(tmp_path)).load()


def test_page_in_place_of_the_file_and_wrong_archive(tmp_path):
    path = tmp_path / "page.zip"
    path.write_text("<html>403</html>")
    with pytest.raises(UserError, match="not a pickle of plain vectors"):
        GenePT(path=str(path), cache=str(tmp_path)).load()
    with pytest.raises(UserError, match=r"there are: data/other\.pickle"):
        GenePT(path=str(archive(tmp_path, VALUES, "other.pickle")), cache=str(tmp_path)).load()
    with pytest.raises(UserError, match="no such file"):
        GenePT(path=str(tmp_path / "absent.zip"), cache=str(tmp_path)).load()


def test_no_network_says_where_to_put_the_archive(tmp_path, monkeypatch):
    from scsave.data import downloaded as download

    def nothing(url, beside):
        raise download.Broken("no connection")

    monkeypatch.setattr(download, "transfer", nothing)
    with pytest.raises(UserError, match=r"vectors=genept: GenePT_emebdding_v2\.zip is missing.*vectors\.path="):
        GenePT(cache=str(tmp_path)).load()
