"""What an offline run of wandb wrote: a LevelDB log of protocol buffers."""

import json
import struct
import time
from pathlib import Path

from wandb.proto import wandb_internal_pb2 as pb

BLOCK, HEAD, MARK = 32768, 7, b":W&B"
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> list[pb.Record]:
    data = path.read_bytes()
    assert data[: len(MARK)] in (MARK, b"")
    at, whole, found = HEAD, b"", []
    while at < len(data):
        left = BLOCK - at % BLOCK
        if left < HEAD:  # too small for another head: padding
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + HEAD].ljust(HEAD, b"\0"))
        if at + HEAD + size > len(data):  # still being written
            break
        whole += data[at + HEAD : at + HEAD + size]
        at += HEAD + size
        if kind in (FULL, LAST):
            found.append(pb.Record.FromString(whole))
            whole = b""
    return found


def ended(path: Path) -> bool:
    kinds = [record.WhichOneof("record_type") for record in records(path)]
    return "exit" in kinds


class Offline:
    """One `offline-run-*` folder: the run's record, its config, and its history, a dict a step."""

    def __init__(self, folder: Path):
        (path,) = folder.glob("*.wandb")
        until = time.monotonic() + 20  # wandb's own process writes the end a moment after `finish` is back
        while not ended(path) and time.monotonic() < until:
            time.sleep(0.1)
        self.folder, self.history, self.config, self.exit_code = folder, [], {}, None
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                items = {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }
                self.history.append(items)
            elif kind == "exit":
                self.exit_code = record.exit.exit_code

    def curve(self, key: str) -> list[tuple[int, float]]:
        return [(row["trainer/global_step"], row[key]) for row in self.history if key in row]

    def last(self, key: str):
        return [row[key] for row in self.history if key in row][-1]


def offline_runs(folder: Path) -> list[Offline]:
    """In the order in which they were begun."""
    return [Offline(path) for path in sorted((folder / "wandb").glob("offline-run-*"))]
