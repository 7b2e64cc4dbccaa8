import pandas as pd
import pytest

from scsave.data.perturbations import canonical, canonicalise, parse
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
