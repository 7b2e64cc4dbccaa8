"""How many optimiser steps a stage takes, by the number of training cells."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Length:
    """Optimiser steps: `steps`, or where that is None so many passes over the cells, but at least and at most so many.

    Few cells are passed more often: `small_passes` times, as long as that makes no more than `small_most` steps.
    """

    steps: int | None
    passes: float
    least: int
    most: int
    small_passes: float = 0
    small_most: int = 0

    def of(self, n: int, batch_size: int) -> int:
        """Steps for `n` cells."""
        once = n / min(batch_size, n)  # steps of a pass
        least = max(self.least, min(self.small_passes * once, self.small_most))
        return self.steps or int(min(max(self.passes * once, least), self.most))
