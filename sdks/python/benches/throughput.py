"""The SDK's throughput beside the Rust client's: batches of 1,000, pages of 10,000, on `memory:`.

    cargo build --profile fast -p kimberlite-ffi -p kimberlite-bench --bin throughput --lib
    python benches/throughput.py ../../target/fast/throughput

Each round measures the Rust client, in a process of its own that waits meanwhile, and the SDK right
after it, so that the machine is the same for both; medians of the rounds' ratios are printed.

With `--cpu` it counts the processor time of all threads of either side instead of what a clock
shows, for machines that are busy with other things; what runs side by side is then not told.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Callable

import pyarrow

from kimberlite import Client, DataClass

CPU = "--cpu" in sys.argv
ROUNDS = 15
BATCHES = 500
EVENTS = [bytes(100) for _ in range(1000)]
SQL = "SELECT id, timestamp, data FROM events"


class Rust:
    """The program of benches/src/bin/throughput.rs."""

    def __init__(self, program: str) -> None:
        self.process = subprocess.Popen(  # noqa: S603
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def rate(self, work: str) -> float:
        """Events or rows per second."""
        # Linux's clock of another process's processor time.
        clock = (~self.process.pid << 3) | 2
        before = time.clock_gettime(clock)
        per_second = self.ask(work)
        if not CPU:
            return per_second
        done = BATCHES * len(EVENTS)
        return done / (time.clock_gettime(clock) - before)

    def ask(self, work: str) -> float:
        """What the program prints."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(work + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def rate(work: Callable[[], int]) -> float:
    """Events or rows per second."""
    clock = time.process_time if CPU else time.perf_counter
    start = clock()
    done = work()
    return done / (clock() - start)


def main() -> None:
    rust = Rust(sys.argv[1])
    with Client.connect(["memory:"], 1) as client:
        stream = client.create_stream("events", DataClass.NON_PHI)

        def append() -> int:
            for _ in range(BATCHES):
                client.append(stream, EVENTS)
            return BATCHES * len(EVENTS)

        batches = pyarrow.RecordBatchReader.from_stream
        # What is read is as long as what the other side reads.
        rust.rate(f"append {BATCHES}")
        append()
        works: dict[str, tuple[str, Callable[[], int]]] = {
            "columns": ("pages", lambda: sum(len(p.data) // 100 for p in client.pages(stream))),
            "arrow": (
                "pages",
                lambda: sum(b.num_rows for b in batches(client.event_table(stream))),
            ),
            "table": ("pages", lambda: client.event_table(stream).to_arrow().num_rows),
            "payloads": ("pages", lambda: sum(len(p.payloads()) for p in client.pages(stream))),
            "views": ("pages", lambda: sum(1 for p in client.pages(stream) for _ in p.views())),
            "events": ("pages", lambda: sum(1 for _ in client.events(stream))),
            "sql arrow": (
                "query",
                lambda: sum(b.num_rows for b in batches(client.query_cursor(SQL))),
            ),
            "sql rows": ("query", lambda: sum(1 for _ in client.query_cursor(SQL))),
            "append": (f"append {BATCHES}", append),
        }
        for name, (other, work) in works.items():
            work()
            # Appends come last, so that all reads are of one length.
            rates = [(rust.rate(other), rate(work)) for _ in range(ROUNDS)]
            ratio = statistics.median(mine / theirs for theirs, mine in rates)
            theirs, mine = (statistics.median(column) / 1e6 for column in zip(*rates))
            print(f"{name:9} Rust {theirs:5.1f}M/s  Python {mine:5.1f}M/s  {ratio:4.0%}")


main()
