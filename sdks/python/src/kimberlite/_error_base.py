"""The base of every error; the classes themselves are generated."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from kimberlite._abi import UNKNOWN_CODE


class AppendKey(NamedTuple):
    """Settles an append whose outcome is unknown.

    Pass it to ``append_with_key`` with the same stream and events: the answer tells what became of
    the first attempt, or appends now, and never does it twice.
    """

    producer_id: int
    sequence: int


class KimberliteError(Exception):
    """Something that Kimberlite refused or could not do.

    Every error has a class of its own below this one. ``detail`` names the bad field or bound and
    what to do; it never holds a token, event data or a parameter's value.
    """

    code: int = UNKNOWN_CODE
    """The error's number, the same in every language."""

    name: str = "UNKNOWN"
    """The error's name in the contract."""

    message: ClassVar[str] = "An error that this version does not know."
    """What the error means."""

    retryable: bool = False
    """Whether a fresh call may succeed later and cannot duplicate."""

    def __init__(
        self,
        detail: str = "",
        *,
        value: int = 0,
        retry_after_ms: int = 0,
        append_key: AppendKey | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        """What was wrong with which field or bound."""
        self.value = value
        """By error: the actual next offset, the byte in the statement, the bound; else 0."""
        self.retry_after_ms = retry_after_ms
        """Where retryable: how long to wait first, in milliseconds."""
        self.append_key = append_key
        """For an append that was sent and whose outcome is unknown: what settles it."""

    def __str__(self) -> str:
        text = f"{self.name} ({self.code}): {self.message}"
        return f"{text} {self.detail}" if self.detail else text
