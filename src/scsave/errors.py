"""The one exception for mistakes of the user: printed as a single line, exit code 2, no traceback."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class UserError(Exception):
    """What is wrong, where, and what to do, in one line."""

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))


def listed(names: Iterable[Any], most: int = 12) -> str:
    """Names for a message: the first `most`, and of more of them how many there are in all."""
    names = [str(name) for name in names]
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean x?`, or nothing."""
    close = get_close_matches(name, list(known), 1, cutoff)
    return f"; did you mean {close[0]}?" if close else ""
