"""What a run gives to `fit` beside cells, split, columns and seed: a baseline may ignore it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from scsave.training.fitting import Workshop


@dataclass
class FitOptions:
    """`conditions` are the columns that the model knows, `decoder_conditions` those that the decoder is given.

    None stands for the conditions of the data set, and for all of them. `networks` says how much is trained (the flow
    needs the autoencoder); `n_axes` asks for that many components of corrected expression.
    """

    conditions: list[str] | None = None
    decoder_conditions: list[str] | None = None
    networks: Literal["none", "autoencoder", "flow"] = "flow"
    n_axes: int = 0
    cache: Path = Path("data/cache")
    workshop: Workshop = field(default_factory=Workshop)
