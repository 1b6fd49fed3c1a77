"""Files in and out: an export that goes on where it ended, and an import that is done once.

python import_export.py [ADDRESS [TOKEN CA_FILE]]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kimberlite import Client, DataClass, Progress


def readings(count: int) -> Iterator[bytes]:
    """Events from anywhere: a table, a queue, another database."""
    for n in range(count):
        yield json.dumps({"sensor": n % 7, "value": n}).encode()


def tell(progress: Progress) -> None:
    print(f"  {progress.events} events, {progress.bytes} bytes")


def main(address: str, token: str | None, ca_file: str, folder: Path) -> None:
    with Client.connect([address], tenant_id=1, auth_token=token, tls_ca_file=ca_file) as client:
        source = client.create_stream("readings", DataClass.NON_PHI)
        done = client.import_events(source, readings(10_000), first_offset=0, progress=tell)
        print(f"imported: {done.events} events, {done.new_events} of them now")

        # Called again, after an interruption or not, it appends what is not there yet.
        done = client.import_events(source, readings(12_000), first_offset=0)
        print(f"imported: {done.events} events, {done.new_events} of them now")

        file = folder / "readings.ndjson"
        client.export_events(source, file, to_offset=5_000)
        done = client.export_events(source, file, resume=True)
        print(f"exported: {done.events} events, {done.new_events} of them now")

        # The command reads and writes the same files: kimberlite import copy readings.ndjson
        copy = client.create_stream("readings_copy", DataClass.NON_PHI)
        client.import_events(copy, file, first_offset=0)
        same = all(
            one.data == other.data for one, other in zip(client.events(source), client.events(copy))
        )
        print(f"equal: {same}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as place:
        main(
            arguments[0] if arguments else "memory:",
            arguments[1] if len(arguments) > 1 else None,
            arguments[2] if len(arguments) > 2 else "",
            Path(place),
        )
