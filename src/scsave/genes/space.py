"""Gene vectors as points of a small space (their principal components), and how a perturbed gene's vector is looked up."""

from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args

import numpy as np
from anndata import AnnData

from scsave import keys
from scsave.errors import UserError, listed

Missing = Literal["error", "mean"]  # what a perturbed gene without a vector is: refused, or at the average vector

PLACES = ("path", "model", "names", "orthologs", "summary", "info")  # options of vectors that name a file or an address


@dataclass(frozen=True)
class NoVectors:
    """Stands for vectors that came with the training data, which a checkpoint does not carry: it has no further gene."""

    width: int

    def lookup(self, genes: list[str], organism: str, gene_ids: list[str] | None) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(genes), self.width)), np.zeros(len(genes), dtype=bool)


@dataclass(frozen=True)
class Elsewhere:
    """Stands for vectors at a `place` that a checkpoint, which may be anyone's, names: nothing is opened there."""

    place: str

    def lookup(self, genes: list[str], organism: str, gene_ids: list[str] | None) -> tuple[np.ndarray, np.ndarray]:
        raise UserError(
            f"{self.place} is what the checkpoint names for the vector of {listed(genes, 3)}; where you trust it, name it "
            f"yourself: vectors=... {self.place}"
        )


def place_of(source: Any) -> str:
    """The first place, `vectors.path=...`, that a source of vectors or of their texts has and the packaged one has not."""
    for where, one in (("vectors", source), ("vectors.text", getattr(source, "text", None))):
        for option in fields(one) if is_dataclass(one) else ():
            value = getattr(one, option.name)
            if option.name in PLACES and value is not None and value != option.default:
                return f"{where}.{option.name}={value}"
    return ""


@dataclass(kw_only=True)
class GeneLookup:
    """Vectors of the genes of one data set; `without` counts those that have none."""

    vectors: Any  # a source: `scsave.genes.vectors.VectorSource`
    missing: Missing = "error"
    without: list[str] = field(default_factory=list)
    organism: str = "human"
    ids: dict[str, str] = field(default_factory=dict)

    def bind(self, data: AnnData, organism: str) -> None:
        """Take the organism, the gene ids and, where the data carry them, the vectors; no cell is read."""
        self.organism, self.vectors = organism, self.vectors.bind(data)
        self.ids = dict(data.var[keys.GENE_ID].astype(str)) if keys.GENE_ID in data.var else {}

    def find(self, genes: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (n, D) float64, and which genes have one (n,) bool."""
        ids = [self.ids.get(gene, "") for gene in genes] if self.ids else None
        array, found = self.vectors.lookup(list(genes), self.organism, ids)
        return np.array(array, dtype=np.float64), np.asarray(found, dtype=bool)

    def vectors_of(self, genes: list[str], near: list[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `find`, for perturbed genes: UserError for one without a vector, unless `missing=mean`.

        `near` are further names that the message may propose.
        """
        array, found = self.find(genes)
        absent = [gene for gene, has in zip(genes, found, strict=True) if not has]
        if absent and self.missing == "error":
            known = self.vectors.load().genes if hasattr(self.vectors, "load") else ()
            spelled = {name.casefold(): name for name in sorted({*(near or ()), *known})}
            like = [spelled[name] for name in get_close_matches(absent[0].casefold(), spelled, 4, 0.7)]
            meant = f" (names like {absent[0]}: {', '.join(like)})" if like else ""
            raise UserError(
                f"no gene vector for {', '.join(absent[:8])}{meant}; correct the name, or give other vectors (vectors=...), "
                "or train a method with missing=mean, which takes the average vector"
            )
        self.without = sorted({*self.without, *absent})
        return array, found


@dataclass(kw_only=True)
class TextSpace(GeneLookup):
    """Genes in the first `size` principal components of the vectors that can be looked up, unit total variance.

    A perturbed gene without a vector is refused, or with `missing=mean` lies at the average vector. With
    `use_text=False` every gene is the same point and nothing is looked up.
    """

    size: int
    use_text: bool = True

    def __post_init__(self) -> None:
        if self.missing not in get_args(Missing) or not isinstance(self.use_text, bool):
            said = f"missing={self.missing} use={self.use_text}"
            raise UserError(f"method.gene_vectors: {said}; missing is error or mean, use is true or false")

    def learn(self, train: AnnData, perturbed: list[str], organism: str) -> None:
        """Fit the components to the panel's and the perturbed genes; only names are read of `train`."""
        self.at: dict[str, np.ndarray] = {}
        self.centre, self.axes, self.spread = np.zeros(1), np.zeros((1, 1)), 1.0
        if not self.use_text:
            return
        self.bind(train, organism)
        known, has = self.vectors_of(perturbed)
        panel = list(train.var_names)
        array, found = self.find(panel)
        cloud = np.vstack([array[found], known[has]])
        if not len(cloud):
            cloud = np.zeros((1, known.shape[1]))
        self.centre = cloud.mean(axis=0)  # (D,)
        _, scale, axes = np.linalg.svd(cloud - self.centre, full_matrices=False)
        rank = max(1, min(self.size, int((scale > 1e-8 * max(scale[0], 1e-300)).sum())))
        self.axes = axes[:rank]  # (q, D)
        self.spread = float(np.sqrt((scale[:rank] ** 2).sum() / len(cloud))) or 1.0
        self._remember([gene for gene, is_known in zip(panel, found, strict=True) if is_known], array[found])
        self._remember(perturbed, known, has)

    def _remember(self, genes: list[str], vectors: np.ndarray, found: np.ndarray | None = None) -> None:
        placed = (vectors - self.centre) @ self.axes.T / self.spread
        if found is not None:
            placed[~found] = 0.0  # the centre
        self.at |= dict(zip(genes, placed, strict=True))

    def place(self, genes: list[str]) -> np.ndarray:
        """Coordinates (n, q); a gene that has none yet is looked up."""
        if not self.use_text:
            self.at |= dict.fromkeys(genes, np.zeros(1))
        new = [gene for gene in dict.fromkeys(genes) if gene not in self.at]
        if new:
            self._remember(new, *self.vectors_of(new, list(self.at)))
        return np.array([self.at[gene] for gene in genes]).reshape(len(genes), len(self.axes))

    def nearest(self, genes: list[str], among: list[str]) -> tuple[list[str], np.ndarray]:
        """Of each gene, which other one of `among` is nearest, and its distance (n,); NaN where there is no other."""
        here, there = self.place(genes), self.place(among)
        distance = np.linalg.norm(here[:, None] - there[None], axis=-1)  # (n, m)
        distance[np.array(genes)[:, None] == np.array(among)[None]] = np.inf
        if not len(among) or not np.isfinite(distance).any(axis=1).all():
            return [""] * len(genes), np.full(len(genes), np.nan)
        return [among[i] for i in distance.argmin(axis=1)], distance.min(axis=1)

    # --- files ---
    def state(self) -> dict[str, Any]:
        """Everything learned, as plain types and tensors."""
        import torch

        names = list(self.at)
        coordinates = np.array([self.at[name] for name in names]).reshape(len(names), len(self.axes))
        arrays = {"centre": self.centre, "axes": self.axes, "at": coordinates}
        plain = {name: getattr(self, name) for name in ("organism", "ids", "without", "spread", "use_text")}
        return plain | {"genes": names} | {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.centre, self.axes, self.spread = state["centre"].numpy(), state["axes"].numpy(), state["spread"]
        self.at = dict(zip(state["genes"], state["at"].numpy(), strict=True))
        if getattr(self.vectors, "in_data", False):
            self.vectors = NoVectors(len(self.centre))
        elif place := place_of(self.vectors):
            self.vectors = Elsewhere(place)
        elif hasattr(self.vectors, "cache"):
            self.vectors.cache = "data/cache"
        for name in ("organism", "ids", "without", "use_text"):
            setattr(self, name, state[name])
