"""The processes of a distributed run: which of them this is, and what the others do while the first one scores."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from scsave.errors import UserError

# What Lightning sets in the process that starts the others.
_LAUNCHED = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
_PATIENCE = timedelta(days=2)  # the others wait for as long as scoring takes


def rank_zero() -> bool:
    """Is this the process that prints, scores and writes? Told by the environment: torchrun's, SLURM's or Lightning's."""
    if "RANK" in os.environ:
        return int(os.environ["RANK"]) == 0
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in os.environ:
        return int(os.environ["SLURM_PROCID"]) == 0
    return int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0


@contextlib.contextmanager
def own_processes(arguments: list[str] | None, processes: int) -> Iterator[None]:
    """A job that may start `processes` others and leaves nothing of them to the next job in this process.

    Lightning starts them with this process's command line; `arguments` replace it where the job is one of a sweep.
    UserError where this process was not started by train.py, and so no other can be.
    """
    before, line = {key: os.environ.get(key) for key in _LAUNCHED}, sys.argv
    if arguments is not None and processes > 1:
        if getattr(sys.modules["__main__"], "__spec__", None) is not None and not launched():
            raise UserError(
                f"trainer.devices={processes}: a launcher's worker can't start processes of its own; sweep with "
                "hydra/launcher=basic, or on SLURM let the launcher start them: hydra/launcher=submitit_slurm "
                f"hydra.launcher.tasks_per_node={processes}"
            )
        sys.argv = [str(Path(line[0]).absolute()), *arguments]
    try:
        yield
    finally:
        sys.argv = line
        if processes > 1:
            leave()
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)


def launched() -> bool:
    """Were the processes of this run started from outside: torchrun, srun?"""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) > 1


def leave() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class Crew:
    """All processes of a run after training: the first asks, each does its share of the work."""

    def __init__(self, group: Any, rank: int, size: int):
        self.group, self.rank, self.size = group, rank, size

    @classmethod
    def of_run(cls) -> Crew | None:
        """None outside of distributed training. Has to be called by every process."""
        import torch.distributed as dist

        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return None
        return cls(dist.new_group(backend="gloo", timeout=_PATIENCE), dist.get_rank(), dist.get_world_size())

    def ask(self, work: Callable[..., list[Any]], request: Any) -> list[Any]:
        """Rank 0: what `work(request, rank, size)`, a list, gave on every process, dealt out in turn: 0, 1, 2, 0, 1, ..."""
        import torch.distributed as dist

        dist.broadcast_object_list([request], src=0, group=self.group)
        shares: list[Any] = [None] * self.size
        dist.gather_object(self._share(work, request), shares, dst=0, group=self.group)
        for rank, (_, failed) in enumerate(shares):
            if failed:
                raise RuntimeError(f"process {rank} of {self.size} failed:\n{failed}")
        done = [iter(made) for made, _ in shares]
        return [next(done[k % self.size]) for k in range(sum(len(made) for made, _ in shares))]

    def serve(self, work: Callable[..., list[Any]]) -> None:
        """The other ranks: do the work that rank 0 asks for until it is done."""
        import torch.distributed as dist

        while True:
            asked = [None]
            dist.broadcast_object_list(asked, src=0, group=self.group)
            if asked[0] is None:
                return
            dist.gather_object(self._share(work, asked[0]), None, dst=0, group=self.group)

    def dismiss(self) -> None:
        """Rank 0: no more work. Silent where the others are gone."""
        import torch.distributed as dist

        with contextlib.suppress(RuntimeError):
            dist.broadcast_object_list([None], src=0, group=self.group)

    def _share(self, work: Callable[..., list[Any]], request: Any) -> tuple[list[Any], str | None]:
        # a process that fails still answers, or all would wait for it
        try:
            return work(request, self.rank, self.size), None
        except Exception:
            return [], traceback.format_exc()
