"""The Hydra config composed from Python: the defaults of `configs/`, so that no class repeats them."""

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


def config_folder() -> Path:
    """`configs/` of the checkout, or the copy that an installed package carries."""
    package = Path(__file__).resolve().parent
    places = [package.parents[1] / "configs", package / "configs"]
    return next((place for place in places if (place / "train.yaml").is_file()), places[-1])


def named_after(path: str | None, otherwise: str) -> str:
    """What a data set that is anyone's file is called, in folders and tables: as the file is, wherever it lies."""
    name = re.sub(r"[^\w+-]+", "_", Path(path or "").stem).strip("_")
    return name or otherwise


def compose(overrides: list[str]) -> DictConfig:
    """`configs/train.yaml` under `overrides`, as `python train.py <overrides>` has it. Hydra's own errors pass through."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    OmegaConf.register_new_resolver("named_after", named_after, replace=True)
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(config_folder()), version_base="1.3"):
            return hydra_compose("train", overrides=overrides)
    finally:
        GlobalHydra.instance().hydra = before


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain types, resolved."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
