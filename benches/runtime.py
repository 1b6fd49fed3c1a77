"""An empty program of Python's runtime, and how large its managed heap is.

Run by itself it answers each line of standard input and does nothing else; with ``--asyncio``
inside of a loop.
"""

from __future__ import annotations

import os
import sys

# What is larger does not come from the arenas of CPython's allocator for objects.
SMALL_BYTES = 512


def arena_bytes() -> int:
    """The arenas of the allocator for small objects; tracing hides them."""
    import re
    import tempfile

    with tempfile.TemporaryFile() as told:
        # The interpreter writes them to the file descriptor itself.
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(told.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        told.seek(0)
        text = told.read().decode()
    found = re.search(r"(\d+) arenas \* (\d+) bytes/arena", text)
    if found is None:
        raise RuntimeError("this Python does not tell the size of its heap")
    return int(found[1]) * int(found[2])


def give_back() -> None:
    """Gives the system what the allocator keeps free: which freed megabyte it keeps is chance."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def large_bytes() -> int:
    """The objects beside the arenas, where PYTHONTRACEMALLOC lets them be known."""
    import tracemalloc

    traces = tracemalloc.take_snapshot().traces
    return sum(trace.size for trace in traces if trace.size > SMALL_BYTES)


def answer(line: str) -> int:
    """What is told of the heap."""
    return {"small": arena_bytes, "large": large_bytes}.get(line.strip(), int)()


def main() -> None:
    for line in sys.stdin:
        print(answer(line), flush=True)


async def asynchronous() -> None:
    main()


if __name__ == "__main__":
    if "--asyncio" in sys.argv:
        import asyncio

        asyncio.run(asynchronous())
    else:
        main()
