"""Create, read, update and delete over an append-only log: the current state is a query.

python crud.py [ADDRESS [TOKEN CA_FILE]]
"""

from __future__ import annotations

import json
import sys

from kimberlite import Client, DataClass, OffsetMismatchError, StreamId

CURRENT = """
SELECT data ->> '$.id' AS id, data ->> '$.name' AS name, data ->> '$.phone' AS phone
FROM contacts
WHERE id IN (SELECT MAX(id) FROM contacts GROUP BY data ->> '$.id')
  AND data ->> '$.deleted' IS NULL
ORDER BY 1
"""


def save(client: Client, contacts: StreamId, **fields: object) -> int:
    """Appends a contact's new state; nothing is overwritten."""
    return client.append(contacts, [json.dumps(fields).encode()])


def show(client: Client, title: str) -> None:
    print(title)
    for row in client.query(CURRENT):
        print(f"  {row['id']}: {row['name']}, {row['phone']}")


def main(address: str, token: str | None, ca_file: str) -> None:
    with Client.connect([address], tenant_id=1, auth_token=token, tls_ca_file=ca_file) as client:
        contacts = client.create_stream("contacts", DataClass.NON_PHI)
        save(client, contacts, id=1, name="Ada", phone="100")
        save(client, contacts, id=2, name="Grace", phone="200")
        show(client, "created:")

        save(client, contacts, id=2, name="Grace", phone="201")
        show(client, "updated:")

        save(client, contacts, id=1, deleted=True)
        show(client, "deleted:")

        # Two writers: who read before the other wrote, is told so.
        end = client.stream_info(contacts).next_offset
        save(client, contacts, id=2, name="Grace H.", phone="201")
        try:
            client.append(contacts, [b'{"id": 2}'], expected_offset=end)
        except OffsetMismatchError as error:
            print(f"refused: the stream goes on at {error.value}, not at {end}")

        history = client.query("SELECT COUNT(*) FROM contacts")[0][0]
        print(f"history: {history} events, all still there")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        arguments[0] if arguments else "memory:",
        arguments[1] if len(arguments) > 1 else None,
        arguments[2] if len(arguments) > 2 else "",
    )
