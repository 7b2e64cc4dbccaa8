import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scsave.components import build
from scsave.data.splits.split import Split, make_split
from scsave.errors import UserError

from .sources import make

SINGLES = [f"P{i}" for i in range(20)]
DOUBLES = [f"P{i}+P{j}" for i in range(20) for j in range(i + 1, 20) if (i + j) % 4 == 0]


class Source:
    name, conditions = "toy", ["cell_type", "batch"]
    perturbation, control = None, None


def cells(sizes: dict[tuple, int], columns=("cell_type", "batch")) -> AnnData:
    rows = [key for key, n in sizes.items() for _ in range(n)]
    obs = (
        pd.DataFrame(rows, columns=list(columns), index=[f"c{i}" for i in range(len(rows))])
        .astype(str)
        .astype("category")
    )
    return AnnData(obs=obs)


def grid(n=20):
    return cells({(t, b): n for t in "ABC" for b in (1, 2)})


def perturbed():
    class Norman(Source):
        conditions, perturbation, control = ["condition"], "condition", "ctrl"

    sizes = {(label,): 4 for label in SINGLES + DOUBLES} | {("ctrl",): 100}
    return cells(sizes, ["condition"]), Norman()


def test_random_takes_an_exact_share_of_each_combination_and_small_ones_train():
    data = cells({("A", 1): 100, ("A", 2): 50, ("B", 1): 9})
    split = make("split", "random")(data, Source(), 0)
    label = pd.Series(split.labels)
    combo = data.obs["cell_type"].astype(str).to_numpy() + data.obs["batch"].astype(str).to_numpy()
    assert pd.crosstab(combo, label).to_dict() == {
        "train": {"A1": 70, "A2": 35, "B1": 9},
        "val": {"A1": 10, "A2": 5, "B1": 0},
        "test": {"A1": 20, "A2": 10, "B1": 0},
    }
    assert split.info["combinations_only_in_train"] == 1
    assert split.hash == make("split", "random")(data, Source(), 0).hash
    assert split.hash != make("split", "random")(data, Source(), 1).hash


def test_unseen_named_and_drawn_keep_every_level_seen():
    data = grid()
    split = make("split", "unseen", hold_out=[{"cell_type": "B", "batch": 2}])(data, Source(), 0)
    test = data.obs.iloc[split.test]
    assert set(zip(test["cell_type"], test["batch"], strict=True)) == {("B", "2")}
    assert len(test) == 20
    assert len(split.val) == 10
    for seed in range(5):
        split = make("split", "unseen", fraction=0.4)(data, Source(), seed)
        train, test = data.obs.iloc[split.train], data.obs.iloc[split.test]
        combos = {tuple(row) for row in test.to_numpy()}
        assert len(combos) == 2
        assert not combos & {tuple(row) for row in train.to_numpy()}
        assert set(train["cell_type"]) == set("ABC")
        assert set(train["batch"]) == {"1", "2"}


def test_leave_out_with_and_without_where():
    data = grid()
    split = make("split", "leave_out", column="cell_type", level="B", where={"batch": 1})(data, Source(), 0)
    assert (data.obs.iloc[split.test].to_numpy() == ["B", "1"]).all()
    assert len(split.test) == 20
    assert len(make("split", "leave_out", column="cell_type", level="B")(data, Source(), 0).test) == 40


def test_several_splits_hold_out_what_any_of_them_does():
    data, random = grid(), "scsave.data.splits.strategies.Random"
    nodes = {
        "type": {"_target_": "scsave.data.splits.strategies.LeaveOut", "column": "cell_type", "level": "A",
                 "where": {"batch": 1}},
        "cells": {"_target_": random, "test": 0.2},
    }  # fmt: skip
    split = build({"_target_": "scsave.data.splits.strategies.Several", "splits": nodes}, "split")(data, Source(), 0)
    held = (data.obs.cell_type == "A") & (data.obs.batch == "1")
    assert set(split.parts()) == {"type", "cells"}
    assert set(split.parts()["type"]) == set(np.flatnonzero(held))
    assert len(split.parts()["cells"]) == 5 * 4  # a fifth of each other combination
    assert len(split.test) == 20 + 20
    with pytest.raises(UserError, match=r"split\.splits"):
        build({"_target_": "scsave.data.splits.strategies.Several", "splits": {}}, "split")


def test_all_trains_on_everything_but_a_small_share():
    split = make("split", "all")(grid(), Source(), 0)
    assert len(split.train) == 114
    assert len(split.val) == 6
    assert len(split.test) == 0


@pytest.mark.parametrize("seed", range(3))
def test_gears_groups_are_what_their_names_say(seed):
    data, source = perturbed()
    split = make("split", "gears", seed=seed)(data, source, 99)
    label = data.obs["condition"].astype(str).to_numpy()

    def genes(rows):
        return {g for p in set(label[rows]) if p != "ctrl" for g in p.split("+")}

    parts, train = split.parts(), set(label[split.train])
    fitted = genes(np.concatenate([split.train, split.val]))
    assert len(fitted & set(SINGLES)) == 15
    assert not genes(parts["unseen_single"]) & fitted
    for name, seen in (("combo_seen0", 0), ("combo_seen1", 1), ("combo_seen2", 2)):
        for p in set(label[parts[name]]):
            assert sum(g in fitted for g in p.split("+")) == seen
    # no perturbation is in two groups, validation comes from the training genes, control is shared out
    tested, watched = set(label[split.test]) - {"ctrl"}, set(label[split.val]) - {"ctrl"}
    assert not tested & train
    assert not tested & watched
    assert not watched & train
    assert [len(parts["control"]), len(split.parts("val")["control"])] == [20, 10]
    assert len(split.train) + len(split.val) + len(split.test) == data.n_obs
    assert split.hash == make("split", "gears", seed=seed)(data, source, 7).hash


def test_ahlmann_eltze_trains_on_all_singles_and_half_of_the_doubles():
    data, source = perturbed()
    split = make("split", "ahlmann_eltze", val=0.0)(data, source, 0)
    label = data.obs["condition"].astype(str).to_numpy()
    train = set(label[split.train])
    assert set(SINGLES) <= train
    assert len(train & set(DOUBLES)) == len(DOUBLES) // 2
    assert set(split.parts()) == {"combo_seen2", "control"}


@pytest.mark.parametrize("seed", [0, 1])
def test_random_perturbations_are_held_out_whole(seed):
    data, source = perturbed()
    split = make("split", "random_perturbations")(data, source, seed)
    label = data.obs["condition"].astype(str).to_numpy()
    train, val, test = (set(label[rows]) - {"ctrl"} for rows in (split.train, split.val, split.test))
    assert not train & test
    assert not train & val
    assert not val & test
    assert len(test) == round(0.2 * len(train | val | test))
    seen = {gene for one in train for gene in one.split("+")}
    for name, rows in split.parts().items():
        for one in set(label[rows]) - {"ctrl"}:
            assert name.endswith(f"seen{sum(g in seen for g in one.split('+'))}" if "+" in one else "_single")
    assert split.hash != make("split", "random_perturbations")(data, source, seed + 2).hash


def test_random_perturbations_leave_some_to_train_on():
    data, source = perturbed()
    with pytest.raises(UserError, match="is left to train on; lower test or val"):
        make("split", "random_perturbations", test=0.9, val=0.5)(data, source, 0)


def test_saved_split_comes_back_by_name_in_any_order(tmp_path):
    data, source = perturbed()
    split = make("split", "gears")(data, source, 0)
    split.save(tmp_path / "split.csv", data.obs_names)
    order = np.random.default_rng(0).permutation(data.n_obs)
    again = make("split", "file", path=str(tmp_path / "split.csv"))(data[order], source, 0)
    assert again.hash == split.hash
    assert set(data.obs_names[order][again.test]) == set(data.obs_names[split.test])
    assert set(again.groups) == set(split.groups)
    assert [p.name for p in tmp_path.iterdir()] == ["split.csv"]
    with pytest.raises(UserError, match="made for other cells"):
        Split.load(tmp_path / "split.csv", data.obs_names[:-1])


@pytest.mark.parametrize(
    ("strategy", "settings", "said"),
    [
        ("unseen", {}, "hold_out"),
        ("unseen", {"hold_out": [{"cell_type": "Z"}]}, "no level 'Z'; levels: A, B, C"),
        ("unseen", {"hold_out": [{"donor": "Z"}]}, "no condition 'donor'"),
        ("unseen", {"hold_out": [{"cell_type": "A"}]}, "level 'A' of 'cell_type' would occur in no training cell"),
        ("unseen", {"fraction": 0.9}, "lower split.fraction"),
        ("leave_out", {"column": "cell_type"}, "split.level"),
        ("leave_out", {"column": "cell_type", "level": "Z"}, "no level 'Z'"),
        ("random", {"min_cells": 1000}, "test group is empty"),
        ("random", {"test": 0.6, "val": 0.5}, "leave no cell to train on"),
        ("gears", {}, "needs data.perturbation_key"),
        ("file", {}, "split.path"),
        ("file", {"path": "nowhere.csv"}, "no such file"),
    ],
)
def test_mistakes_get_one_line(strategy, settings, said):
    with pytest.raises(UserError) as error:
        make("split", strategy, **settings)(grid(), Source(), 0)
    assert said in str(error.value)


def test_a_cell_in_two_groups_is_refused():
    with pytest.raises(ValueError, match="two of"):
        make_split({"train": [0, 1], "test": [1]}, ["a", "b"], "x")
