"""Download, check, prepare and cache a data set, as train.py does on first use; --info prints what is in it.

python scripts/prepare_data.py data=pbmc_ifn [data.path=<local copy>] [split=...] [--info]
python scripts/prepare_data.py my.h5ad --info     # its columns, levels, layers, and a command to begin with
python scripts/prepare_data.py data=all
Any other setting of configs/train.yaml can be overridden the same way.
"""

import argparse
import sys
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import Any

from omegaconf import OmegaConf

from scsave.components import build
from scsave.compose import compose, config_folder
from scsave.data.describe import file_summary, split_summary, summary
from scsave.data.perturbations import parse
from scsave.data.read import open_cells
from scsave.data.targets import with_targets
from scsave.errors import UserError, listed
from scsave.keys import GENE_ID
from scsave.runs.main import entry, register_resolvers

ALL, NEED_A_PATH = "data=all", {"h5ad", "perturbseq_h5ad"}


def prepare(overrides: list[str], info: bool) -> None:
    """One data set; raises UserError where it cannot be had or is not what it should be."""
    config = OmegaConf.to_container(compose(overrides), resolve=True)
    node = config["data"]
    if info and node["path"] and not (node["conditions"] or node["perturbation_key"]):
        with open_cells(Path(node["path"])) as raw:
            show(file_summary(raw, node["path"]))
        return
    cache = Path(config["paths"]["cache"])
    source = build(node, "data").fitted(cache)
    data = source.load(cache)
    print(f"{source.name}: {data.n_obs:,} cells x {data.n_vars:,} genes, ready in {cache}")
    if info:
        rows, columns = summary(data, source), with_targets(source.roles, data.obs)
        for name, more in (
            ("genes with a vector", lambda: coverage(config, data, source)),
            ("split", lambda: split_summary(build(config["split"], "split")(data, columns, config["seed"]))),
        ):
            try:
                rows |= more()
            except UserError as error:  # said, and the rest shown all the same
                rows[name] = str(error)
        show(rows)


def coverage(config: dict[str, Any], data: Any, source: Any) -> dict[str, str]:
    """How many genes, and how many perturbed genes, have a vector in the source that semantic blocks would use."""
    vectors = build(config["vectors"], "vectors").bind(data).load()
    gene_ids = list(data.var[GENE_ID]) if GENE_ID in data.var else None
    found = vectors.coverage(list(data.var_names), source.organism, gene_ids)
    ways = ", ".join(f"{way} {n:,}" for way, n in found["found_by"].items() if n)
    rows = {f"genes with a vector ({found['vectors']})": f"{found['coverage']:.1%} ({ways})"}
    if source.perturbation_kind == "genes":
        labels = data.obs[source.perturbation_key].cat.categories
        perturbed = sorted({gene for label in labels for gene in parse(label, source.control)})
        known = vectors.lookup(perturbed, source.organism)[1]
        lost = [gene for gene, has in zip(perturbed, known, strict=True) if not has]
        rows["perturbed genes with a vector"] = f"{known.sum()} of {len(known)}; without: {listed(lost, 10)}"
    return rows


def show(rows: dict[str, str]) -> None:
    """Two columns, the second wrapped."""
    first = max(map(len, rows)) + 2
    look = {"subsequent_indent": " " * first, "break_on_hyphens": False, "break_long_words": False}
    for name, text in rows.items():
        print(fill(text, get_terminal_size((140, 0)).columns, initial_indent=name.ljust(first), **look))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for train.py, or a file")
    parser.add_argument("--info", action="store_true", help="print what is in it")
    options = parser.parse_intermixed_args()
    overrides, info = options.overrides, options.info
    if files := [arg for arg in overrides if "=" not in arg]:
        overrides = ["data=h5ad", f"data.path='{files[0]}'", *(arg for arg in overrides if "=" in arg)]
    if ALL not in overrides:
        prepare(overrides, info)
        return
    rest, failed = [arg for arg in overrides if arg != ALL], []
    for name in sorted({path.stem for path in (config_folder() / "data").glob("*.yaml")} - NEED_A_PATH):
        try:
            prepare([f"data={name}", *rest], info)
        except UserError as error:
            failed.append(name)
            print(f"error: {error}", file=sys.stderr)
    if failed:
        raise UserError(f"{len(failed)} data sets could not be prepared: {', '.join(failed)}; the lines above say why")


if __name__ == "__main__":
    register_resolvers()
    entry(main)
