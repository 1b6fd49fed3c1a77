"""What has arrived of a subscription or a cursor and was not handed out yet.

A wait that is interrupted or cancelled may have a result already, and a loop may be left in the
middle of a page: whoever asks next goes on exactly there.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from typing import TypeVar
from weakref import WeakSet

from kimberlite._operations import popped
from kimberlite.types import Event, Page, Row, Value

T = TypeVar("T")


def drained(items: deque[T]) -> Iterator[T]:
    """Takes items out as they are asked for; threads may share the work."""
    while (item := popped(items)) is not None:
        yield item


class EventFeed:
    """Pages that arrived, and the rest of the page that is being iterated over."""

    def __init__(self) -> None:
        """Nothing arrived yet."""
        self.pages: deque[Page] = deque()
        self.events: deque[Event] = deque()
        self._newest: Page | None = None

    def clear(self) -> None:
        """Forgets what was not handed out: it does not come after a close."""
        self.pages.clear()
        self.events.clear()

    def iterate(self, page: Page) -> None:
        """Has a page's events handed out one by one."""
        self._newest = page
        self.events.extend(page)

    def take(self) -> Page | None:
        """What waits here, as a page."""
        return self._rest() or popped(self.pages)

    def _rest(self) -> Page | None:
        taken: list[Event] = []
        for event in drained(self.events):
            if taken and event.offset != taken[-1].offset + 1:
                # Another thread took what was between: a page has no gaps.
                self.events.appendleft(event)
                break
            taken.append(event)
        newest = self._newest
        if not taken or newest is None:
            return None
        data = [event.data for event in taken]
        lens = memoryview(array("I", map(len, data)))
        timestamps = memoryview(array("Q", [event.timestamp_ns for event in taken]))
        first = taken[0].offset
        return Page(first, b"".join(data), lens, timestamps, newest.next_offset, newest.position)


class RowFeed:
    """Batches that arrived, and the rest of the batch that is being iterated over."""

    def __init__(self) -> None:
        """Nothing arrived yet."""
        self.batches: deque[list[tuple[Value, ...]]] = deque()
        self.rows: deque[Row] = deque()

    def clear(self) -> None:
        """Forgets what was not handed out: it does not come after a close."""
        self.batches.clear()
        self.rows.clear()

    @property
    def waiting(self) -> bool:
        """Whether rows were read and not handed out yet."""
        return bool(self.rows or self.batches)

    def rest(self) -> list[Row]:
        """The rows of a loop that was left."""
        return list(drained(self.rows))


class Feeds:
    """The feeds of a client, which end with it."""

    def __init__(self) -> None:
        """None yet."""
        self._open: WeakSet[EventFeed | RowFeed] = WeakSet()

    def add(self, feed: EventFeed | RowFeed) -> None:
        """One more, for as long as somebody reads from it."""
        self._open.add(feed)

    def clear(self) -> None:
        """Forgets what was not handed out."""
        for feed in list(self._open):
            feed.clear()


__all__ = ["EventFeed", "Feeds", "RowFeed", "drained"]
