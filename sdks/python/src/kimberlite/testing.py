"""Databases for tests: each test gets one of its own, in memory.

With pytest take the fixture ``kimberlite_client``, which the installed package brings along; where
plugins are not loaded, write ``pytest_plugins = ["kimberlite_pytest"]`` into conftest.py.
Without pytest use ``database()``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from kimberlite.client import Client


@contextlib.contextmanager
def database(tenant_id: int = 1) -> Generator[Client]:
    """A client of a database of its own, in memory; both are gone afterwards."""
    with Client.connect(addresses=["memory:"], tenant_id=tenant_id) as client:
        yield client


__all__ = ["database"]
