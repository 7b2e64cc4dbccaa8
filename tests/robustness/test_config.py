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
from scsave.data.targets import asked_targets
from scsave.errors import UserError
from scsave.flow.guidance import check_named
from scsave.genes.space import TextSpace
from scsave.runs.config import validated
from scsave.runs.main import one_line, register_resolvers
from scsave.runs.naming import override_values, run_dir
from scsave.runs.run import run, stored
from scsave.runs.serve import check_keys, check_room
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
    ("seed=true", "seed=True: input should be a valid integer"),
    ("figures=no", "figures='no': input should be a valid boolean; write true or false"),
    ("data.drop_missing=no", "data.drop_missing='no': input should be a valid boolean; write true or false"),
    ("data.drop_missing=0", "data.drop_missing=0: input should be a valid boolean"),
    ("task.n_components=true", "task.n_components=True: input should be a valid integer"),
    ("training.batch_size='64'", "training.batch_size='64': input should be a valid integer"),
    ("training.batch_size=64.0", "training.batch_size=64.0: input should be a valid integer"),
    ("training.lr='1e-3'", "training.lr='1e-3': input should be a valid number"),
    ("training.lr=inf", "training.lr=inf: input should be a finite number"),
    (
        "+sampling.guidence=2",
        "sampling.guidence: unknown key; sampling takes: guidance, solver, unseen; did you mean sampling.guidance?",
    ),
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


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("split.val=0.5,split.test=0.5", "split.val=0.5 and split.test=0.5 leave no cell to train on"),
        ("split=file", "split=file needs split.path"),
        ("split=file,split.path=/nowhere.csv", "split.path=/nowhere.csv: no such file"),
        ("split=leave_out", "split=leave_out needs split.column"),
        ("split=unseen", "split=unseen needs split.hold_out"),
        ("task=perturbation,task.route=sideways", "task.route=sideways: method=save has between"),
        ("data.name=../../x", "data.name='../../x': files are called by it"),
        ("data.name=''", "data.name='': files are called by it"),
    ],
)
def test_what_the_config_decides_is_refused_before_the_cells_are_read(composed, monkeypatch, override, words, tmp_path):
    def read(*_):
        raise AssertionError("cells were read")

    monkeypatch.setattr("scsave.data.source.DataSource.load", read)
    refused(lambda: run(composed("data=simulated", *override.split(",")), tmp_path / "run"), words)


@pytest.mark.parametrize("group", ["task", "data", "method"])
@pytest.mark.parametrize("name", ["../../x", "a/b", "a\\\\b", "", ".hidden"])
def test_no_name_leads_out_of_the_folder_of_runs(composed, group, name):
    refused(lambda: run_dir(composed("data=simulated", f"{group}.name='{name}'")), f"{group}.name=")


@pytest.mark.parametrize("value", ["[a,b]", "5", "{a:b}"])
@pytest.mark.parametrize("key", ["resume", "ckpt", "out", "data.path"])
def test_a_place_that_is_no_text(composed, key, value):
    with pytest.raises((UserError, OmegaConfBaseException)) as said:
        run_dir(composed("data=h5ad", f"{key}={value}"))
    assert f"{key}=" in one_line(said.value)
    assert "in double quotes where its name is a number" in one_line(said.value)


@pytest.mark.parametrize(
    ("mode", "given", "words"),
    [
        ("train", "target=x", "target: mode=train does not use it; mode=predict does"),
        ("train", "n=7", "n: mode=train does not use it; mode=generate or predict does"),
        ("train", "condition={a: b}", "condition: mode=train does not use it; mode=generate does"),
        ("evaluate", "data.path=other.h5ad", "data.path: mode=evaluate does not use it; it takes analysis"),
        ("evaluate", "seed=3", "seed: mode=evaluate does not use it"),
        ("resume", "training.lr=1", "training.lr: resume does not use it"),
        ("generate", "blocking=gene", "blocking: mode=generate does not use it"),
        (
            "train",
            "likelihood=[nb,zinb]",
            "likelihood=[nb,zinb]: one option of likelihood at a time; side by side: -m lik",
        ),
    ],
)
def test_a_key_that_would_be_ignored(mode, given, words):
    refused(lambda: check_keys(mode, ["seed=1"] * (mode == "train") + [given]), words)


def test_keys_that_are_used():
    check_keys("train", ["callbacks=[default,lr_monitor]", "+experiment=[a,b]", "data.conditions=[a]", "seed=1"])
    check_keys("evaluate", ["mode=evaluate", "ckpt=x", "task=perturbation", "sampling.guidance=2", "paths.cache=c"])
    check_keys("resume", ["resume=x", "figures=false", "logger=wandb", "paths.cache=c"])
    check_keys("predict", ["vectors=packaged", "vectors.path=x", "n=3", "seed=1"])


def test_a_trained_model_is_not_ignored_by_a_training(composed, tmp_path):
    refused(lambda: run_dir(composed(f"ckpt={tmp_path}")), f"ckpt={tmp_path}: mode=train trains anew")


@pytest.mark.parametrize("asked", [[], {}])
def test_no_target_at_all(asked):
    refused(lambda: asked_targets(["a"], asked, "drug", []), "name what is predicted, or null for all")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"missing": "zero"}, "missing=zero use=True; missing is error or mean"),
        ({"use_text": "no"}, "use=no; missing is error or mean, use is true or false"),
        ({"use_text": 0}, "use=0; missing"),
    ],
)
def test_what_is_known_of_a_perturbed_gene_is_said_in_words_that_mean_something(options, words):
    refused(lambda: TextSpace(vectors=None, size=3, **options), words)
    TextSpace(vectors=None, size=3, missing="mean", use_text=False)


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
    ("seed: ${oc.env:HOME}\n", "it asks for ${oc.env:HOME}, and a run writes values"),
    ("a: [{b: '${oc.decode:1}'}]\n", "it asks for ${oc.decode:1}"),
    ("seed: zero\nmode: train\n", "seed"),
]


def test_a_config_of_a_run_folder_makes_no_folders(composed, tmp_path):
    """`study_storage` is a resolver of ours that makes the folder it is given."""
    (tmp_path / "config.yaml").write_text(f"seed: ${{study_storage:{tmp_path}/made}}\n")
    refused(lambda: stored(tmp_path, composed(f"resume={tmp_path}")), "it asks for ${study_storage:")
    assert not (tmp_path / "made").exists()


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
