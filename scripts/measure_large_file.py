"""Peak memory of preparing a file that does not fit: 300,000 x 5,000 counts, 10% not zero.

python scripts/measure_large_file.py [--cells 300000] [--genes 5000] [--density 0.1] [--folder data/cache/large]

The file is written and read by rows; each step runs in its own process, whose peak resident memory is
printed. The files are removed at the end.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

ROWS = 4096


def write(path: Path, cells: int, genes: int, density: float) -> None:
    """An h5ad file in the layout of anndata, never with more than ROWS cells in memory."""
    import anndata
    import h5py

    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.full(genes, 0.5)) * genes * density
    detected = np.clip(share, 0.0005, 0.95)
    detected *= density / detected.mean()
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        data = group.create_dataset("data", (0,), maxshape=(None,), dtype=np.float32, chunks=(1 << 18,))
        indices = group.create_dataset("indices", (0,), maxshape=(None,), dtype=np.int32, chunks=(1 << 18,))
        indptr = [np.zeros(1, dtype=np.int64)]
        for start in range(0, cells, ROWS):
            rows = min(ROWS, cells - start)
            part = sp.csr_matrix(rng.random((rows, genes), dtype=np.float32) < detected)
            values = 1 + rng.poisson(0.8, size=part.nnz)
            stop = data.shape[0] + part.nnz
            for store, new in ((data, values), (indices, part.indices)):
                store.resize((stop,))
                store[stop - part.nnz :] = new
            indptr.append(indptr[-1][-1] + part.indptr[1:].astype(np.int64))
        group["indptr"] = np.concatenate(indptr)
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (cells, genes)})
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        kinds = pd.Categorical.from_codes(rng.integers(12, size=cells), [f"type_{i}" for i in range(12)])
        batches = pd.Categorical.from_codes(rng.integers(5, size=cells), [f"batch_{i}" for i in range(5)])
        names = pd.Index([f"cell_{i}" for i in range(cells)])
        anndata.io.write_elem(file, "obs", pd.DataFrame({"cell_type": kinds, "batch": batches}, index=names))
        anndata.io.write_elem(file, "var", pd.DataFrame(index=[f"G{g}" for g in range(genes)]))


def source(path: Path, **changes):
    from scsave.data.h5ad import H5AD

    return H5AD(name="large", path=str(path), conditions=["cell_type", "batch"], min_genes=1, **changes)


def prepare(path: Path, folder: Path, **changes) -> str:
    """What a run does before training: prepare, load, split, choose 2,000 genes, take a minibatch."""
    from scsave.data.gene_selection import select_genes
    from scsave.data.splits.strategies import Random
    from scsave.training.loader import CellRows

    kind = source(path, **changes)
    data = kind.load(folder / "cache")
    nonzero = data.layers["counts"].nnz
    split = Random()(data, kind, 0)
    data = select_genes(data, split.train, 2000)
    cells = CellRows(data.layers["counts"], data.obs["library_size"].to_numpy())
    shape = tuple(cells.batch(split.train[:256])["counts"].shape)
    return f"{data.n_obs:,} cells, {nonzero:,} counts; {data.n_vars:,} genes chosen, a minibatch is {shape}"


def train(path: Path, folder: Path) -> str:
    """`train.py` on the same file, as a user would call it, but for three steps a stage; scoring and files included."""
    import anndata
    from compare_runs import config_of

    from scsave.runs.run import run

    data = ["data=h5ad", f"data.path={path}", "data.conditions=[cell_type,batch]", "data.cell_type_key=cell_type"]
    few = ["data.n_top_genes=2000", "trainer.limit_steps=3", "blocking=random", "figures=false", "split.test=0.02"]
    run(config_of([*data, *few, "split.val=0.02", f"paths.cache={folder / 'cache'}"]), folder / "run")
    cells = anndata.read_h5ad(folder / "run" / "generated.h5ad", backed="r")
    return f"{cells.n_obs:,} cells generated, scored and written"


STEPS = {
    "write": lambda path, folder, options: write(path, options.cells, options.genes, options.density),
    "prepare": lambda path, folder, options: prepare(path, folder),
    "again, from the cache": lambda path, folder, options: prepare(path, folder),
    "train.py, 2,000 genes, three steps a stage": lambda path, folder, options: train(path, folder),
    "50,000 cells, 2,000 genes on the way in": lambda path, folder, options: prepare(
        path, folder, max_cells=50_000, max_genes=2000
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=300_000)
    parser.add_argument("--genes", type=int, default=5_000)
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--folder", type=Path, default=Path("data/cache/large"))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    path = options.folder / "large.h5ad"
    if options.step:
        start = time.perf_counter()
        note = STEPS[options.step](path, options.folder, options) or f"{path.stat().st_size / 2**30:.2f} GiB"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{options.step}: peak {peak:.2f} GiB, {time.perf_counter() - start:.0f} s ({note})", flush=True)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    shape = ["--cells", str(options.cells), "--genes", str(options.genes), "--density", str(options.density)]
    try:
        for step in STEPS:
            command = [sys.executable, __file__, *shape, "--folder", str(options.folder), "--step", step]
            subprocess.run(command, check=True)
    finally:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
