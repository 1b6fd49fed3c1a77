//! Tenants, streams and their names, and who may do what.

mod support;

use bytes::Bytes;
use kimberlite_engine::{Engine, EngineOptions};
use kimberlite_wire::*;
use support::*;

/// A stream is created once: again with the same class it is the same one, under any case of its
/// ASCII letters; with another class it exists.
#[test]
fn streams_are_created_once() {
    let engine = memory();
    let writer = writer(&engine);
    let first = writer.create_stream("Vitals", DataClass::Phi).unwrap();
    assert!(first.created);
    for name in ["Vitals", "vitals", "VITALS"] {
        let again = writer.create_stream(name, DataClass::Phi).unwrap();
        assert!(!again.created);
        assert_eq!((again.stream_id, again.position), (first.stream_id, first.position));
    }
    let other = writer.create_stream("vitals", DataClass::NonPhi).unwrap_err();
    assert_eq!(other.code, ErrorCode::StreamExists);
    assert!(other.detail.contains("PHI"), "{other}");
    // Letters beyond ASCII are not folded.
    let upper = writer.create_stream("Ärzte", DataClass::NonPhi).unwrap();
    let lower = writer.create_stream("ärzte", DataClass::NonPhi).unwrap();
    assert_ne!(upper.stream_id, lower.stream_id);
    assert_eq!(writer.info(first.stream_id).unwrap().name, "Vitals");
}

/// A tenant has as many streams as the engine allows, its audit stream left out, also where one group
/// creates them; those that exist go on, other tenants have their own, and a restart counts again.
#[test]
fn streams_of_a_tenant_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        |bound| EngineOptions { streams_per_tenant: bound, ..EngineOptions::folder(folder.path()) };
    let engine = Engine::open(options(20)).unwrap();
    engine.ensure_tenant(1).unwrap();
    engine.ensure_tenant(2).unwrap();
    let made: usize = std::thread::scope(|scope| {
        let engine = &engine;
        let create = |thread: usize| {
            let writer = writer(engine);
            let names = (0..10).map(|n| format!("s{thread}_{n}"));
            names.filter(|n| writer.create_stream(n, DataClass::NonPhi).is_ok()).count()
        };
        let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || create(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(made, 20);
    let refused = writer(&engine).create_stream("more", DataClass::NonPhi).unwrap_err();
    assert_eq!((refused.code, refused.value), (ErrorCode::LimitExceeded, 20));
    assert!(refused.detail.contains("limits.max_streams_per_tenant"), "{refused}");
    let other = caller(&engine, "bob", 2, Role::Writer);
    assert!(other.create_stream("more", DataClass::NonPhi).is_ok());
    engine.close();
    let engine = Engine::open(options(20)).unwrap();
    assert_eq!(
        code(writer(&engine).create_stream("more", DataClass::NonPhi)),
        ErrorCode::LimitExceeded
    );
    engine.close();
    // A lower bound takes nothing away.
    let engine = Engine::open(options(1)).unwrap();
    let other = caller(&engine, "bob", 2, Role::Writer);
    let again = other.create_stream("more", DataClass::NonPhi).unwrap();
    assert!(!again.created);
    other.append(again.stream_id, &[b"x"]).unwrap();
}

/// Names that no stream may have, and a class that there is none of.
#[test]
fn bad_streams_are_refused() {
    let engine = memory();
    let writer = writer(&engine);
    for name in ["", "_x", "_audit", "SQLite_x", "pragma_x", "a\u{0}b"] {
        let result = writer.create_stream(name, DataClass::NonPhi);
        assert_eq!(code(result), ErrorCode::InvalidArgument, "{name:?}");
    }
    let long = writer.create_stream(&"n".repeat(256), DataClass::NonPhi);
    assert_eq!(code(long), ErrorCode::LimitExceeded);
    let request = CreateStreamRequest { name: "a".to_string(), data_class: 3 };
    let class = writer.call(Request::CreateStream(request));
    assert_eq!(code(class), ErrorCode::InvalidDataClass);
}

/// Many threads create the same streams: each exists once.
#[test]
fn racing_creations_agree() {
    let engine = memory();
    let ids: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let create = || {
            let writer = writer(&engine);
            (0..40).map(|n| writer.stream(&format!("s{n}"))).collect()
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|list| *list == ids[0]));
    let mut distinct = ids[0].clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 40);
}

/// Listing pages by id and tells whether there is more; the audit stream is never among them.
#[test]
fn listing_pages() {
    let engine = memory();
    let writer = writer(&engine);
    let ids: Vec<u64> = (0..25).map(|n| writer.stream(&format!("s{n}"))).collect();
    let mut seen = Vec::new();
    loop {
        let page = writer.list(seen.last().copied().unwrap_or(0), 10).unwrap();
        seen.extend(page.streams.iter().map(|stream| stream.stream_id));
        if !page.more {
            break;
        }
        assert_eq!(page.streams.len(), 10);
    }
    assert_eq!(seen, ids);
    let all = writer.list(0, 0).unwrap();
    assert_eq!((all.streams.len(), all.more), (25, false));
    assert!(all.streams.iter().all(|stream| stream.name != "_audit"));
}

/// A stream is told about by id or by name; without either the question is not valid.
#[test]
fn streams_are_found_by_name() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("Events");
    let ask = |stream_id, name: &str| {
        writer.call(Request::StreamInfo(StreamInfoRequest { stream_id, name: name.to_string() }))
    };
    let Response::StreamInfo(found) = ask(0, "eVENTS").unwrap().body else { panic!("info") };
    assert_eq!((found.stream.stream_id, found.stream.name.as_str()), (stream, "Events"));
    assert_eq!(code(ask(0, "other")), ErrorCode::StreamNotFound);
    assert_eq!(code(ask(0, "_audit")), ErrorCode::PermissionDenied);
    assert_eq!(code(ask(stream + 1, "")), ErrorCode::StreamNotFound);
    assert_eq!(code(ask(0, "")), ErrorCode::InvalidArgument);
}

fn every_operation(stream_id: u64) -> Vec<Request> {
    let batch = events(["x"]);
    vec![
        Request::CreateStream(CreateStreamRequest { name: "new".to_string(), data_class: 1 }),
        Request::Append(AppendRequest {
            stream_id,
            expected_offset: ANY,
            count: 1,
            payload_crc: batch.crc(),
            ..Default::default()
        }),
        Request::Read(ReadRequest { stream_id, max_events: 1, ..Default::default() }),
        Request::Subscribe(SubscribeRequest { stream_id, ..Default::default() }),
        Request::Query(QueryRequest { sql: "SELECT 1".to_string(), ..Default::default() }),
        Request::Verify(VerifyRequest { stream_id }),
        Request::ListStreams(ListStreamsRequest::default()),
        Request::StreamInfo(StreamInfoRequest { stream_id, ..Default::default() }),
        Request::OpenProducer(OpenProducerRequest::default()),
        Request::ListTenants(ListTenantsRequest::default()),
    ]
}

fn payload_of(request: &Request) -> Bytes {
    match request {
        Request::Append(_) => events(["x"]).payload().clone(),
        _ => Bytes::new(),
    }
}

/// Every operation under every role, through the door.
#[test]
fn roles_are_enforced_at_the_door() {
    let engine = memory();
    let stream = writer(&engine).stream("events");
    for role in Role::ALL {
        let caller = caller(&engine, "someone", 1, role);
        for request in every_operation(stream) {
            let operation = request.operation();
            let payload = payload_of(&request);
            let result = block_on(caller.start(request, payload));
            if role >= operation.role() {
                result.unwrap_or_else(|e| panic!("{operation:?} as {role:?}: {e}"));
            } else {
                assert_eq!(code(result), ErrorCode::PermissionDenied, "{operation:?} as {role:?}");
            }
        }
    }
    let hello = writer(&engine).call(Request::Hello(HelloRequest::default()));
    assert_eq!(code(hello), ErrorCode::Protocol);
}

/// A tenant that does not exist is not found, whatever the role and the operation.
#[test]
fn missing_tenants_are_not_found() {
    let engine = memory();
    let stream = writer(&engine).stream("events");
    for role in [Role::None, Role::Admin] {
        let caller = caller(&engine, "someone", 77, role);
        for request in every_operation(stream) {
            let operation = request.operation();
            let payload = payload_of(&request);
            let result = block_on(caller.start(request, payload));
            assert_eq!(code(result), ErrorCode::TenantNotFound, "{operation:?} as {role:?}");
        }
    }
    assert!(!engine.tenant_exists(77) && engine.tenant_exists(1));
}

/// Nothing of one tenant is visible to another: not by id, not by name, not in lists or SQL.
#[test]
fn tenants_are_apart() {
    let engine = memory();
    let ours = writer(&engine);
    let theirs = caller(&engine, "writer", 2, Role::Admin);
    let stream = ours.stream("events");
    ours.append(stream, &[b"secret"]).unwrap();

    let requests = every_operation(stream).into_iter().filter(|request| {
        use Operation::*;
        matches!(request.operation(), Append | Read | Subscribe | Verify | StreamInfo)
    });
    for request in requests {
        let operation = request.operation();
        let payload = payload_of(&request);
        let result = block_on(theirs.start(request, payload));
        assert_eq!(code(result), ErrorCode::StreamNotFound, "{operation:?}");
    }
    assert!(theirs.list(0, 0).unwrap().streams.is_empty());
    assert_eq!(theirs.count("SELECT count(*) FROM _streams"), 0);
    assert_eq!(code(theirs.query("SELECT * FROM events")), ErrorCode::QuerySyntax);
    // The same name is another stream there.
    let same = theirs.stream("events");
    assert_ne!(same, stream);
    assert!(theirs.data(same).is_empty());
    assert_eq!(theirs.count("SELECT count(*) FROM events"), 0);
}

/// A tenant's audit stream is reached by no operation but SQL, `stream_info` and `verify`, which only
/// admins may use on it.
#[test]
fn the_audit_stream_is_out_of_reach() {
    let engine = memory();
    let admin = caller(&engine, "ann", 1, Role::Admin);
    let reader = caller(&engine, "bob", 1, Role::Reader);
    // The tenants were created first: their audit streams have the first ids.
    for stream_id in [1, 2] {
        assert_eq!(code(admin.append(stream_id, &[b"{}"])), ErrorCode::StreamNotFound);
        assert_eq!(code(admin.read_all(stream_id, 0)), ErrorCode::StreamNotFound);
        let subscribed = admin.subscribe(stream_id, 0).map(|_| ());
        assert_eq!(code(subscribed), ErrorCode::StreamNotFound);
    }
    // An admin walks the chain of the own tenant's, and of no other.
    assert_eq!(admin.info(1).unwrap().name, "_audit");
    assert!(admin.verify(1).unwrap().valid);
    assert_eq!(code(admin.info(2)), ErrorCode::StreamNotFound);
    assert_eq!(code(admin.verify(2)), ErrorCode::StreamNotFound);
    assert_eq!(admin.count("SELECT count(*) FROM _audit"), 0);
    assert_eq!(admin.count("SELECT count(*) FROM _streams"), 0);
    assert!(reader.query("SELECT count(*) FROM _audit").is_err());
}

/// Tenants come by an admin's word, stay the same when asked for again, and are listed to whoever
/// administers them.
#[test]
fn tenants_are_created() {
    let engine = memory();
    let root = root(&engine);
    let created = root.create_tenant(9).unwrap();
    assert!(created.created && engine.tenant_exists(9));
    let again = root.create_tenant(9).unwrap();
    assert_eq!((again.created, again.position), (false, created.position));
    assert_eq!(code(root.create_tenant(0)), ErrorCode::InvalidArgument);
    assert_eq!(code(engine.ensure_tenant(0)), ErrorCode::InvalidArgument);
    assert_eq!(code(writer(&engine).create_tenant(10)), ErrorCode::PermissionDenied);
    // An admin of a tenant that does not exist yet may create it.
    let own = caller(&engine, "ann", 11, Role::Admin);
    assert!(own.create_tenant(11).unwrap().created);
    assert_eq!(code(own.create_tenant(12)), ErrorCode::PermissionDenied);
    let tenants = |caller: &Caller| {
        let answer = caller.call(Request::ListTenants(ListTenantsRequest {})).unwrap();
        let Response::ListTenants(list) = answer.body else { panic!("a list") };
        list.tenant_ids
    };
    assert_eq!(tenants(&root), [1, 2, 9, 11]);
    assert_eq!(tenants(&own), [11]);
}

/// Deleting a tenant denies everything at once, ends its subscriptions, and uses up its number; a
/// repeat of the deletion is answered like the first.
#[test]
fn tenants_are_deleted() {
    let engine = memory();
    let root = root(&engine);
    root.create_tenant(9).unwrap();
    let writer = caller(&engine, "writer", 9, Role::Writer);
    let stream = writer.stream("events");
    writer.append(stream, &[b"x"]).unwrap();
    let mut subscription = writer.subscribe(stream, 0).unwrap();
    assert_eq!(take(&mut *subscription, 1).len(), 1);
    let waiting = std::thread::spawn(move || {
        let ended = next_chunk(&mut *subscription, 1000).unwrap().unwrap_err();
        (ended.code, next_chunk(&mut *subscription, 1000).is_none())
    });

    let other = caller(&engine, "ann", 1, Role::Admin);
    assert_eq!(code(other.delete_tenant(9)), ErrorCode::PermissionDenied);
    assert_eq!(code(root.delete_tenant(8)), ErrorCode::TenantNotFound);
    let deleted = root.delete_tenant(9).unwrap();
    assert_eq!(root.delete_tenant(9).unwrap(), deleted);
    assert_eq!(waiting.join().unwrap(), (ErrorCode::TenantNotFound, true));

    for request in every_operation(stream) {
        let payload = payload_of(&request);
        let result = block_on(writer.start(request, payload));
        assert_eq!(code(result), ErrorCode::TenantNotFound);
    }
    assert!(!engine.tenant_exists(9));
    assert_eq!(code(root.create_tenant(9)), ErrorCode::InvalidArgument);
    assert_eq!(code(engine.ensure_tenant(9)), ErrorCode::InvalidArgument);
    // Streams created later get ids of their own.
    assert!(support::writer(&engine).stream("later") > stream);
}
