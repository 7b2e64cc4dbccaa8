"""What libraries do to the whole process: torch's threads, memory that was freed, loops that numba compiles."""

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TRIM, MAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's mallopt
LARGEST, KEPT = 2**25, 2**28  # bytes of a tensor whose memory may be kept, and of all that is


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


@functools.cache
def keep_freed() -> None:
    """Freed memory waits for the next tensors, which saves a training step on a CPU a tenth; only where glibc is."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(MAP, LARGEST), mallopt(TRIM, KEPT)


def keep_compiled() -> None:
    """numba's cache keeps UMAP's loops, which each process else compiles in 15 CPU seconds; only where it can be written."""
    from umap import layouts, umap_

    with suppress(AttributeError, RuntimeError):  # a version that names them otherwise; no folder for the cache
        for loop in (umap_.smooth_knn_dist, umap_.compute_membership_strengths):
            loop.enable_caching()
        layouts._nb_optimize_layout_euclidean_single_epoch.enable_caching()
