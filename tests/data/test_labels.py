"""Labels and names of a file that could be taken for what they are not."""

import logging

import pandas as pd
import pytest

from scsave.data.perturbations import canonicalise
from scsave.errors import UserError


def test_guides_are_no_genes():
    for label in ("STAT1_g2", "STAT1_sg1", "STAT1_2", "non-targeting_2"):
        with pytest.raises(UserError, match=f"seems to name guides, such as '{label}'"):
            canonicalise(pd.Series(["control", label], name="guide"), "control", "f.h5ad")
    kept = canonicalise(pd.Series(["control", "KLF1_BAK1", "NegCtrl0_NegCtrl0", "C3+ctrl"]), "control", "f.h5ad")
    assert list(kept) == ["control", "BAK1+KLF1", "control", "C3"]


def test_other_cells_do_not_join_a_named_control_in_silence(caplog):
    labels = pd.Series(["control", "untransduced", "STAT1"], name="guide")
    with pytest.raises(UserError, match=r"data.control=untransduced, but 'control' \(1 cells\) reads as control too"):
        canonicalise(labels, "untransduced", "f.h5ad")
    with caplog.at_level(logging.WARNING, "scsave"):
        canonicalise(pd.Series(["control", "NT", "STAT1"], name="guide"), "control", "f.h5ad")
    assert "several labels of 'guide' are taken as control: 'NT' 1, 'control' 1 cells" in caplog.text
