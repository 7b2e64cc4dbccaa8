"""The accuracy to expect of a prediction that can't be checked, from training strata that were held out in turn."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from scsave.stats.agreement import NAN

TRUST = "trust"  # in uns of predicted cells, in results.json and in a checkpoint's info
METRIC = {"response": "pcc_delta_one_control", "genetic": "pcc_delta"}  # the metric that it is of, by registry
FEWEST = 3  # strata held out in turn that something can be said from
BY_DISTANCE = 6  # strata that a line over distance is drawn through
SHARE = 0.8  # of the intervals
# What a change-PCC is called from each limit on: a choice. Squared, the limits are shares of the variance over genes.
WORDS = {0.9: "very good", 0.7: "good", 0.5: "fair", -1.0: "poor"}
COLUMNS = ("expected_pcc", "low", "high", "held_out")


def expected_accuracy(trust: Mapping[str, Mapping[str, Any]], distance: float | None = None) -> dict[str, float] | None:
    """Change-PCC to expect of a stratum never seen, with an 80% interval; None where too few strata were held out.

    `trust[stratum]` has its score `pcc` and its `distance` from the others. Mean of the Fisher-transformed scores, or where
    there are six or more and a distance is given, their regression on log distance; the interval is that of one new
    observation (Student's t).
    """
    from scipy import stats

    scores = np.array([one["pcc"] for one in trust.values()], dtype=float)
    apart = np.array([one["distance"] for one in trust.values()], dtype=float)[np.isfinite(scores)]
    scores = scores[np.isfinite(scores)]
    n = len(scores)
    if n < FEWEST:
        return None
    y = np.arctanh(np.clip(scores, -0.999, 0.999))
    if distance is None or n < BY_DISTANCE or not np.isfinite(distance) or not np.isfinite(apart).all():
        centre, spread, freedom = y.mean(), y.std(ddof=1) * math.sqrt(1 + 1 / n), n - 1
    else:
        x, new = np.log(np.maximum(apart, 1e-6)), math.log(max(distance, 1e-6))
        new = float(np.clip(new, x.min(), x.max()))  # beyond what was seen the line says nothing
        fit = stats.linregress(x, y) if np.ptp(x) > 0 else None
        slope, start = (fit.slope, fit.intercept) if fit else (0.0, y.mean())
        centre, freedom = start + slope * new, n - 2
        residual = math.sqrt(((y - start - slope * x) ** 2).sum() / freedom)
        spread = residual * math.sqrt(1 + 1 / n + (new - x.mean()) ** 2 / max(((x - x.mean()) ** 2).sum(), 1e-9))
    reach = float(stats.t.ppf(0.5 + SHARE / 2, freedom)) * spread
    low, middle, high = (float(np.tanh(value)) for value in (centre - reach, centre, centre + reach))
    return {"expected_pcc": middle, "low": low, "high": high, "held_out": n}


def unknown(held_out: int = 0) -> dict[str, float]:
    """What stands where nothing can be expected: too few strata, or a method that holds none out."""
    return {"expected_pcc": NAN, "low": NAN, "high": NAN, "held_out": held_out}


def trust_table(found: Mapping[str, Mapping[str, Any]], notes: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row a prediction: `expected_pcc`, its 80% interval `low` to `high`, how many training strata were `held_out` for
    it, and a `note` where its numbers were not seen in training."""
    index = pd.Index(found, name="prediction")
    table = pd.DataFrame([{k: one[k] for k in COLUMNS} for one in found.values()], index=index)
    table["note"] = [(notes or {}).get(name, "") for name in found]
    return table.astype({"held_out": int})


def in_words(pcc: float) -> str:
    """What a change-PCC is called (`WORDS`)."""
    return next(word for limit, word in WORDS.items() if pcc >= limit)


def said(one: Mapping[str, Any]) -> str:
    """An expectation in words."""
    if not np.isfinite(one["expected_pcc"]):
        return f"no accuracy can be expected: fewer than {FEWEST} training strata, or none, were held out in turn"
    low, middle, high = (in_words(one[key]) for key in ("low", "expected_pcc", "high"))
    return (
        f"expected change-PCC {one['expected_pcc']:.2f} ({SHARE:.0%} interval {one['low']:.2f} to {one['high']:.2f}, from "
        f"{one['held_out']} training strata held out in turn): {middle}" + f", may be {low} to {high}" * (low != high)
    )
