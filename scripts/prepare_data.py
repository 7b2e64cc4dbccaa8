"""Download, check, prepare and cache a data set, as train.py does on first use; --info prints what is in it.

python scripts/prepare_data.py data=pbmc_ifn [data.path=<local copy>] [split=...] [--info]
python scripts/prepare_data.py data=all
Any other setting of configs/train.yaml can be overridden the same way.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from scsave.components import build
from scsave.errors import UserError
from scsave.runs.main import entry, register_resolvers

if TYPE_CHECKING:
    from anndata import AnnData

    from scsave.data.source import DataSource

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
NEED_A_PATH = {"h5ad", "perturbseq_h5ad"}
ALL = "data=all"


def prepare(cfg: DictConfig, info: bool) -> None:
    """One data set; raises UserError where it cannot be had or is not what it should be."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(cfg, resolve=True)
    cache = Path(plain["paths"]["cache"])
    source = build(plain["data"], "data").fitted(cache)
    data = source.load(cache)
    print(f"{source.name}: {data.n_obs:,} cells x {data.n_vars:,} genes, ready in {plain['paths']['cache']}")
    if info:
        from scsave.data.describe import split_summary, summary

        rows = summary(data, source)
        for name, more in (
            ("genes with a vector", lambda: coverage(plain, data, source)),
            ("split", lambda: split_summary(build(plain["split"], "split")(data, source, plain["seed"]))),
        ):
            try:
                rows |= more()
            except UserError as error:  # said, and the rest shown all the same
                rows[name] = str(error)
        show(rows)


def coverage(plain: dict, data: "AnnData", source: "DataSource") -> dict[str, str]:
    """How many genes, and how many perturbed genes, have a vector in the source that semantic blocks would use."""
    from scsave.data.perturbations import parse
    from scsave.genes.vectors import Packaged
    from scsave.keys import GENE_ID

    vectors = build(plain["vectors"], "vectors") if plain.get("vectors") else Packaged()
    gene_ids = list(data.var[GENE_ID]) if GENE_ID in data.var else None
    found = vectors.coverage(list(data.var_names), source.organism, gene_ids)
    ways = ", ".join(f"{way} {n:,}" for way, n in found["found_by"].items() if n)
    rows = {f"genes with a vector ({found['vectors']})": f"{found['coverage']:.1%} ({ways})"}
    if source.perturbation_kind == "genes":
        levels = data.obs[source.perturbation_key].cat.categories
        perturbed = sorted({gene for level in levels for gene in parse(level, source.control)})
        known = vectors.lookup(perturbed, source.organism)[1]
        lost = [gene for gene, has in zip(perturbed, known, strict=True) if not has]
        rows["perturbed genes with a vector"] = f"{known.sum()} of {len(known)}" + (
            f"; without: {', '.join(lost[:10])}" if lost else ""
        )
    return rows


def show(rows: dict[str, str]) -> None:
    """Two columns, the second wrapped."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, text)
    Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False).print(table)


def main() -> None:
    overrides = [arg for arg in sys.argv[1:] if arg not in ("--info", "info=true")]
    if "-h" in overrides or "--help" in overrides:
        print(__doc__)
        return
    info = len(overrides) < len(sys.argv) - 1
    if ALL not in overrides:
        prepare(composed(overrides), info)
        return
    rest, failed = [arg for arg in overrides if arg != ALL], []
    for name in sorted({path.stem for path in (CONFIGS / "data").glob("*.yaml")} - NEED_A_PATH):
        try:
            prepare(composed([f"data={name}", *rest]), info)
        except UserError as error:
            failed.append(name)
            print(f"error: {error}", file=sys.stderr)
    if failed:
        raise UserError(f"{len(failed)} data sets could not be prepared: {', '.join(failed)}; the lines above say why")


def composed(overrides: list[str]) -> DictConfig:
    """The config of train.py with `overrides`."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=overrides)


if __name__ == "__main__":
    register_resolvers()
    entry(main)
