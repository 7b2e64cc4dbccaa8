"""Optuna's TPE whose draws are a function of the seed and the trial's number, so that a search can be interrupted."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial


class TPE(BaseSampler):
    """`TPESampler(**options)`, seeded anew for each trial and parameter.

    A sampler with one stream of random numbers begins it again when a search is started again, and so tries the first
    settings twice.
    """

    def __init__(self, seed: int = 0, **options: Any):
        self.seed, self.options = seed, options
        self.sampler(0)  # an unknown option is an error now

    def sampler(self, *key: int) -> TPESampler:
        seed = int(np.random.SeedSequence((self.seed, *key)).generate_state(1)[0])
        return TPESampler(seed=seed, **self.options)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.sampler(trial.number).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.sampler(trial.number).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler = self.sampler(trial.number, zlib.crc32(param_name.encode()))
        return sampler.sample_independent(study, trial, param_name, param_distribution)
