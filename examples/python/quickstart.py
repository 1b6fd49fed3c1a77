"""The main job: write, read, follow live, query, query the past, verify.

python quickstart.py [ADDRESS [TOKEN CA_FILE]]

Without an address it uses a database in memory.
"""

from __future__ import annotations

import sys
import threading

from kimberlite import Client, DataClass


def main(address: str, token: str | None, ca_file: str) -> None:
    # cut-begin
    with Client.connect([address], tenant_id=1, auth_token=token, tls_ca_file=ca_file) as client:
        visits = client.create_stream("visits_python", DataClass.PHI)
        before = client.append_result(visits, [b'{"patient": 7, "reason": "check-up"}'])
        client.append(visits, [b'{"patient": 9, "reason": "fracture"}'])

        for event in client.read(visits, from_offset=0, max_events=100):
            print(f"read: offset {event.offset} at {event.timestamp:%H:%M:%S}: {event.data!r}")

        # A subscription gives what is there, then what comes.
        with client.subscribe(visits) as subscription:
            event_to_come = [b'{"patient": 7, "reason": "follow-up"}']
            threading.Timer(0.1, client.append, (visits, event_to_come)).start()
            for event in subscription:
                print(f"live: offset {event.offset}: {event.data!r}")
                if b"follow-up" in event.data:
                    break

        sql = (
            "SELECT id, data ->> '$.reason' AS reason FROM visits_python"
            " WHERE data ->> '$.patient' = ?"
        )
        for row in client.query(sql, [7]):
            print(f"sql: {row['id']} {row['reason']}")

        # The same question, as of the moment of the first append.
        for row in client.query_at(sql, [7], position=before.position):
            print(f"sql as of position {before.position}: {row['id']} {row['reason']}")

        found = client.verify(visits)
        print(f"verify: valid={found.valid}, {found.count} events, head {found.head.hex()[:16]}…")
        # This process can walk the same chain itself.
        assert client.verify_locally(visits).head == found.head
    # cut-end


if __name__ == "__main__":
    given = sys.argv[1:]
    address = given[0] if given else "memory:"
    main(address, given[1] if len(given) > 1 else None, given[2] if len(given) > 2 else "")
