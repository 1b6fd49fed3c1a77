"""Whatever one client can do, the other can: by their public methods and what those take."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import kimberlite
from kimberlite import (
    AsyncClient,
    AsyncCursor,
    AsyncEventTable,
    AsyncSubscription,
    Client,
    Cursor,
    EventTable,
    Subscription,
)

# How asyncio calls what Python's statements ask for.
STATEMENTS = {"__enter__": "__aenter__", "__exit__": "__aexit__", "__iter__": "__aiter__"}
# What only iterators and finalizers see.
INNER = {"__init__", "__del__", "__repr__", "__slots__", "__module__", "__doc__", "__dict__"}
INNER |= {
    "__weakref__",
    "__reduce__",
    "__copy__",
    "__deepcopy__",
    "__reduce_ex__",
    "__static_attributes__",
}
INNER |= {"__firstlineno__"}

PAIRS = [
    (Client, AsyncClient),
    (Subscription, AsyncSubscription),
    (Cursor, AsyncCursor),
    (EventTable, AsyncEventTable),
]


def members(kind: type) -> dict[str, Any]:
    """A class's public members and what statements use, with their parameters where they are called."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__[:-1]):
        for name in vars(base):
            special = name.startswith("__") and name.endswith("__") and name not in INNER
            if not (special or not name.startswith("_")):
                continue
            member = inspect.getattr_static(kind, name)
            function = getattr(member, "__func__", member)
            found[name] = (
                [
                    (p.name, p.kind, p.default)
                    for p in inspect.signature(function).parameters.values()
                ]
                if callable(function)
                else type(member)
            )
    return found


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_both_clients_have_the_same_methods(one: type, other: type) -> None:
    """Names, parameters, kinds and defaults are the same; only waiting differs."""
    expected = {STATEMENTS.get(name, name): what for name, what in members(one).items()}
    assert len(expected) > 3
    assert members(other) == expected


def test_every_class_has_its_pair() -> None:
    """A public class that is made for asyncio is compared above."""
    made = {name for name in kimberlite.__all__ if name.startswith("Async")}
    assert made == {other.__name__ for _, other in PAIRS}
