"""Sends the library's log lines to Python's logging, as the logger ``kimberlite``."""

from __future__ import annotations

import atexit
import ctypes
import logging
from typing import Any, Final

from kimberlite._generated import LogLevel
from kimberlite._native import check, string_at, waiting

_LEVELS: Final[dict[int, int]] = {
    LogLevel.ERROR: logging.ERROR,
    LogLevel.WARN: logging.WARNING,
    LogLevel.INFO: logging.INFO,
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.TRACE: logging.DEBUG,
}

_CALLBACK = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_size_t,
)


def _log(
    _user_data: int | None, level: int, target: int, target_len: int, text: int, text_len: int
) -> None:
    name = string_at(target, target_len).decode("utf-8", "replace")
    message = string_at(text, text_len).decode("utf-8", "replace")
    number = _LEVELS.get(level, logging.INFO)
    logging.getLogger("kimberlite").log(number, "%s: %s", name, message)


# The library keeps the address of this object, so it must live as long as the process.
_callback: Final[Any] = _CALLBACK(_log)


def _set(callback: Any, level: int) -> None:
    detail = ctypes.c_void_p()
    address = ctypes.cast(callback, ctypes.c_void_p) if callback else None
    check(waiting.kmb_log_set_callback(address, None, level, ctypes.byref(detail)), detail)


def enable_logging(level: LogLevel | None = LogLevel.INFO) -> None:
    """Sends the library's log lines up to a level to the logger ``kimberlite``; None ends it.

    Lines come from a thread of the library. They never hold tokens or data.
    """
    if level is None:
        _set(None, 0)
    else:
        _set(_callback, LogLevel(level))


def _end() -> None:
    # No call may reach an interpreter that is being taken apart.
    waiting.kmb_log_set_callback(None, None, 0, None)


atexit.register(_end)

__all__ = ["enable_logging"]
