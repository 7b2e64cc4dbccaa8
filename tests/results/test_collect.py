import math

import pytest
from scsave.results.collect import collect, read_result

from scsave.errors import UserError
from scsave.metrics.registry import REGISTRY
from scsave.results import collect as module
from scsave.results import record
from scsave.results.paper import fits, matching, reported

from .written import write


def test_a_file_becomes_typed_values(tmp_path):
    metrics = {"scsave": {"w1": 2, "c2st_auc": None}, "scsave_generate": {"w1": 3}, "real": {"w1": 1}}
    path = write(tmp_path / "run", metrics, protocols={"cfgen": {"scsave": {"w1": 9}}}, experiment_name="paper/toy")
    found = read_result(path)
    assert (found.path, found.folder) == (path, path.parent)
    assert (found.task, found.data, found.method, found.seed) == ("generation", "toy", "scsave", 0)
    assert found.experiment_name == "paper/toy"
    assert found.value("scsave", "w1") == 2.0
    assert math.isnan(found.value("scsave", "c2st_auc"))
    assert math.isnan(found.value("scvi", "w1"))
    assert found.value("scsave", "w1", protocol="cfgen") == 9.0
    assert list(found.protocols) == ["neutral", "cfgen"]
    assert found.own_rows == ["scsave", "scsave_generate"]
    assert found.reference_rows == ["real"]


def test_filters_take_names_lists_and_wildcards(tmp_path):
    write(tmp_path / "a", seed=0, experiment_name="paper/toy")
    write(tmp_path / "b", seed=1, data="other")
    write(tmp_path / "c", seed=2, config={"experiment_name": "ablation/toy"})

    def seeds(**kwargs):
        return [result.seed for result in collect([tmp_path], **kwargs)]

    assert seeds() == [0, 1, 2]
    assert seeds(data="toy") == [0, 2]
    assert seeds(data=["toy", "other"]) == [0, 1, 2]
    assert seeds(experiment="paper/*") == [0]
    assert seeds(experiment="*") == [0, 2]
    assert seeds(seed=0) == [0]
    assert seeds(seed=[1, 2], data="o*") == [1]
    assert seeds(method="scvi") == []
    assert [r.seed for r in collect([tmp_path / "b", tmp_path, tmp_path / "b" / "results.json"])] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"schema": 1', "can't be read"),
        ("[]", "has schema list"),
        ('{"schema": 7}', "has schema 7, this version reads 1"),
        ('{"schema": 1, "task": "generation"}', "lacks data, method"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, text, told):
    write(tmp_path / "good")
    bad = tmp_path / "bad" / "results.json"
    bad.parent.mkdir()
    bad.write_text(text)
    with pytest.raises(UserError, match=told) as caught:
        collect([tmp_path])
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)
    lines = []
    assert len(collect([tmp_path], damaged=lines)) == 1
    assert len(lines) == 1


def test_a_value_of_the_wrong_kind_is_named(tmp_path):
    path = write(tmp_path, {"scsave": {"w1": "two"}})
    with pytest.raises(UserError, match=r"a value is not what docs/results.md says"):
        read_result(path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        collect([tmp_path / "nothing"])


def test_reader_and_writer_agree_on_schema_and_name():
    assert (module.SCHEMA, module.FILE) == (record.SCHEMA_VERSION, record.FILE)


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
    assert (cd8.value, cd8.row) == (0.98, "scsave")


def test_rows_of_another_setting_need_their_experiment():
    (block,) = [one for one in reported() if one.method == "SAVE K=1600" and one.metric == "w1"]
    assert not fits(block, None, {"blocking": {"block_size": 1600}})
    assert fits(block, "paper/block_size", {"blocking": {"block_size": 1600}})
    assert not fits(block, "paper/block_size", {"blocking": {"block_size": 3200}})
    assert not fits(block, "paper/block_size", {})
    (plain,) = [one for one in reported() if (one.data, one.method, one.metric) == ("heart", "SAVE", "w1")]
    assert fits(plain, None, {})
