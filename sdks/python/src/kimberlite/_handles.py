"""What holds a handle of the native library."""

from __future__ import annotations

from typing import NoReturn


class Uncopied:
    """An object that stands for something open, which has one owner.

    A copy would close it under the original, and a pickle would carry a number that means nothing
    in another process.
    """

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"a {name} cannot be copied or pickled; share it, or make another one")


__all__ = ["Uncopied"]
