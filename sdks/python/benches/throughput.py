"""What the SDK costs over the C ABI: batches of 1,000 events and pages of 10,000, on `memory:`.

python benches/throughput.py

Each round measures the library alone (one call, arguments made beforehand) and the SDK right after
it, so that the machine is the same for both; medians of the rounds' ratios are printed.
"""

from __future__ import annotations

import ctypes
import statistics
import struct
import time
from typing import Callable

from kimberlite import Client, DataClass, StreamId
from kimberlite._native import quick, waiting

ROUNDS = 15
BATCHES = 100
EVENTS = [bytes(100) for _ in range(1000)]


def rate(work: Callable[[], int]) -> float:
    """Events per second."""
    start = time.perf_counter()
    events = work()
    return events / (time.perf_counter() - start)


def library_append(client: Client, stream: StreamId) -> Callable[[], int]:
    data = b"".join(EVENTS)
    lens = struct.pack("=1000I", *map(len, EVENTS))
    out = ctypes.create_string_buffer(64)

    def work() -> int:
        for _ in range(BATCHES):
            code = waiting.kmb_append(
                client._handle, stream, 2**64 - 1, data, len(data), lens, 1000, None, out, None
            )
            assert code == 0
        return BATCHES * 1000

    return work


def library_read(client: Client, stream: StreamId) -> Callable[[], int]:
    def work() -> int:
        reader, page = ctypes.c_void_p(), ctypes.c_void_p()
        quick.kmb_reader_new(client._handle, stream, 0, 10_000, None, ctypes.byref(reader), None)
        events = 0
        while waiting.kmb_reader_next(reader, ctypes.byref(page), None) == 0 and page:
            events += ctypes.c_uint64.from_address(page.value or 0).value
            quick.kmb_page_free(page)
        quick.kmb_reader_close(reader, None)
        return events

    return work


def sdk_append(client: Client, stream: StreamId) -> Callable[[], int]:
    def work() -> int:
        for _ in range(BATCHES):
            client.append(stream, EVENTS)
        return BATCHES * 1000

    return work


def main() -> None:
    with Client.connect(["memory:"], 1) as client:
        stream = client.create_stream("events", DataClass.NON_PHI)
        read, append = library_read(client, stream), library_append(client, stream)
        pairs: dict[str, tuple[Callable[[], int], Callable[[], int]]] = {
            "append": (append, sdk_append(client, stream)),
            "pages": (read, lambda: sum(len(p.data) // 100 for p in client.pages(stream))),
            "views": (read, lambda: sum(1 for p in client.pages(stream) for _ in p.views())),
            "payloads": (read, lambda: sum(len(p.payloads()) for p in client.pages(stream))),
            "events": (read, lambda: sum(1 for _ in client.events(stream))),
        }
        append()
        for name, (library, sdk) in pairs.items():
            rates = [(rate(library), rate(sdk)) for _ in range(ROUNDS)]
            ratio = statistics.median(mine / alone for alone, mine in rates)
            alone, mine = (statistics.median(column) / 1e6 for column in zip(*rates))
            print(f"{name:9} library {alone:5.1f}M/s  SDK {mine:5.1f}M/s  {ratio:4.0%}")


main()
