"""An audit trail: who read which patient's file, what was known when, and proof that it stands.

python audit_trail.py [ADDRESS [TOKEN CA_FILE]]
"""

from __future__ import annotations

import dataclasses
import json
import sys

from kimberlite import Client, DataClass


@dataclasses.dataclass
class Dose:
    drug: str
    dose_mg: int


DOSES = """
SELECT data ->> '$.drug' AS drug, data ->> '$.dose_mg' AS dose_mg
FROM prescriptions WHERE data ->> '$.patient' = ? ORDER BY id
"""


def main(address: str, token: str | None, ca_file: str) -> None:
    with Client.connect([address], tenant_id=1, auth_token=token, tls_ca_file=ca_file) as client:
        stream = client.create_stream("prescriptions", DataClass.PHI)

        def prescribe(patient: int, drug: str, dose_mg: int) -> int:
            event = {"patient": patient, "drug": drug, "dose_mg": dose_mg}
            return client.append_result(stream, [json.dumps(event).encode()]).position

        first = prescribe(7, "amoxicillin", 500)
        prescribe(7, "amoxicillin", 750)
        prescribe(9, "ibuprofen", 400)

        print("now:", list(client.query(DOSES, [7], row_type=Dose)))
        print("then:", list(client.query_at(DOSES, [7], position=first, row_type=Dose)))

        # Each read of protected health information left a record, before its first byte was sent.
        for row in client.query("SELECT data FROM _audit ORDER BY id DESC LIMIT 5"):
            print("audit:", row["data"])

        # The server walks the hash chain, and so does this process, which need not trust it.
        found = client.verify(stream)
        mine = client.verify_locally(stream)
        print(
            f"proof: valid={mine.valid}, {mine.count} events, heads equal={mine.head == found.head}"
        )


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        arguments[0] if arguments else "memory:",
        arguments[1] if len(arguments) > 1 else None,
        arguments[2] if len(arguments) > 2 else "",
    )
