"""The processes of a distributed run: which of them this is, and what a job may start and has to end."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from scsave.errors import UserError

# What Lightning sets in the process that starts the others.
_LAUNCHED = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


@contextlib.contextmanager
def own_processes(arguments: list[str] | None, processes: int) -> Iterator[None]:
    """A job that may start `processes` others and leaves nothing of them to the next job in this process.

    Lightning starts them with this process's command line; `arguments` replace it where the job is one of a sweep.
    UserError where this process was not started by train.py, and so no other can be.
    """
    before, line = {key: os.environ.get(key) for key in _LAUNCHED}, sys.argv
    if arguments is not None and processes > 1:
        launched = "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) > 1  # from outside
        if getattr(sys.modules["__main__"], "__spec__", None) is not None and not launched:
            raise UserError(
                f"trainer.devices={processes}: a launcher's worker can't start processes of its own; sweep with "
                "hydra/launcher=basic, or on SLURM let the launcher start them: hydra/launcher=submitit_slurm "
                f"hydra.launcher.tasks_per_node={processes}"
            )
        sys.argv = [str(Path(line[0]).absolute()), *arguments]
    try:
        yield
    except BaseException:
        _end_children()
        raise
    finally:
        sys.argv = line
        if processes > 1:
            import torch.distributed as dist

            if dist.is_available() and dist.is_initialized():
                dist.destroy_process_group()
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)


def _end_children() -> None:
    """End the processes that a failed job started: Lightning's observer of them would kill the next job of a sweep."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            children, thread._child_processes[:] = list(thread._child_processes), []
            for child in children:
                child.kill()
                child.wait()
