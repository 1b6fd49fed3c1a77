from kimberlite import Client, DataClass

with Client.connect(addresses=["embedded:./clinic"], tenant_id=1) as client:
    visits = client.create_stream("visits", DataClass.PHI)
    client.append(
        visits, [b'{"patient": 7, "reason": "check-up"}', b'{"patient": 9, "reason": "fracture"}']
    )
    for event in client.read(visits, from_offset=0, max_events=100):
        print(event.offset, event.data)
    for row in client.query("SELECT id, data ->> '$.reason' AS reason FROM visits"):
        print(row["id"], row["reason"])
    print(client.verify(visits))
