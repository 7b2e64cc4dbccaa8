"""Download, check, prepare and cache a data set, as train.py does on first use; --info prints what is in it.

python scripts/prepare_data.py data=pbmc_ifn [data.path=<local copy>] [split=...] [--info]
python scripts/prepare_data.py my.h5ad --info     # its columns, levels, layers, and a command to begin with
python scripts/prepare_data.py data=all
Any other setting of configs/train.yaml can be overridden the same way.
"""

import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from scsave.components import build
from scsave.compose import compose, config_folder
from scsave.errors import UserError
from scsave.runs.main import entry, register_resolvers

ALL, NEED_A_PATH = "data=all", {"h5ad", "perturbseq_h5ad"}


def prepare(overrides: list[str], info: bool) -> None:
    """One data set; raises UserError where it cannot be had or is not what it should be."""
    config = OmegaConf.to_container(compose(overrides), resolve=True)
    node = config["data"]
    if info and node["path"] and not (node["conditions"] or node["perturbation_key"]):
        from scsave.data.describe import file_summary
        from scsave.data.read import open_cells

        with open_cells(Path(node["path"])) as raw:
            return show(file_summary(raw, node["path"]))
    cache = Path(config["paths"]["cache"])
    source = build(node, "data").fitted(cache)
    data = source.load(cache)
    print(f"{source.name}: {data.n_obs:,} cells x {data.n_vars:,} genes, ready in {cache}")
    if info:
        from scsave.data.describe import split_summary, summary
        from scsave.data.targets import with_targets

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
    return None


def coverage(config: dict[str, Any], data: Any, source: Any) -> dict[str, str]:
    """How many genes, and how many perturbed genes, have a vector in the source that semantic blocks would use."""
    from scsave.data.perturbations import parse
    from scsave.keys import GENE_ID

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
        without = f"; without: {', '.join(lost[:10])}" if lost else ""
        rows["perturbed genes with a vector"] = f"{known.sum()} of {len(known)}{without}"
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
