"""What nearly every job imports, imported once: the process that jobs are forked from does nothing else."""

import matplotlib

matplotlib.use("Agg")

import anndata  # noqa: F401
import ot  # noqa: F401
import scanpy  # noqa: F401
import sklearn.ensemble  # noqa: F401
import torchcfm  # noqa: F401
import torchdiffeq  # noqa: F401

import scsave.method.save
import scsave.metrics.generation
import scsave.metrics.response
import scsave.results.figures
import scsave.runs.run
import scsave.training.fitting  # noqa: F401
