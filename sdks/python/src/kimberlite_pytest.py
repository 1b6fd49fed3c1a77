"""The pytest plugin: the fixture ``kimberlite_client``.

pytest loads it in every project where the package is installed, so it imports nothing of it until
a test asks for the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kimberlite import Client


@pytest.fixture
def kimberlite_client() -> Iterator[Client]:
    """A client of a database of its own, in memory."""
    from kimberlite.testing import database  # noqa: PLC0415

    with database() as client:
        yield client
