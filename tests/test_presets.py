"""Experiments and sweeps: every file composes and fits the schema, and paper presets have what the paper fixes."""

import pytest
from omegaconf import OmegaConf

from scsave.runs.config import RunConfig, validated
from scsave.runs.reproduce import expand, experiments

from .conftest import ROOT

SCORED = ("generation", "batch_correction", "perturbation")
PAPER = experiments(ROOT / "configs", ["paper"])
GENERATION = [name for name in PAPER if name not in ("paper/correction", "paper/pbmc_ifn")]


def file_names(folder: str) -> list[str]:
    root = ROOT / "configs" / folder
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


@pytest.fixture
def preset(composed):
    """`preset("paper/heart")`: the checked config of an experiment."""
    return lambda name: validated(composed(f"experiment={name}"))


@pytest.mark.parametrize("name", file_names("experiment"))
def test_every_experiment_file_fits_the_schema(name, composed):
    """The files that others build on too. `transfer` is defined only where the decoder is given the perturbation."""
    from scsave.method.respond import ROUTES

    cfg = validated(composed(f"experiment={name}"))
    assert cfg.task["name"] in SCORED
    routes = [route for route in (cfg.task.get("route"), *(cfg.task.get("routes") or [])) if route]
    assert set(routes) <= set(ROUTES)
    assert "transfer" not in routes or cfg.data["perturbation_key"] in (cfg.backbone["told"] or [])


@pytest.mark.parametrize("name", file_names("sweep"))
def test_every_point_of_a_sweep_names_keys_that_exist(name, composed):
    """Its grid's keys stand in the config, so that Hydra takes them as overrides."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", [f"sweep={name}"], return_hydra_config=True)
    base = composed(f"sweep={name}")
    assert validated(base).sweep_metric
    assert cfg.hydra.sweeper.params
    for key in cfg.hydra.sweeper.params:
        group, _, leaf = key.rpartition(".")
        assert leaf in OmegaConf.select(base, group) if group else key in RunConfig.model_fields


@pytest.mark.parametrize("name", PAPER)
def test_a_paper_preset_has_what_the_paper_fixes(name, preset):
    """method.md, the lines of the paper: blocks, autoencoder, likelihood, flow, guidance, masks, loss and optimiser."""
    cfg = preset(name)
    # 1. text vectors of text-embedding-ada-002 (GenePT), blocks of equal size; `gene` is table 7's K = 1
    assert cfg.vectors["_target_"] == "scsave.genes.genept.GenePT"
    assert cfg.vectors["member"] == "ada"
    if name != "paper/block_gene":
        assert cfg.blocking["_target_"] == "scsave.blocking.knowledge.Semantic"
        assert cfg.blocking["vectors"] == cfg.vectors
        assert cfg.blocking["block_size"] in ("auto", 3200)
        assert cfg.blocking["n_blocks"] is None
    # 2. attention between blocks; conditions by adaptive LayerNorm alone; the mean of a Gaussian on scaled values
    attention = "MLPBackbone" if name == "paper/without_attention" else "AttentionBackbone"
    assert cfg.backbone["_target_"] == f"scsave.models.backbone.{attention}"
    assert cfg.backbone["velocity"] == "attention"
    assert cfg.backbone["level_shift"] is False
    assert cfg.likelihood == {"_target_": "scsave.models.likelihoods.Gaussian", "draw": "mean"}
    # 3. straight paths from independent Gaussian noise; w = 1
    assert cfg.objective == {"_target_": "scsave.flow.paths.CFM", "sigma": 0.0}
    assert cfg.sampling.guidance == 1.0
    # 4. each condition is masked by itself with p = 0.6
    assert cfg.training["mask_rate"] == 0.6
    assert cfg.training["joint_mask_rate"] == 0.0
    assert cfg.sampling.unseen == "told"
    # 5. the sum of reconstruction, KL and flow matching; AdamW
    assert cfg.training["_target_"] == "scsave.training.plan.Joint"
    assert cfg.training["kl_weight"] == 1.0
    assert (cfg.training["lr"], cfg.training["weight_decay"]) == (1e-4, 2.5e-5)
    # what is ours is off
    assert cfg.training["thinning"] == 1.0
    assert cfg.training["calibrate_dispersion"] is False
    assert cfg.training["input_dropout"] == 0.0
    # our guess, written down once for all
    steps = 1 if name == "paper/block_gene" else 50
    assert (cfg.sampling.solver["method"], cfg.sampling.solver["steps"]) == ("euler", steps)


@pytest.mark.parametrize("name", GENERATION)
def test_generation_of_the_paper_tells_the_decoder_all_conditions(name, preset):
    cfg = preset(name)
    assert cfg.task["name"] == "generation"
    assert cfg.task["protocols"] == "all"
    assert cfg.backbone["told"] == cfg.data["conditions"]
    assert cfg.training["decoder_mask_rate"] == 0.0  # the mask is on the flow


@pytest.mark.parametrize("data", ["lung_atlas", "heart", "pbmc"])
def test_correction_of_the_paper_tells_the_decoder_the_batch_masked(data, composed):
    cfg = validated(composed("experiment=paper/correction", f"data={data}"))
    assert cfg.task["name"] == "batch_correction"
    assert cfg.backbone["told"] == [cfg.data["batch_key"]]
    assert cfg.training["decoder_mask_rate"] == 0.6


def test_the_response_of_the_paper_is_transferred_by_a_decoder_told_treatment_and_batch(preset):
    cfg = preset("paper/pbmc_ifn")
    assert cfg.task["name"] == "perturbation"
    assert cfg.task["route"] == "transfer"
    assert cfg.backbone["told"] == ["condition", "donor"]
    assert cfg.data["cell_type_key"] not in cfg.backbone["told"]
    assert cfg.training["decoder_mask_rate"] == 0.6


@pytest.mark.parametrize(
    ("name", "conditions"),
    [
        ("pbmc3k", 1), ("dentate_gyrus", 1), ("tabula_muris", 1), ("lung_atlas", 2), ("heart", 2), ("pbmc", 2),
        ("lung_cancer_seen", 5), ("lung_cancer_unseen", 5),
    ],
)  # fmt: skip
def test_the_tables_of_the_paper_have_their_number_of_conditions(name, conditions, preset):
    """Table 1: one condition; table 2: batch and cell type; table 3: five, of combinations seen or not."""
    cfg = preset(f"paper/{name}")
    assert len(cfg.data["conditions"]) == conditions
    assert (cfg.split["_target_"].rpartition(".")[2] == "Unseen") == (name == "lung_cancer_unseen")


def test_block_sizes_of_the_paper_stand_on_the_genes_of_the_heart():
    """Table 7: 19,112 genes, so that K = 3200 gives six blocks."""
    jobs = expand(ROOT / "configs", ["paper/block_size"], [0], [])
    assert [job.cfg.blocking.block_size for job in jobs] == [600, 1600, 3200, 5600]
    assert {job.cfg.data.n_top_genes for job in jobs} == {19112}
    assert -(-19112 // 3200) == 6
