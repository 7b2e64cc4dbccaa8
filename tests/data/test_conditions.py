"""Vocabulary, masking and the gene-set condition."""

import numpy as np
import pandas as pd
import pytest
import torch

from scsave.data.conditions import MASKED_SET, PAD, Conditions, GeneSet
from scsave.errors import UserError
from scsave.keys import MASK

OBS = pd.DataFrame({"cell_type": ["B", "T", "B"], "dose": [0.0, 1.0, 2.0], "pert": ["A", "ctrl", "B+A"]})
GENES = GeneSet("pert", ("A", "B", "C"), (True, True, False), "ctrl")


def fitted():
    return Conditions.fit(OBS, ["cell_type", "dose", "pert"], {"pert": GENES})


def test_kinds_follow_the_columns():
    assert [c.kind for c in fitted().columns] == ["categorical", "numeric", "gene_set"]


def test_encoding_of_each_kind():
    values = fitted().encode(OBS)
    assert values["cell_type"].tolist() == [0, 1, 0]
    assert values["dose"].mean().item() == pytest.approx(0, abs=1e-6)
    assert values["pert"].tolist() == [[0, PAD], [PAD, PAD], [0, 1]]


def test_order_of_a_gene_set_does_not_matter():
    both = fitted().encode(pd.DataFrame({"pert": ["A+B", "B+A", "C+B+A"]}))["pert"]
    assert both[0].tolist() == both[1].tolist() == [0, 1, PAD]
    assert both[2].tolist() == [0, 1, 2]


def test_absent_columns_and_the_mask_level_are_masked():
    values = fitted().encode(pd.DataFrame({"cell_type": [MASK, "T"]}))
    assert values["cell_type"].tolist() == [2, 1]
    assert values["dose"].isnan().all()
    assert (values["pert"][:, 0] == MASKED_SET).all()


def test_mask_touches_only_what_it_is_told_to():
    conditions = fitted()
    values = conditions.encode(OBS)
    where = torch.tensor([[True, False, False], [False, True, False], [False, False, True]])
    masked = conditions.mask(values, where)
    assert masked["cell_type"].tolist() == [2, 1, 0]
    assert masked["dose"].isnan().tolist() == [False, True, False]
    assert masked["pert"][:, 0].tolist() == [0, PAD, MASKED_SET]
    only = conditions.only(values, "dose")
    assert torch.equal(only["dose"], values["dose"])
    assert only["cell_type"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"cell_type": ["NK"]}, "no level 'NK'; it knows: B, T"),
        ({"dose": ["high"]}, "dose is numeric, but holds 'high'"),
        ({"pert": ["A+Z"]}, r"no gene vector for Z \(in 'A\+Z'\)"),
    ],
)
def test_what_the_model_does_not_know_is_named(frame, words):
    with pytest.raises(UserError, match=words):
        fitted().encode(pd.DataFrame(frame))


def test_a_vocabulary_survives_plain_types():
    conditions = fitted()
    back = Conditions.from_list(conditions.to_list())
    assert back == conditions
    for name, value in conditions.encode(OBS).items():
        np.testing.assert_array_equal(back.encode(OBS)[name], value)
