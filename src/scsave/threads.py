"""Libraries that change how many threads torch has, and giving them back."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_threads() -> Iterator[None]:
    """After it torch has its threads back: what trains next would fight its neighbours, and results.json states them.

    numba (UMAP) and jax (scib-metrics) set the number of the OpenMP threads of the whole process.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
