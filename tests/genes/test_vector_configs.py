from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from scsave.components import build
from scsave.errors import UserError
from scsave.runs.main import register_resolvers

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
VECTORS = sorted(path.stem for path in (CONFIGS / "vectors").glob("*.yaml"))
SCHEMES = sorted(path.stem for path in (CONFIGS / "blocking").glob("*.yaml"))


def composed(*overrides: str) -> dict:
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True)


@pytest.mark.parametrize("vectors", VECTORS)
def test_every_source_of_vectors_serves_semantic_blocks(vectors):
    config = composed("blocking=semantic", f"vectors={vectors}")
    scheme = build(config["blocking"], "blocking")
    assert type(scheme.vectors) is type(build(config["vectors"], "vectors"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_named_after_its_option(scheme):
    assert build(composed(f"blocking={scheme}")["blocking"], "blocking").name == scheme


@pytest.mark.parametrize("text", ["packaged", "ncbi", "file"])
def test_every_text_serves_the_encoders(text, tmp_path):
    path = [f"vectors.text.path={tmp_path / 'absent.json'}"] if text == "file" else []
    source = build(composed("vectors=sentence_transformer", f"vectors/text={text}", *path)["vectors"], "vectors")
    if text == "file":
        with pytest.raises(UserError, match=r"absent\.json"):
            source.load()


def test_a_mistake_names_the_key():
    config = composed("blocking=semantic", "blocking.min_coverage=2")
    with pytest.raises(UserError, match=r"blocking\.min_coverage=2"):
        build(config["blocking"], "blocking")
    config = composed("blocking=pathway", "+blocking.gene_sets.minimum=2")
    with pytest.raises(UserError, match=r"blocking\.gene_sets\.minimum: unknown key"):
        build(config["blocking"], "blocking")
