"""What the checkers must refuse: each ignored error must be there, or the checkers complain."""

from __future__ import annotations

from kimberlite import Client, DataClass


def refused(client: Client) -> None:
    stream = client.create_stream("visits", DataClass.PHI)
    client.create_stream("visits", "PHI")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.append(stream, ["text"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    client.append(5, [b"a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.read(stream, "0")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.query("SELECT ?", [object()])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    Client.connect(["memory:"], 1, no_such_option=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Client.connect(["memory:"], 1, timeout_ms="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
