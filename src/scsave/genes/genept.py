"""Gene vectors that GenePT publishes: a pickle of plain lists, read without running what a pickle could hold."""

import pickle
import zipfile
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from scsave.data.downloaded import Mirror, fetch
from scsave.errors import UserError
from scsave.genes.vectors import GeneVectors, VectorSource

ARCHIVE = "GenePT_emebdding_v2.zip"  # sic
URL = f"https://zenodo.org/records/10833191/files/{ARCHIVE}?download=1"
SIZE, MD5 = 574_395_233, "3f6ce4317e3a0091978ae5cb8fbf05a3"
# what pickled numpy arrays name; everything else in a pickle that has a name is refused
ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype")}
ALLOWED |= {(f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")}


class PlainUnpickler(pickle.Unpickler):
    """Dicts, lists, numbers, strings and numpy arrays; any other name raises UnpicklingError before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no data")
        return super().find_class(module, name)


def read_pickle(stream: BufferedReader, where: str) -> GeneVectors:
    """{symbol: d numbers} as GeneVectors. UserError for anything else; code in the file is not run."""
    try:
        values = PlainUnpickler(stream).load()
    except Exception as error:
        raise UserError(f"{where}: refused, not a pickle of plain vectors ({type(error).__name__}: {error})") from None
    if not isinstance(values, dict) or not values:
        raise UserError(f"{where}: holds {type(values).__name__}, expected a dict of gene symbol to vector")
    try:
        vectors = np.array(list(values.values()), dtype=np.float32)
    except (ValueError, TypeError):
        vectors = np.empty(0)
    if vectors.ndim != 2 or not all(isinstance(gene, str) for gene in values):
        raise UserError(f"{where}: the vectors are not of one length, or the genes not text")
    known = np.isfinite(vectors).all(1) & (np.abs(vectors).sum(1) > 0)
    genes = np.array(list(values), dtype=object)[known]
    return GeneVectors(tuple(genes), vectors[known], "genept", {"file": Path(where).name, "width": vectors.shape[1]})


@dataclass(kw_only=True)
class GenePT(VectorSource):
    """The paper's own gene vectors (text-embedding-ada-002 of NCBI summaries, Chen & Zou).

    `path`: the archive, the pickle in it, or an .npz that this class wrote; without it the archive is downloaded. The
    pickle is read once, the plain float32 array kept in the cache.
    """

    path: str | None = None
    member: str = "ada"  # of the pickles in the archive, the one with this in its name
    name = "genept"

    def read(self) -> GeneVectors:
        path = Path(self.path) if self.path else self.fetch()
        if not path.is_file():
            raise UserError(f"vectors.path={path}: no such file; give {ARCHIVE}, or the pickle that is in it")
        if path.suffix == ".npz":
            return GeneVectors.load(path, self.name, **self._tables)
        stat = path.stat()
        key = f"{path.resolve()}{stat.st_size}{stat.st_mtime_ns}{self.member}"
        return self._kept(key, lambda: self._convert(path))

    def _convert(self, path: Path) -> GeneVectors:
        if not zipfile.is_zipfile(path):
            with open(path, "rb") as stream:
                return read_pickle(stream, str(path))
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if "__MACOSX" not in name]
            pickles = [name for name in names if name.endswith((".pickle", ".pkl"))]
            chosen = [name for name in pickles if self.member in Path(name).name]
            if not chosen:
                raise UserError(
                    f"{path}: no pickle with {self.member!r} in its name (vectors.member); "
                    f"there are: {', '.join(pickles) or 'none'}"
                )
            with archive.open(min(chosen, key=len)) as stream:
                return read_pickle(stream, f"{path}/{chosen[0]}")

    def fetch(self) -> Path:
        """The archive, downloaded if it is not here; UserError where it can't be had."""
        mirror = Mirror(file=ARCHIVE, url=URL, size=SIZE, sum=f"md5:{MD5}")
        try:
            return fetch([mirror], Path(self.cache), "genept", "vectors=genept", "vectors.path")[0]
        except UserError as error:
            raise UserError(f"{error}; vectors=packaged needs no download") from None
