"""Values, keys and names that the config alone shows to be wrong: one line each, before anything is read."""

import copy
import sys

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scsave.components import build
from scsave.compose import compose
from scsave.data.conditions import Categorical, Conditions, Numeric
from scsave.flow.guidance import check_named
from scsave.runs.config import validated
from scsave.runs.main import one_line, register_resolvers
from scsave.runs.naming import override_values, run_dir
from scsave.runs.run import stored
from scsave.runs.serve import check_room
from tests.robustness.test_inputs import refused

VALUES = [
    ("seed=99999999999999999999999", "seed=99999999999999999999999: input should be less than 2147483648"),
    ("seed=-1", "seed=-1: input should be greater than or equal to 0"),
    ("split.fraction=0", "split.fraction=0: input should be greater than 0"),
    ("sampling.guidance=nan", "sampling.guidance=nan: input should be a finite number"),
    ("sampling.guidance=inf", "sampling.guidance=inf: input should be a finite number"),
    ("sampling.guidance={batch:nan}", "sampling.guidance.batch=nan: input should be a finite number"),
    ("training.lr=nan", "training.lr=nan"),
    ("training.lr=-1", "training.lr=-1"),
    ("n=0", "n=0: input should be greater than 0"),
    ("trainer.devices=0", "trainer.devices=0"),
    ("trainer.limit_steps=0", "trainer.limit_steps=0"),
    ("sampling.solver.steps=0", "solver.steps=0"),
    ("+sampling.guidence=2", "sampling.guidence: unknown key; sampling takes: guidance, solver; did you mean sampling.guidance?"),
    ("+callbacks.checkpoint_evry=2", "did you mean callbacks.checkpoint_every?"),
    ("+resumee=x", "did you mean resume?"),
    ("+training.lrr=1", "did you mean training.lr?"),
]  # fmt: skip
NULLS = [
    "seed", "mode", "n", "figures", "force", "data.name", "data.conditions", "data.min_level_cells", "data.gene_id",
    "data.organism", "data.min_genes", "data.drop_missing", "data.rare_levels", "training.lr", "training.batch_size",
    "training.mask_rate", "training.flow_lr", "backbone.width", "backbone.depth", "objective.sigma", "sampling.guidance",
    "sampling.solver.steps", "task.n_top_genes", "trainer.devices", "trainer.accelerator", "trainer.strategy",
    "callbacks.checkpoint_every", "paths.cache",
]  # fmt: skip
LATER = [  # what Lightning would say only when the data are prepared
    ("trainer.devices=999999", "trainer.devices=999999: at most"),
    ("trainer.strategy=foo", "trainer.strategy=foo: no strategy of Lightning"),
    ("trainer.strategy=ddpp", "did you mean ddp?"),
    ("trainer.options={foo:1}", "trainer.options.foo: lightning.Trainer takes no such option"),
    ("trainer.options={accumulate_grad_batch:1}", "did you mean accumulate_grad_batches?"),
]
TYPOS = [
    ("data.n_top_gene=3", "data.n_top_gene: unknown key; did you mean data.n_top_genes?"),
    ("trainning.lr=1", "did you mean training.lr?"),
    ("training.lrr=1", "did you mean training.lr?"),
    ("seeed=1", "did you mean seed?"),
    ("backbone.widht=3", "did you mean backbone.width?"),
    ("sampling.solver.step=3", "did you mean sampling.solver.steps?"),
    ("paths.output=x", "did you mean paths.outputs?"),
    ("data.condition=[a]", "did you mean data.conditions?"),
    ("task=generatoin", "did you mean generation?"),
    ("method=scvii", "did you mean scvi?"),
    ("colour=red", "colour: unknown key; `python train.py --cfg job`"),
]


@pytest.mark.parametrize(("override", "words"), VALUES, ids=[value for value, _ in VALUES])
def test_a_value_that_makes_no_sense(composed, override, words):
    split = ["split=unseen"] if override.startswith("split") else []
    refused(lambda: validated(composed("data=simulated", *split, override)), words)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The config of a run, composed once."""
    register_resolvers()
    return compose(["data=simulated", f"paths.outputs={tmp_path_factory.mktemp('outputs')}"])


@pytest.mark.parametrize("key", NULLS)
def test_null_where_it_means_nothing(whole, key):
    cfg = copy.deepcopy(whole)
    OmegaConf.update(cfg, key, None)
    refused(lambda: validated(cfg), f"{key}=null: input should be")


@pytest.mark.parametrize(("override", "words"), LATER, ids=[value for value, _ in LATER])
def test_what_lightning_would_refuse_later(composed, override, words):
    config = validated(composed("data=simulated", override))
    refused(lambda: build(config.trainer, "trainer").check(), words)


def test_two_processes_can_be_tried_anywhere(composed):
    build(validated(composed("data=simulated", "trainer.devices=2", "trainer.strategy=ddp")).trainer, "trainer").check()


@pytest.mark.parametrize(("argument", "words"), TYPOS, ids=[argument for argument, _ in TYPOS])
def test_a_typo_is_answered_with_the_nearest_key(composed, monkeypatch, argument, words):
    monkeypatch.setattr(sys, "argv", ["train.py", "data=simulated", argument])
    with pytest.raises((HydraException, OmegaConfBaseException)) as said:
        composed("data=simulated", argument)
    line = one_line(said.value)
    assert words in line
    assert "\n" not in line


def test_keys_of_the_options_that_were_picked_are_known(composed, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "training=joint", "training.stepps=3", "-m", "seed=1,2"])
    with pytest.raises((HydraException, OmegaConfBaseException)) as said:
        composed("training=joint", "training.stepps=3")
    assert "did you mean training.steps?" in one_line(said.value)


@pytest.mark.parametrize("key", ["resume", "out"])
def test_a_file_where_a_folder_is_wanted(composed, tmp_path, key):
    (tmp_path / "file").write_text("x")
    (tmp_path / "run").mkdir()
    more = ["mode=generate", f"ckpt={tmp_path}/run"] if key == "out" else []
    refused(lambda: run_dir(composed(*more, f"{key}={tmp_path}/file")), f"{key}={tmp_path}/file: a file; give")


def test_settings_of_a_new_file_are_read_as_those_of_a_training(monkeypatch):
    """By Hydra's grammar, not by YAML 1.1, in which NO is false."""
    given = [
        "mode=predict",
        "data.control=NO",
        "data.batch_key=0123",
        "data.path='a b.h5ad'",
        "data.levels={x: {off: on}}",
    ]
    monkeypatch.setattr("scsave.runs.naming.overrides", lambda: given)
    expected = {"control": "NO", "batch_key": "0123", "path": "a b.h5ad", "levels": {"x": {"off": "on"}}}
    assert override_values("data") == expected


def test_guidance_names_conditions():
    known = Conditions((Categorical("batch", ("a", "b")), Numeric("age", 0.0, 1.0)))
    refused(
        lambda: check_named(known, {"bach": 2.0}), "sampling.guidance names bach, but the conditions are: batch, age"
    )
    check_named(known, {"age": 2.0})
    check_named(known, 3.0)


def test_more_cells_than_any_memory_holds():
    refused(lambda: check_room(10**12, 2000), "n=1000000000000: so many cells take at least", "in parts")
    check_room(500, 2000)


STORED = [
    ("", "it holds no keys"),
    ("- a\n- b\n", "it holds no keys"),
    ("text", "missing; the config is not whole"),
    ("a: [1, 2\n", "no config that a run wrote"),
    ("a: ${nothing.of.that.name}\n", "missing"),
    ("seed: 0\n", "missing; the config is not whole"),
    ("seed: zero\nmode: train\n", "seed"),
]


@pytest.mark.parametrize(("text", "words"), STORED)
@pytest.mark.parametrize("key", ["resume", "ckpt"])
def test_a_config_of_a_run_folder_that_is_none(composed, tmp_path, monkeypatch, text, words, key):
    (tmp_path / "config.yaml").write_text(text)
    call = composed("data=simulated", f"{key}={tmp_path}", *(["mode=evaluate"] if key == "ckpt" else []))
    line = refused(lambda: validated(stored(tmp_path, call)))
    assert words in line or "nothing.of.that.name" in line
    assert len(line) < 1000  # where it lies, twice, but not what it holds
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00")
    refused(lambda: stored(tmp_path, call), "no config that a run wrote")
