"""What differs between control and perturbed cells beside the perturbation: how deep they were sequenced, and their batches."""

import logging

import numpy as np
from anndata import AnnData

from scsave import keys

log = logging.getLogger("scsave")
DEPTH = "depth_factor"  # its name in `info` of results.json
DEEPER = 1.5  # factor between median libraries from which it is said and shown
UNLIKE = 0.2  # of the cells would have to change batch for the compositions to be one (total variation distance)
FEWEST = 20  # control cells that have to be left


def depth_factor(control: AnnData, perturbed: AnnData, what: str) -> float:
    """Median library size of the perturbed cells over that of the control cells; said where it is beyond `DEEPER`.

    A gene is seen in more cells of deeper libraries, so part of what is measured as a change is depth. NaN without libraries.
    """
    if keys.LIBRARY not in control.obs or keys.LIBRARY not in perturbed.obs:
        return float("nan")
    factor = float(perturbed.obs[keys.LIBRARY].median() / control.obs[keys.LIBRARY].median())
    if apart(factor):
        log.warning(
            "%s: the median library of perturbed cells is %.2f times that of control cells; part of the measured change is "
            "depth (column depth ratio of the tables)", what, factor,
        )  # fmt: skip
    return factor


def apart(factor: float) -> bool:
    """Is a ratio of depths beyond `DEEPER`, one way or the other?"""
    return bool(max(factor, 1 / factor) > DEEPER) if factor > 0 else False


def balanced(control: AnnData, perturbed: AnnData, batch: str | None, seed: int, what: str) -> AnnData:
    """Control cells drawn so that their batches have the shares that the perturbed cells' have, else batches count as change.

    All of them where there is no batch column, where the compositions are alike (`UNLIKE`), and where too few would be left
    (`FEWEST`); drawn or not is said where they differ. Batches without control cells can't be balanced and are left aside.
    """
    if batch is None or batch not in control.obs or batch not in perturbed.obs:
        return control
    own, other = (cells.obs[batch].astype(str) for cells in (control, perturbed))
    have = own.value_counts()
    wanted = other[other.isin(have.index)].value_counts(normalize=True)
    distance = (have / have.sum()).sub(wanted, fill_value=0).abs().sum() / 2
    if wanted.empty or distance <= UNLIKE:
        return control
    numbers = np.floor(wanted * (have[wanted.index] / wanted).min() + 1e-9).astype(int)
    said = f"{what}: the shares of {batch} differ between control and perturbed cells (by {distance:.0%} of the cells)"
    if numbers.sum() < FEWEST:
        log.warning("%s, and balanced there would be %d control cells: part of the measured change may be %s", said,
                    numbers.sum(), batch)  # fmt: skip
        return control
    rng = np.random.default_rng([seed, 7])
    places = [rng.choice(np.flatnonzero(own == level), n, replace=False) for level, n in sorted(numbers.items())]
    log.warning("%s: balanced, %d of %d control cells are used", said, numbers.sum(), control.n_obs)
    return control[np.sort(np.concatenate(places))].copy()
