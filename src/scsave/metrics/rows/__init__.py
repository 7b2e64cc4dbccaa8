"""The rows of the registry, one file for each task."""

from scsave.metrics.rows.batch_correction import BATCH_CORRECTION
from scsave.metrics.rows.generation import GENERATION
from scsave.metrics.rows.genetic import GENETIC
from scsave.metrics.rows.response import RESPONSE

ROWS = (*GENERATION, *BATCH_CORRECTION, *RESPONSE, *GENETIC)
