"""Dispersions learnt last: the spread of drawn counts is brought to that of real ones, gene by gene, without gradients.

The maximum of the likelihood is driven by stray counts where the mean is low, and the cells drawn from it are too wide
where it is high (docs/choices.md).
"""

import numpy as np
import torch

from scsave.data.conditions import Values
from scsave.models.model import SAVEModel
from scsave.training.loader import Rows, StepNoise

ROUNDS, CELLS, CHUNK = 6, 1000, 500
GAIN, STEP, LATE = 3.0, 1.0, 0.4  # of a round's change of log theta: factor, bound, what is left of both at the end
RANGE = (-3.0, 7.0)  # of log theta
FLOOR = 1e-4  # of a variance of log1p expression


@torch.no_grad()
def calibrate(model: SAVEModel, rows: Rows, seed: int, device: torch.device) -> None:
    """Move `log_theta` (G,) until the variance of log1p expression of drawn training cells is that of the cells themselves.

    Does nothing for a likelihood without dispersions.
    """
    head = model.likelihood
    if not hasattr(head, "log_theta"):
        return
    model.to(device).eval()
    chosen = np.sort(np.random.default_rng([seed, 5]).permutation(len(rows))[:CELLS])
    batches = [rows.__getitems__(list(part)) for part in np.array_split(chosen, max(1, -(-len(chosen) // CHUNK)))]
    parts, real = [], []
    for number, batch in enumerate(batches):
        noise = StepNoise((seed, 5, number), 0, 1, device)
        counts, library = batch["counts"].to(device), batch["library"].to(device)
        posterior = model.encode(model.scaled(counts, library))
        z = posterior.sample(noise.normal(*posterior.mu.shape))  # (N, L, d)
        values: Values = {name: value.to(device) for name, value in batch["values"].items()}
        parts.append((z, library, values, noise.generator))
        real.append(model.to_log1p(counts, library))
    target = torch.cat(real).var(0) + FLOOR  # (G,)
    for number in range(ROUNDS):
        drawn = [
            model.to_log1p(head(model.decode(z, values), library).sample(rng), library)
            for z, library, values, rng in parts
        ]
        change = GAIN * ((torch.cat(drawn).var(0) + FLOOR) / target).log()  # too wide: a larger theta
        share = 1.0 if number < ROUNDS // 2 else LATE
        head.log_theta.copy_((head.log_theta + share * change.clamp(-STEP, STEP)).clamp(*RANGE))
