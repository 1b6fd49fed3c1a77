"""Finds and loads the native library, and turns its details into errors.

The library is called through two faces: ``waiting`` lets other Python threads run meanwhile, and
``quick`` does not, which is cheaper for functions that never block.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kimberlite._abi import ABI_VERSION, DETAIL, DETAIL_OUTCOME_UNKNOWN, PROTOTYPES
from kimberlite._error_base import AppendKey, KimberliteError
from kimberlite._generated import (
    ERROR_CLASSES,
    InvalidArgumentError,
    InvalidUtf8Error,
    UnknownError,
    VersionMismatchError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

U64_MAX: Final = 2**64 - 1
LIBRARY_VARIABLE: Final = "KIMBERLITE_LIBRARY"

string_at = ctypes.string_at


class Library:
    """The loaded library; one for the process."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.waiting: Any = ctypes.CDLL(path)
        self.quick: Any = ctypes.PyDLL(path)
        self._check_version()
        for name, result, arguments in PROTOTYPES:
            for face in (self.waiting, self.quick):
                function = getattr(face, name)
                function.restype = result
                function.argtypes = arguments

    def _check_version(self) -> None:
        """Refuses a library that was made for another wrapper before anything else is called."""
        found = self.quick.kmb_abi_version
        found.restype = ctypes.c_uint32
        found.argtypes = ()
        version = int(found())
        if version != ABI_VERSION:
            raise VersionMismatchError(
                f"this package needs version {ABI_VERSION} of the C ABI; {self.path} has {version};"
                " install a package and a library of the same version"
            )


def _names() -> tuple[str, ...]:
    if sys.platform == "win32":
        return ("kimberlite_ffi.dll",)
    if sys.platform == "darwin":
        return ("libkimberlite_ffi.dylib",)
    return ("libkimberlite_ffi.so",)


def _candidates() -> Iterator[str]:
    """Where the library may be: where the user says, else inside this package."""
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if chosen:
        yield chosen
        return
    folder = Path(__file__).resolve().parent / "_lib"
    for name in _names():
        yield str(folder / name)


def _load() -> Library:
    tried: list[str] = []
    for path in _candidates():
        try:
            return Library(path)
        except (OSError, AttributeError) as error:
            tried.append(f"{path}: {error}")
    listing = "\n  ".join(tried)
    raise ImportError(
        "Kimberlite's native library could not be loaded. Tried:\n  "
        f"{listing}\nInstall a wheel for this platform, or set {LIBRARY_VARIABLE} to the library."
    )


library: Final = _load()
quick: Final = library.quick
waiting: Final = library.waiting


def error_from_detail(code: int, address: int | None, *, free: bool = True) -> KimberliteError:
    """The error for a number and the detail at an address, which is freed."""
    kind = ERROR_CLASSES.get(code, UnknownError)
    if not address:
        error = kind()
    else:
        try:
            (_, flags, retry_after_ms, _, value, producer, sequence, text, text_len) = (
                DETAIL.unpack(string_at(address, DETAIL.size))
            )
            detail = string_at(text, text_len).decode("utf-8", "replace") if text else ""
        finally:
            if free:
                quick.kmb_detail_free(address)
        key = AppendKey(producer, sequence) if flags & DETAIL_OUTCOME_UNKNOWN else None
        error = kind(detail, value=value, retry_after_ms=retry_after_ms, append_key=key)
    if kind is UnknownError:
        # A newer library may know more errors: the number and its text still reach the user.
        error.code = code
    return error


def check(code: int, detail: ctypes.c_void_p) -> None:
    """Raises the error of a call that failed."""
    if code:
        raise error_from_detail(code, detail.value)


def u64(value: int, name: str) -> int:
    """A number that fits into 64 bits, which ctypes would otherwise cut silently."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 0 <= value <= U64_MAX:
        raise InvalidArgumentError(f"{name} is {value}; it must be from 0 to 2**64 - 1")
    return value


def utf8(text: str, name: str) -> bytes:
    """A text as the library takes it."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidUtf8Error(f"{name} cannot be encoded as UTF-8: {error.reason}") from None
