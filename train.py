"""python train.py task=perturbation data=norman: the one entry. `python train.py --help` lists the options."""

import hydra
from omegaconf import DictConfig

from scsave.runs.main import entry, guarded, register_resolvers

register_resolvers()


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> float | None:
    return guarded(cfg)


if __name__ == "__main__":
    entry(main)
