import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from scsave.errors import UserError
from scsave.results.comparable import comparable, differing, told
from scsave.results.frame import read
from scsave.results.plans import not_run, read_jobs
from scsave.results.table_formats import latex, latex_escape, markdown, sources_csv, tidy_csv, write_table
from scsave.results.table_text import CEILING_PASSED, entry_text, mark, paper_text, verdict
from scsave.results.tables import CEILING, Entry, Table, digits_for, make_table, plan

from .written import write

ROOT = Path(__file__).parents[2]


NOTHING = not_run(read_jobs([]))


def table_of(folder, **options) -> Table:
    return make_table(read([folder]), **{"metrics": ["w1"]} | options)


def texts(table: Table, column: int = 0) -> dict[str, str]:
    return {row: entry_text(table, row, column) for row in table.rows}


def ranks(table: Table, column: int = 0) -> dict[str, int | None]:
    return {row: table.entry(row, column).rank for row in table.rows}


def has_paper(table: Table, column: int) -> bool:
    return any(number == column for _, number in table.paper)


def seeds(folder, values, real=(1.0, 1.0, 1.0), **kwargs):
    for seed, value in enumerate(values):
        metrics = {kwargs.get("method", "save"): {"w1": value}, "real": {"w1": real[seed]}}
        name = f"{kwargs.get('method', 'save')}-{seed}"
        write(folder / name, metrics, seed=seed, split_hash=f"{seed:064x}", **kwargs)


# -- arithmetic


def test_mean_sd_and_number_of_seeds(tmp_path):
    seeds(tmp_path, [2.0, 3.0, 7.0])
    seeds(tmp_path, [5.0, 5.0, 5.0], method="scvi")
    table = table_of(tmp_path)
    cell = table.entry("save", 0)
    assert (cell.n, cell.mean) == (3, 4.0)
    assert cell.sd == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert texts(table) == {"save": "4.00 ± 2.65 (3)", "scvi": "5.00 ± 0.00 (3)", "real": "1.00 ± 0.00 (3)"}
    sources = table.values[table.values["label"] == "save"]
    assert {one.seed: table.runs.at[one.run, "seed"] for one in sources.itertuples()} == {0: 0, 1: 1, 2: 2}


def test_one_seed_has_no_sd(tmp_path):
    write(tmp_path / "a")
    table = table_of(tmp_path)
    assert math.isnan(table.entry("save", 0).sd)
    assert texts(table)["save"] == "2.00 (1)"


def test_a_missing_value_is_not_counted_and_never_best(tmp_path):
    seeds(tmp_path, [2.0, None, 4.0])
    seeds(tmp_path, [None, None, None], method="scvi")
    seeds(tmp_path, [9.0, 9.0, 9.0], method="pca_gaussian")
    table = table_of(tmp_path)
    assert texts(table)["save"] == "3.00 ± 1.41 (2)"
    assert texts(table)["scvi"] == "–"
    assert ranks(table) == {"save": 1, "scvi": None, "pca_gaussian": 2, "real": None}
    assert any("different seeds" in note and "save 0,2" in note for note in table.notes)


def test_floor_and_ceiling_are_never_ranked_and_stand_below(tmp_path):
    rows = {"ceiling": 0.1, "real": 0.2, "mean": 5.0, "save": 3.0, "train_resample": 0.3}
    write(tmp_path / "a", {row: {"w1": value} for row, value in rows.items()})
    table = table_of(tmp_path)
    assert list(table.rows) == ["save", "mean", "real", "train_resample", "ceiling"]
    assert table.rows["ceiling"] == CEILING
    assert ranks(table) == {"save": 1, "mean": 2, "real": None, "train_resample": None, "ceiling": None}


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("w1", {"save": 2.0, "a": 1.0, "b": 3.0}, {"save": 2, "a": 1, "b": 3}),
        ("recall", {"save": 0.2, "a": 0.1, "b": 0.3}, {"save": 2, "a": 3, "b": 1}),
        ("c2st_auc", {"save": 0.6, "a": 0.45, "b": 0.9}, {"save": 2, "a": 1, "b": 3}),
        # equal as shown: both best, and no second
        ("w1", {"save": 2.001, "a": 2.004, "b": 3.0}, {"save": 1, "a": 1, "b": 3}),
        ("c2st_auc", {"save": 0.4, "a": 0.6, "b": 0.7}, {"save": 1, "a": 1, "b": 3}),
    ],
)
def test_best_is_what_the_registry_says(tmp_path, metric, values, expected):
    for name, value in values.items():
        write(tmp_path / name, {name: {metric: value}}, method=name)
    assert ranks(table_of(tmp_path, metrics=[metric])) == expected


def test_a_row_alone_is_not_best(tmp_path):
    write(tmp_path / "a")
    assert ranks(table_of(tmp_path)) == {"save": None, "real": None}


def test_a_cut_of_the_data_is_told(tmp_path):
    write(tmp_path / "a", config={"data.max_cells": 1500, "data.n_top_genes": 1000})
    told = markdown(table_of(tmp_path), NOTHING, "s.csv")
    assert "- toy: 100 cells x 50 genes (max_cells 1,500, n_top_genes 1,000), split random (seed 0 abababab)" in told


def test_digits():
    found = [digits_for(x) for x in (1234.0, 123.0, 12.3, 1.5, 0.99, 0.0123, 0.0, float("nan"))]
    assert found == [0, 1, 2, 3, 3, 4, 3, 3]


# -- what is never mixed


def test_another_split_of_one_seed_is_another_column(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", {"scvi": {"w1": 5.0}}, method="scvi", split_hash="cd" * 32)
    write(tmp_path / "c", {"scvi": {"w1": 9.0}}, method="scvi", seed=1)
    table = table_of(tmp_path)
    assert [column.label for column in table.columns] == [
        "toy (seed 0, split abababab)",
        "toy (seed 0, split cdcdcdcd)",
        "toy (seed 1, split abababab)",
    ]
    assert [texts(table, n)["scvi"] for n in range(3)] == ["–", "5.00 (1)", "9.00 (1)"]
    (note,) = table.notes
    assert "no mean over seeds: seed 0 has split_hash abababab in" in note
    with pytest.raises(UserError, match="can't share a column") as caught:
        table_of(tmp_path, strict=True)
    assert "split_hash" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"data.n_top_genes": 500}},
        {"config": {"data.max_cells": 10}},
        {"config": {"task.n_components": 5}},
        {"config": {"split.test": 0.5}},
        {"cells": 99},
        {"metric_versions": {"w1": 2}},
    ],
)
def test_other_settings_and_versions_are_other_columns(tmp_path, change):
    write(tmp_path / "a")
    write(tmp_path / "b", {"scvi": {"w1": 5.0}}, method="scvi", **change)
    table = table_of(tmp_path)
    assert len(table.columns) == 2
    labels = [column.label for column in table.columns]
    assert labels[0] != labels[1]
    assert all(label.startswith("toy (") for label in labels)
    with pytest.raises(UserError, match="can't share a column"):
        table_of(tmp_path, strict=True)


def test_another_version_of_a_metric_that_is_not_shown_changes_nothing(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", {"scvi": {"w1": 5.0}}, method="scvi", metric_versions={"w1": 1, "recall": 2})
    assert len(table_of(tmp_path, strict=True).columns) == 1


def test_a_value_of_another_version_is_not_explained_by_todays_formula_alone(tmp_path):
    write(tmp_path / "a", metric_versions={"w1": 7})
    assert "computed by another version: v7 in toy" in markdown(table_of(tmp_path), NOTHING, "s.csv")


def test_where_a_file_lies_is_no_setting(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", {"scvi": {"w1": 5.0}}, method="scvi", config={"data.path": "elsewhere.h5ad"})
    assert len(table_of(tmp_path, strict=True).columns) == 1


def test_two_protocols_in_one_table_are_refused(tmp_path):
    write(tmp_path / "a", protocols={"cfgen": {"save": {"w1": 9.0}}})
    with pytest.raises(UserError, match="a column has one protocol"):
        table_of(tmp_path, protocol="neutral,cfgen")
    with pytest.raises(UserError, match=r"none of the runs has it; they have: neutral, cfgen"):
        table_of(tmp_path, protocol="legacy")
    assert texts(table_of(tmp_path, protocol="cfgen"))["save"] == "9.00 (1)"


def test_reference_rows_are_taken_once_and_must_agree(tmp_path):
    write(tmp_path / "a", {"save": {"w1": 2.0}, "real": {"w1": 1.0}})
    write(tmp_path / "b", {"scvi": {"w1": 3.0}, "real": {"w1": 1.0 + 1e-7}}, method="scvi")
    table = table_of(tmp_path)
    assert texts(table)["real"] == "1.00 (1)"
    assert table.entry("real", 0).n == 1
    write(tmp_path / "c", {"mean": {"w1": 4.0}, "real": {"w1": 1.1}}, method="mean")
    table = table_of(tmp_path)
    assert len(table.columns) == 2
    assert any("row real has w1 1 in" in note and "1.1 in" in note for note in table.notes)
    with pytest.raises(UserError, match="row real has w1"):
        table_of(tmp_path, strict=True)


def test_a_baseline_run_is_one_with_the_row_of_its_name_unless_it_differs(tmp_path):
    write(tmp_path / "a", {"save": {"w1": 2.0}, "mean": {"w1": 4.0}})
    write(tmp_path / "b", {"mean": {"w1": 4.0}}, method="mean")
    assert list(table_of(tmp_path).rows) == ["save", "mean"]
    write(tmp_path / "b", {"mean": {"w1": 4.5, "recall": 0.5}}, method="mean")
    assert texts(table_of(tmp_path)) == {"save": "2.00 (1)", "mean": "4.00 (1)", "mean (own run)": "4.50 (1)"}


def test_of_two_runs_of_one_setting_the_newer_counts_and_the_other_is_named(tmp_path):
    write(tmp_path / "a", {"save": {"w1": 2.0}}, written="2026-01-01T00:00:00+00:00")
    write(tmp_path / "b", {"save": {"w1": 3.0}}, written="2026-02-01T00:00:00+00:00")
    table = table_of(tmp_path)
    assert texts(table)["save"] == "3.00 (1)"
    (note,) = table.notes
    assert str(tmp_path / "a" / "results.json") in note


def test_a_training_counts_before_its_evaluation(tmp_path):
    write(tmp_path / "a", cost={"seconds_fit": 60})
    write(tmp_path / "a" / "evaluate", cost={}, config={"mode": "evaluate"}, written="2026-02-01T00:00:00+00:00")
    table = table_of(tmp_path, costs=True)
    assert texts(table, 0)["save"] == "2.00 (1)"
    assert texts(table, 1)["save"] == "1.000 (1)"
    assert table.notes == []


# -- names of rows and columns


def test_settings_that_differ_name_the_rows(tmp_path):
    for size in (600, 1600):
        for seed in (0, 1):
            config = {"blocking.block_size": size}
            write(tmp_path / f"{size}-{seed}", {"save": {"w1": size + seed}}, seed=seed, config=config)
    table = table_of(tmp_path)
    assert list(table.rows) == ["save (block_size=600)", "save (block_size=1600)"]
    assert table.entry("save (block_size=600)", 0).mean == 600.5


def test_a_whole_number_is_one_setting_however_it_is_written(tmp_path):
    write(tmp_path / "a", config={"sampling.guidance": 1})
    write(tmp_path / "b", {"save": {"w1": 4.0}}, seed=1, config={"sampling.guidance": 1.0})
    assert texts(table_of(tmp_path)) == {"save": "3.00 ± 1.41 (2)", "real": "1.00 (1)"}


def frame(*settings: dict) -> pd.DataFrame:
    return pd.DataFrame(settings, dtype=object)


def test_one_setting_under_two_keys_is_told_once():
    a, b = ({"task.hold_out": x, "split.hold_out": x, "split.test": 0.1} for x in ("B", None))
    assert differing(frame(a, b)) == ["task.hold_out"]
    assert told(pd.Series(b), ["task.hold_out"]) == "hold_out=null"
    assert differing(frame(a, b, a | {"split.hold_out": "C"})) == ["task.hold_out", "split.hold_out"]


def test_a_target_that_differs_names_itself_and_not_what_hangs_on_it():
    a = {"blocking._target_": "x.Random", "blocking.seed": 1, "training.lr": 0.1}
    b = {"blocking._target_": "x.Semantic", "blocking.vectors.key": "v", "training.lr": 0.1}
    keys = differing(frame(a, b))
    assert told(pd.Series(a), keys) == "blocking=Random"
    assert told(pd.Series(b), keys) == "blocking=Semantic"
    c = a | {"blocking.seed": 2}
    assert told(pd.Series(c), differing(frame(a, b, c))) == "blocking=Random, seed=2, key=null"


def test_settings_may_differ_between_data_sets_and_a_note_says_so(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", data="other", config={"data.name": "other", "training.lr": 1})
    table = table_of(tmp_path)
    assert list(table.rows) == ["save", "real"]
    assert table.notes == ["save: settings differ between data sets (training.lr)"]


def test_rows_with_many_settings_take_the_experiments_name_or_what_departs_from_the_usual(tmp_path):
    many = {f"training.x{n}": n for n in range(4)}
    write(tmp_path / "a", experiment_name="ablation/a")
    write(tmp_path / "b", experiment_name="ablation/b", config=many)
    assert list(table_of(tmp_path).rows) == ["save (ablation/a)", "save (ablation/b)", "real"]
    assert list(plan(read([tmp_path]))) == ["ablation_a_generation", "ablation_b_generation"]
    write(tmp_path / "b", config=many)
    table = table_of(tmp_path)
    assert list(table.rows) == ["save", "save (x0=0, x1=1, x2=2, x3=3)", "real"]
    assert table.notes == [
        "save: rows name the settings that are not as in most variants, x0=null, x1=null, x2=null, x3=null"
    ]


def test_a_folder_of_experiments_is_one_table(tmp_path):
    write(tmp_path / "a", experiment_name="paper/a")
    write(tmp_path / "b", experiment_name="paper/b", config={"blocking.block_size": 1})
    write(tmp_path / "c")
    write(tmp_path / "d", {"save": {"total": 1.0}}, task="batch_correction", registry="batch_correction", info={})
    found = {name: len(group) for name, group in plan(read([tmp_path])).items()}
    assert found == {"batch_correction": 1, "generation": 1, "paper_generation": 2}


# -- the paper's numbers


def heart(folder, value=8.5, experiment="paper/heart", **config):
    changes = {"data": "heart", "experiment_name": experiment, "config": {"data.name": "heart", **config}}
    write(folder, {"save": {"w1": value}, "real": {"w1": 5.0}}, protocols={"cfgen": {"save": {"w1": 9.0}}}, **changes)


def test_the_papers_number_stands_beside_ours_with_the_difference(tmp_path):
    heart(tmp_path / "a")
    table = table_of(tmp_path)
    assert paper_text(table, "save", 0) == "8.30 (+0.20)"
    assert paper_text(table, "real", 0) == ""
    assert paper_text(table, "CFGen, as reported", 0) == "12.57"
    assert list(table.rows) == ["save", "real", "CFGen, as reported"]
    assert "ours in protocol neutral" in markdown(table, NOTHING, "s.csv")
    table = table_of(tmp_path, protocol="cfgen")
    assert paper_text(table, "save", 0) == "8.30 (+0.70)"
    assert "ours in protocol cfgen (" in markdown(table, NOTHING, "s.csv")


def test_no_number_of_the_paper_stands_beside_a_small_version(tmp_path):
    heart(tmp_path / "a", experiment="small/heart")
    table = table_of(tmp_path)
    assert list(table.rows) == ["save", "real"]
    assert not has_paper(table, 0)


def test_settings_of_the_papers_ablations_meet_only_their_like(tmp_path):
    heart(tmp_path / "a")
    heart(tmp_path / "b", 10.0, "paper/block_size", **{"blocking.block_size": 1600})
    heart(tmp_path / "c", 11.0, "ablation/blocks", **{"blocking.block_size": 77})
    table = table_of(tmp_path)
    found = {row: paper_text(table, row, 0) for row in table.rows if row.startswith("save")}
    assert found == {
        "save (block_size=3200)": "8.30 (+0.20)",
        "save (block_size=1600)": "9.64 (+0.36)",
        "save (block_size=77)": "",
    }


def test_a_mean_over_types_is_not_held_against_one_type(tmp_path):
    for name, held in (("a", None), ("b", "B")):
        config = {"data.name": "pbmc_ifn", "task.hold_out": held}
        names = {"task": "perturbation", "registry": "response", "data": "pbmc_ifn", "split": "leave_out", "info": {}}
        write(tmp_path / name, {"save": {"pcc": 0.97}, "no_change": {"pcc": 0.9}}, config=config, **names)
    table = table_of(tmp_path, metrics=["pcc"])
    found = {column.label: n for n, column in enumerate(table.columns)}
    assert paper_text(table, "save", found["pbmc_ifn (hold_out=null)"]) == "0.96 (+0.01)"
    assert not has_paper(table, found["pbmc_ifn (hold_out=B)"])


# -- groups with intervals


def test_groups_of_perturbations_with_their_intervals(tmp_path):
    metrics = {"save": {"energy": 2.0}, "ceiling": {"energy": 1.0}}
    groups = {row: {"combo_seen0": {"energy": value}} for row, value in (("save", 3.0), ("ceiling", 0.5))}
    intervals = {"save": {"all": {"energy": [1.5, 2.5]}, "combo_seen0": {"energy": [None, None]}}}
    info = {"intervals": intervals, "counts": {"all": 9, "combo_seen0": 4, "combo_seen1": 0}}
    changes = {"task": "perturbation", "registry": "genetic", "info": info, "groups": groups}
    write(tmp_path / "a", metrics, **changes)
    table = table_of(tmp_path, metrics=["energy"])
    assert [column.group for column in table.columns] == ["all", "combo_seen0"]
    assert texts(table, 0)["save"] == "2.00 [1.50, 2.50]"
    assert texts(table, 1)["save"] == "3.00 (1)"
    write(tmp_path / "b", metrics, seed=1, **changes)
    assert texts(table_of(tmp_path, metrics=["energy"]), 0)["save"] == "2.00 ± 0.00 (2)"
    assert [c.group for c in table_of(tmp_path, metrics=["energy"], group=["combo*"]).columns] == ["combo_seen0"]
    table.entries["save", 0] = Entry(mean=-0.0001, n=1)
    assert texts(table)["save"] == "0.00 (1)"
    with pytest.raises(UserError, match=r"no such group in toy; there are: all, combo_seen0"):
        table_of(tmp_path, metrics=["energy"], group=["singles"])


def test_an_unknown_metric_is_named_with_those_there_are(tmp_path):
    write(tmp_path / "a")
    with pytest.raises(UserError, match=r"no such metric of generation in protocol neutral; there are: w1, w2"):
        table_of(tmp_path, metrics=["wd"])
    assert len(table_of(tmp_path, metrics=["all"]).columns) > 20


def test_costs_are_shown_and_not_ranked(tmp_path):
    write(tmp_path / "a", cost={"seconds_fit": 90.0, "parameters": 2_000_000})
    write(tmp_path / "b", {"scvi": {"w1": 5.0}}, method="scvi", cost={"seconds_fit": 30.0})
    table = table_of(tmp_path, costs=True)
    names = [column.metric.name for column in table.columns]
    assert names == ["w1", "train_minutes", "sample_seconds", "parameters_millions", "peak_gb"]
    assert texts(table, 1) == {"save": "1.500 (1)", "scvi": "0.500 (1)", "real": "–"}
    assert ranks(table, 1) == {"save": None, "scvi": None, "real": None}
    assert "train min: cost.seconds_fit / 60" in markdown(table, NOTHING, "s.csv")
    write(tmp_path / "a", cost={"seconds_fit": 90.0}, groups={"save": {"pooled": {"w1": 7.0}}})
    table = table_of(tmp_path, costs=True, group=["pooled"])
    assert [texts(table, n)["save"] for n in (0, 1)] == ["7.00 (1)", "1.500 (1)"]
    assert "the group pooled is all test cells at once" in markdown(table, NOTHING, "s.csv")


# -- what it is written as


def two_data_sets(folder):
    heart(folder / "a")
    heart(folder / "b", 9.1, "paper/heart_2", **{"blocking.block_size": 600})
    write(folder / "c", {"save": {"w1": 1.0}, "a_b": {"w1": 2.0}}, data="50%_&|x", config={"data.name": "50%_&|x"})


def test_markdown_has_as_many_fields_in_every_line(tmp_path):
    two_data_sets(tmp_path)
    text = markdown(table_of(tmp_path), NOTHING, "s.csv")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    fields = {len(re.split(r"(?<!\\)\|", line)) for line in lines}
    assert fields == {7}  # two ends, the name, what it differs in, two data sets, the paper
    assert "| save | block_size=600 |" in text
    assert "**8.50 (1)**" in text
    assert "<ins>9.10 (1)</ins>" in text
    assert "- file and command of every value: s.csv" in text


def test_wide_tables_are_cut_between_data_sets(tmp_path):
    for name in "abc":
        write(
            tmp_path / name, {"save": {"w1": 1.0}, f"only_{name}": {"w1": 2.0}}, data=name, config={"data.name": name}
        )
    table = table_of(tmp_path, metrics=["w1", "w2", "energy", "recall"])
    assert table.parts() == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11]]
    assert list(table.rows_of([8, 9])) == ["save", "only_c"]
    assert markdown(table, NOTHING, "s.csv").count("| --- |") == 2


def test_csv_is_tidy_and_every_value_is_traced(tmp_path):
    seeds(tmp_path, [2.0, 3.0])
    table = table_of(tmp_path)
    (line, floor) = csv.DictReader(io.StringIO(tidy_csv(table, NOTHING)))
    assert (line["row"], line["metric"], float(line["mean"]), line["n"]) == ("save", "w1", 2.5, "2")
    assert (floor["row"], floor["role"], floor["rank"]) == ("real", "noise floor", "")
    traced = list(csv.DictReader(io.StringIO(sources_csv(table))))
    assert len(traced) == 4
    for one in traced:
        content = json.loads(Path(one["results"]).read_text())
        assert content["metrics"][one["row"]]["all"][one["metric"]] == float(one["value"])
        assert content["seed"] == int(one["seed"])
        assert one["command"] == content["command"]


def test_latex_escapes_what_latex_reads():
    assert latex_escape("50%_&#${}~^\\") == (r"50\%\_\&\#\$\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}")
    assert latex_escape("W1 ↓ ± →0.5 R² Δ") == r"W1 $\downarrow$ $\pm$ $\to$0.5 R$^2$ $\Delta$"


def test_latex_lines_have_as_many_fields(tmp_path):
    two_data_sets(tmp_path)
    text = latex(table_of(tmp_path), NOTHING, "s.csv")
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    assert r"50\%\_\&\textbar{}x" in body
    assert r"a\_b" in body
    assert body.count(r"\midrule") == 3  # methods, floor, the paper's
    widths = []
    for line in body.splitlines():
        if line.endswith(r"\\"):
            spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            widths.append(len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans))
    assert set(widths) == {5}


@pytest.mark.skipif(
    not (shutil.which("pdflatex") or shutil.which("tectonic")), reason="neither pdflatex nor tectonic on this machine"
)
def test_latex_compiles(tmp_path):
    two_data_sets(tmp_path / "runs")
    write(tmp_path / "runs" / "d", {"save": {"c2st_auc_genes": 0.5, "gene_mean_r2": 0.1, "de_overlap_100": 0.3}})
    text = latex(table_of(tmp_path / "runs", metrics=["all"]), NOTHING, "s_x.csv")
    whole = (
        "\\documentclass{article}\\usepackage[utf8]{inputenc}\\usepackage[T1]{fontenc}\\usepackage{booktabs,graphicx}"
    )
    (tmp_path / "t.tex").write_text(f"{whole}\\begin{{document}}\n{text}\\end{{document}}\n", encoding="utf-8")
    tool = shutil.which("pdflatex")
    command = [tool, "-halt-on-error", "-interaction=nonstopmode", "t.tex"] if tool else ["tectonic", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 5000


# -- what did not run, and the script


def state(folder, *jobs):
    path = folder / "reproduce" / "paper" / "state.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"schema": 1, "jobs": list(jobs)}))


def job(seed, status, reason=None, experiment="paper/dentate_gyrus", data="dentate_gyrus"):
    names = {"experiment": experiment, "task": "generation", "data": data, "method": "save"}
    return names | {"seed": seed, "status": status, "reason": reason, "overrides": [], "command": "python train.py"}


def test_what_did_not_run_is_named_with_its_reason(tmp_path):
    jobs = [job(seed, "missing", "dataset missing: no mirror") for seed in (0, 1)]
    state(
        tmp_path, *jobs, job(2, "failed", "exit 1"), job(3, "done"), job(0, "pending", experiment="paper/x", data="x")
    )
    gaps = not_run(read_jobs([tmp_path]))
    first, second, third = gaps.itertuples()
    assert (first.seeds, first.why) == ("0,1", "not run: dataset missing: no mirror")
    assert first.paper == "w1 9.16, mmd2_rbf 0.17"
    assert (second.seeds, second.why) == ("2", "failed: exit 1")
    assert (third.why, third.paper) == ("not run yet", "")
    write(tmp_path / "a", experiment_name="paper/toy")
    table = table_of(tmp_path)
    assert (
        "| paper/dentate_gyrus | save | 0,1 | not run: dataset missing: no mirror | w1 9.16, mmd2_rbf 0.17 |"
        in markdown(table, gaps[:1], "s.csv")
    )
    assert "not run: dataset missing" in latex(table, gaps[:1], "s.csv")
    assert "not run: dataset missing: no mirror (seeds 0,1)" in tidy_csv(table, gaps[:1])


def test_a_state_that_cannot_be_read_is_named(tmp_path):
    state(tmp_path)
    path = tmp_path / "reproduce" / "paper" / "state.json"
    path.write_text("{}")
    with pytest.raises(UserError, match="can't be read as the state of a reproduction"):
        read_jobs([tmp_path])


def script(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_tables.py"), *map(str, arguments)], capture_output=True, text=True
    )


def test_the_script_writes_every_format_and_refuses_in_one_line(tmp_path):
    seeds(tmp_path / "runs", [2.0, 3.0])
    state(tmp_path / "runs", job(0, "missing", "dataset missing: no mirror", experiment="other/x"))
    done = script(tmp_path / "runs", "--out", tmp_path / "tables")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == [
        "generation.csv", "generation.html", "generation.md", "generation.sources.csv", "generation.tex", "not_run.md",
    ]  # fmt: skip
    gaps = "| other/x | save | 0 | not run: dataset missing: no mirror |"
    assert gaps in (tmp_path / "tables" / "not_run.md").read_text()
    printed = script(tmp_path / "runs", "--metrics", "w1")
    assert "| save | 2.50 ± 0.71 (2) |" in printed.stdout
    assert gaps in printed.stdout
    refused = script(tmp_path / "runs", "--protocol", "neutral,cfgen")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --protocol neutral,cfgen: a column has one protocol")
    assert refused.stderr.count("\n") == 1


def test_a_gap_stands_below_the_table_of_its_experiment_or_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import make_tables

    jobs = [job(0, "missing", "no mirror", experiment=name) for name in ("paper/b", "ablation/a", "ablation/z")]
    state(tmp_path, *jobs)
    write(tmp_path / "a", experiment_name="paper/a")
    for name in "ab":
        many = {f"training.x{n}": name for n in range(4)}
        write(tmp_path / name / name, experiment_name=f"ablation/{name}", config=many)
    make_tables.run([str(tmp_path), "--metrics", "w1"])
    tables = capsys.readouterr().out.split("### ")[1:]
    found = [sorted(set(re.findall(r"(\w+/\w) \| save \| 0 \| not run: no mirror", table))) for table in tables]
    assert found == [["ablation/a"], [], ["ablation/z", "paper/b"]]


def test_written_files_are_whole_and_named(tmp_path):
    write(tmp_path / "runs" / "a")
    found = write_table(tmp_path / "out", "t", table_of(tmp_path / "runs"), NOTHING, ["csv"])
    assert [path.name for path in found] == ["t.csv", "t.sources.csv"]


def test_columns_do_not_depend_on_the_order_of_files(tmp_path):
    for seed in (1, 0):
        for name, digest in (("b", "cd" * 32), ("a", "ab" * 32)):
            write(tmp_path / f"{name}{seed}", {"save": {"w1": 1.0}}, seed=seed, split_hash=digest)
    runs = read([tmp_path])
    labels = comparable(runs, [])[0].to_dict()
    assert labels == comparable(runs[::-1], [])[0].to_dict()
    assert len(set(labels.values())) == 4


# -- what a table comes to


def test_no_skill_rows_are_ranked_and_never_marked(tmp_path):
    write(tmp_path / "a", {"save": {"w1": 2.0}, "mean": {"w1": 1.0}, "real": {"w1": 1.5}})
    write(tmp_path / "b", {"scvi": {"w1": 3.0}}, method="scvi")
    table = table_of(tmp_path)
    assert ranks(table) == {"save": 2, "scvi": 3, "mean": 1, "real": None}
    assert {row: mark(table, row, 0) for row in table.rows} == {"save": 2, "scvi": 0, "mean": 0, "real": 0}
    assert "**" not in markdown(table, NOTHING, "s.csv")
    assert verdict(table, 0) == (
        "W1 ↓: best is save (2.00); no better than no skill, mean (1.00); worse than that: scvi (3.00); "
        "the noise floor real (1.50) is no better than no skill, so that this column can hardly tell methods apart; "
        "noise is not known (one seed and no groups)"
    )


def test_a_verdict_knows_the_direction_and_says_nothing_of_costs(tmp_path):
    names = {"task": "perturbation", "registry": "response", "info": {}}
    write(tmp_path / "a", {"save": {"pcc": 0.9}, "no_change": {"pcc": 0.8}, "ceiling": {"pcc": 0.95}}, **names)
    table = table_of(tmp_path, metrics=["pcc"], costs=True)
    expected = (
        "PCC ↑: save (0.900) is the only method; better than no skill, no_change (0.800); 0.050 short of the ceiling "
        "(0.950), 67% of the way from no skill; noise is not known (one seed and no groups)"
    )
    assert [verdict(table, n) for n in (0, 1)] == [expected, ""]


def test_a_ceiling_that_a_method_passes_is_explained_where_it_stands(tmp_path):
    names = {"task": "perturbation", "registry": "response", "info": {}}
    write(tmp_path / "a", {"save": {"pcc": 0.97, "w1": 2.0}, "ceiling": {"pcc": 0.95, "w1": 1.0}}, **names)
    table = table_of(tmp_path, metrics=["pcc", "w1"])
    assert [texts(table, n)["ceiling"] for n in (0, 1)] == ["0.950 (1) ‡", "1.00 (1)"]
    text = markdown(table, NOTHING, "s.csv")
    assert f"- ‡ save {CEILING_PASSED}" in text
    write(tmp_path / "a", {"save": {"pcc": 0.95}, "ceiling": {"pcc": 0.95}}, **names)
    assert "‡" not in markdown(table_of(tmp_path, metrics=["pcc"]), NOTHING, "s.csv")


def test_html_holds_the_entries_and_escapes_names(tmp_path):
    write(tmp_path / "a", {"save": {"w1": 2.0}, "a<b": {"w1": 1.0}})
    write(tmp_path / "b", {"scvi": {"w1": 3.0}}, method="scvi")
    (path, _) = write_table(tmp_path / "out", "t", table_of(tmp_path), NOTHING, ["html"])
    text = path.read_text()
    assert "a&lt;b" in text
    assert "a<b" not in text
    assert all(entry in text for entry in ("2.00 (1)", "1.00 (1)", "3.00 (1)"))


def test_settings_of_the_other_kind_of_perturbation_do_not_part_runs(tmp_path):
    names = {"task": "perturbation", "registry": "response"}
    for name, cells in (("save", 300), ("scvi", 100)):
        config = {"task.genes.perturbation_cells": cells, "task.level.references.a": name, "task.route": name}
        write(tmp_path / name, {name: {"pcc": 0.9}}, method=name, config=config, info={"kind": "level"}, **names)
    assert [column.label for column in table_of(tmp_path, metrics=["pcc"], strict=True).columns] == ["toy"]
