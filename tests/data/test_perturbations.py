import pandas as pd
import pytest

from scsave.data.perturbations import canonical, canonicalise, parse, respelt
from scsave.errors import UserError


@pytest.mark.parametrize(
    ("label", "genes"),
    [
        ("A+ctrl", ("A",)),
        ("ctrl+A", ("A",)),
        ("B+A", ("A", "B")),
        ("A_B", ("A", "B")),
        ("A_B+C", ("A_B", "C")),
        ("C+A+B", ("A", "B", "C")),
        ("A+A", ("A",)),
        ("ARID1A_NegCtrl0__ARID1A_NegCtrl0", ("ARID1A",)),
        ("NegCtrl0_NegCtrl0__NegCtrl0_NegCtrl0", ()),
        ("HLA-DRA", ("HLA-DRA",)),
        ("NT5E", ("NT5E",)),
        *[(c, ()) for c in ("ctrl", "control", "Control", "non-targeting", "NT", "ctrl+ctrl", "", "NegCtrl10")],
    ],
)
def test_parse(label, genes):
    assert parse(label) == genes


def test_own_control_spelling():
    assert parse("LacZ+A", control="LacZ") == ("A",)
    assert canonical("ctrl", control="LacZ") == "LacZ"


def test_no_control_cells_is_refused():
    with pytest.raises(UserError, match="no control cells"):
        canonicalise(pd.Series(["A", "B+A"], name="condition"), "ctrl", "file.h5ad")


def test_a_mistyped_control_is_not_replaced_in_silence():
    labels = pd.Series(["NT", "A", "A"], name="guide")
    with pytest.raises(
        UserError, match=r"data.control=NOPE is no level of 'guide', but 'NT' \(1 cells\) reads as control"
    ):
        canonicalise(labels, "NOPE", "file.h5ad")
    assert set(canonicalise(labels, "control", "file.h5ad")) == {"control", "A"}  # the usual name for it


@pytest.mark.parametrize("label", ["A,B", "A|B", "A; B"])
def test_other_separators_are_named(label):
    with pytest.raises(UserError, match=r"write sets of genes as A\+B or A_B"):
        canonicalise(pd.Series(["control", label], name="guide"), "control", "file.h5ad")


def test_genes_have_one_spelling_each(caplog):
    labels = pd.Series(["control", "stat1", "STAT1", "STAT1", "myc", "Myc+STAT1", "myc", "jak2"]).astype("category")
    found = respelt(labels, ["STAT1", "Jak2", "jak2"], "control", "file.h5ad")
    assert list(found) == ["control", "STAT1", "STAT1", "STAT1", "myc", "STAT1+myc", "myc", "jak2"]
    assert "2 perturbed genes respelt: Myc as myc, stat1 as STAT1" in caplog.text
    assert respelt(found, ["STAT1"], "control", "file.h5ad") is found
