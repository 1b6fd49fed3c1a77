"""How far an import or export is: to a function of the caller's, or as a bar of tqdm."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from typing import Any, Callable, Union

from kimberlite._arrow import imported


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far an import or export is, with what an earlier run did."""

    events: int
    """Events that are done."""
    total_events: int | None
    """Of so many; None where that is not known before the end, as of a file to import."""
    bytes: int
    """Bytes of the file that were read or written, or of event data from other sources."""
    total_bytes: int | None
    """Of so many; None but for a file to import."""


ProgressChoice = Union[bool, Callable[[Progress], object], None]
"""A function, which is called after every batch; ``True`` for a bar of tqdm on standard error,
``False`` for none; ``None`` for a bar where tqdm is installed and standard error is a terminal."""


class Reporter:
    """Tells the progress where it is wished for."""

    def __init__(self, choice: ProgressChoice, what: str) -> None:
        """Nothing is shown before the first report."""
        if not (choice is None or isinstance(choice, bool) or callable(choice)):
            kind = type(choice).__name__
            raise TypeError(f"progress must be a bool, None or a function, not {kind}")
        self._tell = choice if callable(choice) else None
        self._what = what
        self._make_bar = _bar_maker(choice)
        self._bar: Any = None

    def report(self, progress: Progress) -> None:
        """Tells it; what the caller's function raises ends the transfer."""
        if self._tell is not None:
            self._tell(progress)
        if self._make_bar is None:
            return
        by_bytes = progress.total_bytes is not None
        done = progress.bytes if by_bytes else progress.events
        if self._bar is None:
            self._bar = self._make_bar(
                desc=self._what,
                total=progress.total_bytes if by_bytes else progress.total_events,
                initial=done,
                unit="B" if by_bytes else " events",
                unit_scale=True,
            )
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _bar_maker(choice: ProgressChoice) -> Any:
    """What makes a bar; None where none is wished for."""
    if choice is True:
        return imported("tqdm.auto", "progress=True").tqdm
    # Under pythonw there is no standard error.
    if choice is not None or sys.stderr is None or not sys.stderr.isatty():
        return None
    try:
        return importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        return None


__all__ = ["Progress", "ProgressChoice", "Reporter"]
