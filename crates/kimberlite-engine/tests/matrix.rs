//! Who may do what, to which stream, of which tenant, and what that leaves on record: every role,
//! every operation, every place, every class. What is expected stands here in its own words and is
//! not computed from the contract, so that a slip there is found.

mod support;

use bytes::Bytes;
use kimberlite_engine::{Answer, Engine};
use kimberlite_wire::*;
use support::*;

/// Where the call's tenant and stream are, seen from the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A stream of the caller's tenant.
    Own,
    /// The id or name of a stream of another tenant, asked for as one's own.
    Others,
    /// The audit stream of the caller's tenant.
    Audit,
    /// The caller works for a tenant that never was.
    Missing,
    /// The caller works for a tenant that was deleted.
    Deleted,
}

const PLACES: [Place; 5] =
    [Place::Own, Place::Others, Place::Audit, Place::Missing, Place::Deleted];
const CLASSES: [DataClass; 3] = [DataClass::Phi, DataClass::NonPhi, DataClass::Deidentified];
const ROLES: [Role; 4] = [Role::None, Role::Reader, Role::Writer, Role::Admin];

/// What is done, and the least role that may.
const ACTS: [(Operation, Role); 12] = [
    (Operation::CreateStream, Role::Writer),
    (Operation::Append, Role::Writer),
    (Operation::Read, Role::Reader),
    (Operation::Subscribe, Role::Reader),
    (Operation::Query, Role::Reader),
    (Operation::Verify, Role::Reader),
    (Operation::ListStreams, Role::Reader),
    (Operation::StreamInfo, Role::Reader),
    (Operation::OpenProducer, Role::Writer),
    (Operation::ListTenants, Role::Admin),
    (Operation::CreateTenant, Role::Admin),
    (Operation::DeleteTenant, Role::Admin),
];

/// A database with two tenants that have streams of every class, and one tenant that is gone.
struct World {
    engine: Engine,
    /// By class: the stream of tenant 1, and the one of tenant 2.
    streams: [(u64, u64); 3],
}

fn stream_name(class: DataClass, tenant_id: u64) -> String {
    format!("{}_{tenant_id}", class.name())
}

fn world() -> World {
    let engine = memory();
    let root = root(&engine);
    for tenant_id in [3, 4] {
        root.create_tenant(tenant_id).unwrap();
    }
    root.delete_tenant(3).unwrap();
    let make = |class, tenant_id| {
        let writer = caller(&engine, "maker", tenant_id, Role::Writer);
        let made = writer.create_stream(&stream_name(class, tenant_id), class).unwrap();
        writer.append(made.stream_id, &[b"secret"]).unwrap();
        made.stream_id
    };
    let streams = CLASSES.map(|class| (make(class, 1), make(class, 2)));
    World { engine, streams }
}

/// The stream that is asked for: its id and its name. Audit streams have the first ids.
fn target(world: &World, place: Place, at: usize) -> (u64, String) {
    let (own, others) = world.streams[at];
    match place {
        Place::Audit => (1, "_audit".to_string()),
        Place::Others => (others, stream_name(CLASSES[at], 2)),
        _ => (own, stream_name(CLASSES[at], 1)),
    }
}

fn request(operation: Operation, place: Place, (stream_id, name): (u64, String)) -> Request {
    let other_tenant = match place {
        Place::Others => 4,
        Place::Missing => 77,
        Place::Deleted => 3,
        _ => 1,
    };
    match operation {
        Operation::CreateStream => {
            let name = if place == Place::Audit { name } else { "new".to_string() };
            Request::CreateStream(CreateStreamRequest { name, data_class: 1 })
        }
        Operation::Append => Request::Append(AppendRequest {
            stream_id,
            expected_offset: ANY,
            count: 1,
            payload_crc: events(["x"]).crc(),
            ..Default::default()
        }),
        Operation::Read => {
            Request::Read(ReadRequest { stream_id, max_events: 1, ..Default::default() })
        }
        Operation::Subscribe => {
            Request::Subscribe(SubscribeRequest { stream_id, ..Default::default() })
        }
        Operation::Query => {
            let sql = format!("SELECT count(*), min(data) FROM \"{name}\"");
            Request::Query(QueryRequest { sql, ..Default::default() })
        }
        Operation::Verify => Request::Verify(VerifyRequest { stream_id }),
        Operation::ListStreams => Request::ListStreams(ListStreamsRequest::default()),
        Operation::StreamInfo => {
            Request::StreamInfo(StreamInfoRequest { stream_id, ..Default::default() })
        }
        Operation::OpenProducer => Request::OpenProducer(OpenProducerRequest::default()),
        Operation::ListTenants => Request::ListTenants(ListTenantsRequest {}),
        Operation::CreateTenant => {
            Request::CreateTenant(CreateTenantRequest { tenant_id: other_tenant })
        }
        Operation::DeleteTenant => {
            Request::DeleteTenant(DeleteTenantRequest { tenant_id: other_tenant })
        }
        Operation::Hello => unreachable!("the door of a server answers it"),
    }
}

/// What must come of it.
fn expected(operation: Operation, least: Role, role: Role, place: Place) -> ErrorCode {
    use ErrorCode::*;
    use Operation::*;
    let gone = matches!(place, Place::Missing | Place::Deleted);
    match operation {
        // An admin creates the tenant that the token names, but a number is used once.
        CreateTenant if role < least || place == Place::Others => PermissionDenied,
        CreateTenant if place == Place::Deleted => InvalidArgument,
        CreateTenant => Ok,
        // A deletion may be repeated by whoever may delete.
        DeleteTenant if place == Place::Deleted && role >= least => Ok,
        DeleteTenant if gone => TenantNotFound,
        DeleteTenant if role >= least && place != Place::Others => Ok,
        DeleteTenant => PermissionDenied,
        _ if gone => TenantNotFound,
        _ if role < least => PermissionDenied,
        // Names that begin with an underscore belong to the database.
        CreateStream if place == Place::Audit => InvalidArgument,
        // Of the audit stream an admin may hear where it ends and whether its chain holds.
        Verify | StreamInfo if place == Place::Audit && role == Role::Admin => Ok,
        Verify | StreamInfo if place == Place::Audit => PermissionDenied,
        Append | Read | Subscribe | Verify | StreamInfo if place != Place::Own => StreamNotFound,
        Query if place == Place::Others => QuerySyntax,
        Query if place == Place::Audit && role < Role::Admin => PermissionDenied,
        _ => Ok,
    }
}

/// Runs one act to its end and tells its error, or OK.
fn outcome(caller: &Caller, request: Request) -> ErrorCode {
    let payload = match request {
        Request::Append(_) => events(["x"]).payload().clone(),
        _ => Bytes::new(),
    };
    let streams = matches!(request, Request::Subscribe(_));
    match block_on(caller.start(request, payload)) {
        Err(error) => error.code,
        Ok(Answer { payload: Some(payload), .. }) if !streams => {
            drain(payload, 1 << 18).map_or_else(|error| error.code, |_| ErrorCode::Ok)
        }
        Ok(_) => ErrorCode::Ok,
    }
}

/// Every role × operation × place × class gets the answer that is written above, and no more.
#[test]
fn everything_is_allowed_or_refused_as_written() {
    let mut checked = 0;
    for (operation, least) in ACTS {
        for place in PLACES {
            for role in ROLES {
                for (at, class) in CLASSES.into_iter().enumerate() {
                    // Each act meets a database of its own: some of them change it.
                    let world = world();
                    let tenant_id = match place {
                        Place::Missing => 77,
                        Place::Deleted => 3,
                        _ => 1,
                    };
                    let someone = caller(&world.engine, "someone", tenant_id, role);
                    let act = request(operation, place, target(&world, place, at));
                    let found = outcome(&someone, act);
                    let wanted = expected(operation, least, role, place);
                    assert_eq!(found, wanted, "{operation:?} {place:?} {role:?} {class:?}");
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, 12 * 5 * 4 * 3);
    let known = Operation::ALL.iter().filter(|o| **o != Operation::Hello);
    assert!(known.clone().all(|o| ACTS.iter().any(|(act, _)| act == o)), "an act is missing");
}

/// By name, too, the audit stream is told of to its tenant's admins alone; what they are told is
/// enough to verify it, which leaves no record and changes nothing.
#[test]
fn the_audit_stream_is_verified_by_admins() {
    let world = world();
    for role in ROLES {
        let someone = caller(&world.engine, "someone", 1, role);
        for name in ["_audit", "_AUDIT"] {
            let name = name.to_string();
            let act = Request::StreamInfo(StreamInfoRequest { stream_id: 0, name });
            let wanted = match role {
                Role::Admin => ErrorCode::Ok,
                _ => ErrorCode::PermissionDenied,
            };
            assert_eq!(outcome(&someone, act), wanted, "{role:?}");
        }
    }
    let admin = caller(&world.engine, "admin", 1, Role::Admin);
    let told = || {
        let name = "_audit".to_string();
        let request = Request::StreamInfo(StreamInfoRequest { stream_id: 0, name });
        match block_on(admin.start(request, Bytes::new())).unwrap().body {
            Response::StreamInfo(told) => told.stream,
            other => panic!("{other:?}"),
        }
    };
    let verified = |stream_id| {
        let request = Request::Verify(VerifyRequest { stream_id });
        match block_on(admin.start(request, Bytes::new())).unwrap().body {
            Response::Verify(verified) => verified,
            other => panic!("{other:?}"),
        }
    };
    let others = caller(&world.engine, "admin", 2, Role::Admin);
    for phi in 0..2 {
        let stream = told();
        let found = verified(stream.stream_id);
        assert_eq!((stream.name.as_str(), stream.data_class), ("_audit", 1), "{phi}");
        assert_eq!(stream.next_offset, admin.audited().len() as u64);
        assert!(found.valid && found.head == stream.head, "{found:?}");
        assert_eq!(found.count, stream.next_offset);
        let act = Request::Verify(VerifyRequest { stream_id: stream.stream_id });
        assert_eq!(outcome(&others, act), ErrorCode::StreamNotFound);
        // An access to health data makes it longer, once.
        let read = request(Operation::Read, Place::Own, target(&world, Place::Own, 0));
        assert_eq!(outcome(&admin, read), ErrorCode::Ok);
    }
    assert_eq!(told().next_offset, verified(told().stream_id).count);
}

/// The audit records exactly the accesses to health data that were let through: nothing that was
/// refused, nothing of other classes, and never the audit itself.
#[test]
fn what_was_let_through_is_on_record() {
    use Operation::*;
    for (operation, least) in ACTS {
        for place in [Place::Own, Place::Others, Place::Audit] {
            for role in ROLES {
                for (at, class) in CLASSES.into_iter().enumerate() {
                    let world = world();
                    let auditor = caller(&world.engine, "auditor", 1, Role::Admin);
                    let before = auditor.audited().len();
                    let someone = caller(&world.engine, "someone", 1, role);
                    let act = request(operation, place, target(&world, place, at));
                    let let_through = outcome(&someone, act) == ErrorCode::Ok;
                    if let_through && operation == DeleteTenant {
                        continue; // its audit is out of reach with it
                    }
                    let added = auditor.audited().split_off(before);
                    let reads = matches!(operation, Read | Subscribe | Query | Verify);
                    let health = place == Place::Own && class == DataClass::Phi;
                    let wanted = usize::from(let_through && reads && health);
                    let case = format!("{operation:?} {place:?} {role:?} {class:?}");
                    assert_eq!(added.len(), wanted, "{case}: {added:?}");
                    for record in added {
                        assert_eq!(record["principal"], "someone", "{case}");
                        assert!(!record.to_string().contains("secret"), "{case}");
                    }
                    assert!(role >= least || !let_through, "{case}");
                }
            }
        }
    }
}
