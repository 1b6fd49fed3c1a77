"""Databases for tests: each test gets one of its own, in memory.

With pytest, put ``pytest_plugins = ["kimberlite.testing"]`` into conftest.py and take the fixture
``kimberlite_client``; without it, use ``database()``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator

from kimberlite.client import Client


@contextlib.contextmanager
def database(tenant_id: int = 1) -> Generator[Client]:
    """A client of a database of its own, in memory; both are gone afterwards."""
    with Client.connect(addresses=["memory:"], tenant_id=tenant_id) as client:
        yield client


try:
    import pytest
except ImportError:
    __all__ = ["database"]
else:

    @pytest.fixture
    def kimberlite_client() -> Iterator[Client]:
        """A client of a database of its own, in memory."""
        with database() as client:
            yield client

    __all__ = ["database", "kimberlite_client"]
