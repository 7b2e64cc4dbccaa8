import math

import pytest

from scsave.errors import UserError
from scsave.metrics.registry import REGISTRY
from scsave.results import frame as module
from scsave.results.frame import owns, read, tidy
from scsave.results.paper import fits, matching, reported
from scsave.runs import record

from .written import write


def test_a_file_becomes_typed_values(tmp_path):
    metrics = {"save": {"w1": 2, "c2st_auc": None}, "save_generate": {"w1": 3}, "real": {"w1": 1}}
    path = write(tmp_path / "run", metrics, protocols={"cfgen": {"save": {"w1": 9}}}, experiment_name="paper/toy")
    runs = read([path])
    (found,) = runs.itertuples()
    assert (found.Index, found.path) == (str(path), str(path))
    assert (found.task, found.data, found.method, found.seed) == ("generation", "toy", "save", 0)
    assert found.experiment == "paper/toy"
    assert runs["config.sampling.guidance"].iloc[0] == runs["config.method.sampling.guidance"].iloc[0] == 1
    assert "config.data.path" not in runs
    lines = tidy(runs).set_index(["protocol", "row", "metric"])
    assert lines.loc[("neutral", "save", "w1"), "value"] == 2.0
    assert math.isnan(lines.loc[("neutral", "save", "c2st_auc"), "value"])
    assert ("neutral", "scvi", "w1") not in lines.index
    assert lines.loc[("cfgen", "save", "w1"), "value"] == 9.0
    assert list(found.scores) == ["neutral", "cfgen"]
    assert [row for row in found.scores["neutral"] if owns(found.method, row)] == ["save", "save_generate"]
    assert set(lines.xs("real", level="row")["own"]) == {False}
    assert set(lines["seed"]) == {0}
    assert set(lines["config.split.test"]) == {0.2}


def test_scores_are_found_at_any_depth_and_folds_are_no_runs(tmp_path):
    scores = tmp_path / "generation" / "toy" / "save" / "0123456789" / "scores" / "generation-abc"
    path = write(scores)
    write(scores / "folds" / "B")
    assert list(read([tmp_path])["path"]) == [str(path)]


def test_a_run_that_several_experiments_asked_for_is_one_of_each(tmp_path):
    write(tmp_path / "a", experiment_name="ablation/blocks", also_for=["ablation/solver"])
    write(tmp_path / "b", also_for=["ablation/solver"])
    assert list(read([tmp_path], experiment="ablation/blocks")["experiment"]) == ["ablation/blocks"]
    assert list(read([tmp_path], experiment="ablation/solver")["experiment"]) == ["ablation/solver"] * 2
    assert list(read([tmp_path])["experiment"]) == ["ablation/blocks", None]


def test_filters_take_names_lists_and_wildcards(tmp_path):
    write(tmp_path / "a", seed=0, experiment_name="paper/toy")
    write(tmp_path / "b", seed=1, data="other")
    write(tmp_path / "c", seed=2, config={"experiment_name": "ablation/toy"})

    def seeds(**kwargs):
        return list(read([tmp_path], **kwargs)["seed"])

    assert seeds() == [0, 1, 2]
    assert seeds(data="toy") == [0, 2]
    assert seeds(data=["toy", "other"]) == [0, 1, 2]
    assert seeds(experiment="paper/*") == [0]
    assert seeds(experiment="*") == [0, 2]
    assert seeds(seed=0) == [0]
    assert seeds(seed=[1, 2], data="o*") == [1]
    assert seeds(method="scvi") == []
    assert list(read([tmp_path / "b", tmp_path, tmp_path / "b" / "results.json"])["seed"]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"schema": 1', "can't be read"),
        ("[]", "has schema list"),
        ('{"schema": 7}', "has schema 7, this version reads 1"),
        ('{"schema": 1, "task": "generation"}', "lacks registry, data, method"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, text, told):
    write(tmp_path / "good")
    bad = tmp_path / "bad" / "results.json"
    bad.parent.mkdir()
    bad.write_text(text)
    with pytest.raises(UserError, match=told) as caught:
        read([tmp_path])
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)
    lines = []
    assert len(read([tmp_path], damaged=lines)) == 1
    assert len(lines) == 1


def test_a_value_of_the_wrong_kind_is_named(tmp_path):
    path = write(tmp_path, {"save": {"w1": "two"}})
    with pytest.raises(UserError, match=r"a value is not what docs/results.md says"):
        read([path])


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read([tmp_path / "nothing"])


def test_reader_and_writer_agree_on_schema():
    assert module.SCHEMA == record.SCHEMA_VERSION


def test_every_number_of_the_paper_is_there_and_has_its_place():
    numbers = reported()
    assert len(numbers) == 58
    assert {one.table for one in numbers} == set(range(1, 8))
    for one in numbers:
        registry = "response" if one.task == "perturbation" else one.task
        assert one.metric == "train_minutes" or f"{registry}/{one.metric}" in REGISTRY
    heart = matching(task="generation", data="heart", split="random", metric="w1")
    found = {one.method: one.value for one in heart}
    assert found["SAVE"] == 8.30
    assert found["CFGen"] == 12.57
    (cd8,) = matching(task="perturbation", data="pbmc_ifn", split="leave_out", group="CD8 T cells")
    assert (cd8.value, cd8.row) == (0.98, "save")


def test_rows_of_another_setting_need_their_experiment():
    (block,) = [one for one in reported() if one.method == "SAVE K=1600" and one.metric == "w1"]
    assert not fits(block, None, {"blocking": {"block_size": 1600}})
    assert fits(block, "paper/block_size", {"blocking": {"block_size": 1600}})
    assert not fits(block, "paper/block_size", {"blocking": {"block_size": 3200}})
    assert not fits(block, "paper/block_size", {})
    (plain,) = [one for one in reported() if (one.data, one.method, one.metric) == ("heart", "SAVE", "w1")]
    assert fits(plain, None, {})


def test_guidance_weights_of_columns_are_one_setting(tmp_path):
    write(tmp_path / "a", config={"sampling.guidance": {"type": 1.5, "batch": 1.0}})
    assert read([tmp_path])["config.method.sampling.guidance"].tolist() == ["type:1.5+batch:1"]
