//! Judges the requests that change tenants, streams and producers.

use kimberlite_wire::{
    CreateStreamResponse, CreateTenantResponse, DataClass, DeleteTenantResponse, Error, ErrorCode,
    OpenProducerResponse, Response, limit,
};

use crate::audit_record;
use crate::catalogue::{TenantState, tenant_not_found};
use crate::command::Command;
use crate::job::AppendWork;
use crate::names;
use crate::producers::EXPIRED_FOR_ROOM;
use crate::sequencer::Group;
use crate::session::Session;
use crate::staged::{StagedName, StagedStream, StagedTenant};
use crate::stream::StreamIdentity;

/// How many outcomes one decision forgets, at least, where there is no room for one more.
const FORGOTTEN_FOR_ROOM: usize = 4096;
/// The pause that a caller is advised to make when too much is remembered.
const RETRY_AFTER_MS: u32 = 1_000;

impl Group<'_> {
    pub(super) fn create_stream(
        &mut self,
        tenant_id: u64,
        name: &str,
        data_class: DataClass,
    ) -> Result<Response, Error> {
        self.check_tenant(tenant_id)?;
        if let Some(present) = self.named(tenant_id, name) {
            if present.data_class != data_class {
                return Err(stream_exists(name, &present));
            }
            return Ok(Response::CreateStream(CreateStreamResponse {
                stream_id: present.stream_id,
                created: false,
                position: present.position,
            }));
        }
        self.check_stream_count(tenant_id)?;
        *self.staged.more_streams.entry(tenant_id).or_default() += 1;
        let stream_id = self.next_stream_id();
        let name = name.to_string();
        let command = Command::CreateStream { tenant_id, stream_id, name, data_class };
        let position = self.push_command(&command);
        if let Command::CreateStream { name, .. } = command {
            self.stage_stream(tenant_id, stream_id, name, data_class, position);
        }
        Ok(Response::CreateStream(CreateStreamResponse { stream_id, created: true, position }))
    }

    /// Streams are never deleted but with their tenant, so that only a bound keeps their memory small.
    fn check_stream_count(&self, tenant_id: u64) -> Result<(), Error> {
        let more = self.staged.more_streams.get(&tenant_id).copied().unwrap_or(0);
        let tenant = self.catalogue.tenant(tenant_id);
        let count = tenant.map_or(0, |tenant| tenant.stream_count() as u64) + more;
        let bound = self.streams_per_tenant;
        if count < bound {
            return Ok(());
        }
        let detail = format!(
            "tenant {tenant_id} has {count} streams; at most {bound} are allowed \
             (limits.max_streams_per_tenant in a server's configuration)"
        );
        Err(Error::new(ErrorCode::LimitExceeded, detail).with_value(bound))
    }

    fn named(&self, tenant_id: u64, name: &str) -> Option<StagedName> {
        let staged = self.staged.names.get(&(tenant_id, names::fold(name)));
        staged.copied().or_else(|| {
            let stream = self.catalogue.tenant(tenant_id)?.by_name(name)?;
            Some(StagedName {
                stream_id: stream.identity.stream_id,
                data_class: stream.identity.data_class,
                position: stream.identity.created_at,
            })
        })
    }

    fn stage_stream(
        &mut self,
        tenant_id: u64,
        stream_id: u64,
        name: String,
        data_class: DataClass,
        position: u64,
    ) {
        let staged = StagedName { stream_id, data_class, position };
        self.staged.names.insert((tenant_id, names::fold(&name)), staged);
        let is_audit = name == names::AUDIT_STREAM;
        // The genesis does not depend on when the stream was created.
        let (created_ns, created_at) = (0, position);
        let identity =
            StreamIdentity { stream_id, tenant_id, name, data_class, created_ns, created_at };
        let stream = StagedStream::new(tenant_id, stream_id, is_audit, (0, identity.genesis()));
        self.staged.streams.insert(stream_id, stream);
    }

    fn next_stream_id(&mut self) -> u64 {
        self.staged.last_stream_id += 1;
        self.staged.last_stream_id
    }

    pub(super) fn open_producer(&mut self, session: &Session) -> Result<Response, Error> {
        let tenant_id = session.tenant_id();
        self.check_tenant(tenant_id)?;
        self.make_room_for_producer(tenant_id)?;
        self.staged.last_producer_id += 1;
        let producer_id = self.staged.last_producer_id;
        let principal = session.principal().to_string();
        let opened = Some((tenant_id, principal.clone()));
        let position =
            self.push_command(&Command::OpenProducer { producer_id, tenant_id, principal });
        self.staged.producers.entry(producer_id).or_default().opened = opened;
        *self.staged.more_producers.entry(tenant_id).or_default() += 1;
        Ok(Response::OpenProducer(OpenProducerResponse { producer_id, position }))
    }

    /// Forgets the longest idle producers of a tenant that has as many as it may.
    fn make_room_for_producer(&mut self, tenant_id: u64) -> Result<(), Error> {
        let more = self.staged.more_producers.get(&tenant_id).copied().unwrap_or(0);
        let count = self.producers.count_of(tenant_id).saturating_add_signed(more as isize);
        if (count as u64) < limit::PRODUCERS_PER_TENANT {
            return Ok(());
        }
        let in_use = self.staged.expired.len() + self.staged.producers.len();
        let mut idle = self.producers.longest_idle_of(tenant_id, in_use + EXPIRED_FOR_ROOM);
        idle.retain(|id| !self.is_in_use(*id));
        idle.truncate(EXPIRED_FOR_ROOM);
        if idle.is_empty() {
            let detail = format!("tenant {tenant_id} has {count} producers open, its bound");
            return Err(Error::new(ErrorCode::Overloaded, detail));
        }
        self.expire(idle);
        Ok(())
    }

    /// Forgets producers where the log remembers as many outcomes as it may: those that hold what
    /// nobody settled would else keep every append out until their week has passed.
    pub(super) fn make_room_for_outcome(&mut self, append: &AppendWork) -> Result<(), Error> {
        let remembered = self.producers.outcomes() + self.staged.outcomes - self.staged.forgotten;
        if (remembered as u64) < limit::REMEMBERED_OUTCOMES || self.forgets_as_it_adds(append) {
            return Ok(());
        }
        let (tenant_id, now_ns) = (append.session.tenant_id(), self.timestamp_ns());
        let mut found = self.producers.to_forget_for(tenant_id, now_ns, FORGOTTEN_FOR_ROOM);
        found.retain(|id| *id != append.producer_id && !self.is_in_use(*id));
        if found.is_empty() {
            let detail = format!("the log remembers {remembered} outcomes of appends, its bound");
            let mut error = Error::new(ErrorCode::Overloaded, detail);
            error.retry_after_ms = RETRY_AFTER_MS;
            return Err(error);
        }
        self.expire(found);
        Ok(())
    }

    /// Whether an append lets the log forget as many outcomes of its producer as it adds.
    fn forgets_as_it_adds(&self, append: &AppendWork) -> bool {
        let staged = self.staged.producers.get(&append.producer_id);
        let known = self.producers.get(append.producer_id);
        let acked_below = staged.map_or(0, |producer| producer.acked_below);
        let acked_below = acked_below.max(append.acked_below);
        let forgotten = known.map_or(0, |producer| producer.outcomes_below(acked_below));
        staged.map_or(0, |producer| producer.outcomes.len()) < forgotten
    }

    /// Forgets the producers that were idle for too long.
    pub(super) fn expire_idle(&mut self) {
        let mut idle = self.producers.idle(self.timestamp_ns());
        idle.retain(|id| !self.is_in_use(*id));
        if !idle.is_empty() {
            self.expire(idle);
        }
    }

    /// Whether the group has used the producer, or has expired it already.
    fn is_in_use(&self, producer_id: u64) -> bool {
        self.staged.expired.contains(&producer_id)
            || self.staged.producers.contains_key(&producer_id)
    }

    fn expire(&mut self, producer_ids: Vec<u64>) {
        self.staged.expired.extend(&producer_ids);
        for producer in producer_ids.iter().filter_map(|id| self.producers.get(*id)) {
            *self.staged.more_producers.entry(producer.tenant_id).or_default() -= 1;
            self.staged.forgotten += producer.held();
        }
        self.push_command(&Command::ExpireProducers { producer_ids });
    }

    pub(super) fn create_tenant(
        &mut self,
        session: Option<&Session>,
        tenant_id: u64,
    ) -> Result<Response, Error> {
        let present = match (self.staged.tenants.get(&tenant_id), self.catalogue.state(tenant_id)) {
            (Some(StagedTenant::Created { position, .. }), _) => Some(*position),
            (Some(StagedTenant::Deleted { .. }), _) | (None, Some(TenantState::Deleted { .. })) => {
                let detail = format!(
                    "tenant_id {tenant_id} was deleted, and its number is never used again; \
                     use another"
                );
                return Err(Error::invalid(detail));
            }
            (None, Some(TenantState::Live(tenant))) => Some(tenant.created_at),
            (None, None) => None,
        };
        if let Some(position) = present {
            let response = CreateTenantResponse { created: false, position };
            return Ok(Response::CreateTenant(response));
        }
        let audit_stream_id = self.next_stream_id();
        let position = self.push_command(&Command::CreateTenant { tenant_id, audit_stream_id });
        self.staged.tenants.insert(tenant_id, StagedTenant::Created { audit_stream_id, position });
        let audit = names::AUDIT_STREAM.to_string();
        self.stage_stream(tenant_id, audit_stream_id, audit, DataClass::NonPhi, position);
        if let Some(session) = session {
            self.record_act("tenant_created", session, tenant_id)?;
        }
        Ok(Response::CreateTenant(CreateTenantResponse { created: true, position }))
    }

    pub(super) fn delete_tenant(
        &mut self,
        session: &Session,
        tenant_id: u64,
    ) -> Result<Response, Error> {
        let deleted = match (self.staged.tenants.get(&tenant_id), self.catalogue.state(tenant_id)) {
            (Some(StagedTenant::Deleted { position }), _)
            | (None, Some(TenantState::Deleted { position })) => Some(*position),
            (Some(StagedTenant::Created { .. }), _) | (None, Some(TenantState::Live(_))) => None,
            (None, None) => return Err(tenant_not_found(tenant_id)),
        };
        if let Some(position) = deleted {
            return Ok(Response::DeleteTenant(DeleteTenantResponse { position }));
        }
        // Recorded before the act: afterwards the tenant's own audit stream is gone.
        self.record_act("tenant_deleted", session, tenant_id)?;
        let position = self.push_command(&Command::DeleteTenant { tenant_id });
        self.staged.tenants.insert(tenant_id, StagedTenant::Deleted { position });
        Ok(Response::DeleteTenant(DeleteTenantResponse { position }))
    }

    /// Records an administrative act in the tenant that it is about, and in that of whoever did it.
    fn record_act(&mut self, act: &str, session: &Session, tenant_id: u64) -> Result<(), Error> {
        let record = audit_record::act(act, session.principal(), session.tenant_id(), tenant_id)?;
        self.audit(tenant_id, &record)?;
        let home = session.tenant_id();
        if home != tenant_id && self.check_tenant(home).is_ok() {
            self.audit(home, &record)?;
        }
        Ok(())
    }
}

fn stream_exists(name: &str, present: &StagedName) -> Error {
    let detail = format!(
        "stream {name:?} exists with the data class {} ({})",
        present.data_class.name(),
        present.data_class.number()
    );
    Error::new(ErrorCode::StreamExists, detail).with_value(present.stream_id)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kimberlite_log::EntryDraft;
    use kimberlite_wire::{EventBatch, Role};

    use super::*;
    use crate::job::{AppendWork, Done, Events, Job, Reply, Work};
    use crate::producers::{IDLE_EXPIRY, SETTLING};
    use crate::sequencer::{ANY_OFFSET, Cursor};
    use crate::state::{Applied, Entry, Machine};

    /// A state machine whose log takes everything at once.
    struct Bench {
        machine: Machine,
        cursor: Cursor,
    }

    impl Bench {
        fn new() -> Bench {
            let machine = Machine::new(Arc::new(Applied::new()));
            let cursor = Cursor { next_index: 1, epoch: None, ordinal: 0, timestamp_ns: 1 };
            let mut bench = Bench { machine, cursor };
            let work = Work::CreateTenant { session: None, tenant_id: 1 };
            assert!(bench.commit(vec![work])[0].is_ok());
            bench
        }

        /// Judges the work as one group, applies its entries, and tells the answers.
        fn commit(&mut self, work: Vec<Work>) -> Vec<Result<Done, Error>> {
            let mut group = Group::new(&self.machine, self.cursor, Vec::new());
            let job = |work| Job { work, reply: Reply::None, deadline: None };
            let judged = work.into_iter().map(|work| group.judge(&job(work))).collect();
            let (drafts, cursor) = group.finish();
            drafts.iter().zip(self.cursor.next_index..).for_each(|(d, index)| self.apply(d, index));
            self.cursor = cursor;
            judged
        }

        /// Lets producers of tenant 1 hold as many outcomes as the log remembers; how many do.
        fn fill(&mut self) -> u64 {
            self.commit(vec![create_stream()]);
            let window = limit::OUTSTANDING_APPENDS;
            let producers = limit::REMEMBERED_OUTCOMES / window;
            for id in 1..=producers {
                self.cursor.timestamp_ns += 1;
                self.commit(vec![Work::OpenProducer { session: session() }]);
                self.commit((1..=window).map(|sequence| append(id, sequence)).collect());
            }
            producers
        }

        fn apply(&mut self, draft: &EntryDraft, index: u64) {
            let applied = self.machine.apply(Entry {
                kind: draft.kind,
                index,
                epoch: draft.epoch,
                ordinal: draft.ordinal,
                timestamp_ns: draft.timestamp_ns,
                rows: draft.rows.iter().copied(),
                command: &draft.command,
                blocks: &draft.blocks,
                segment: 1,
                blocks_start: 0,
            });
            applied.unwrap();
            self.machine.publish(index);
        }
    }

    fn session() -> Arc<Session> {
        Arc::new(Session::new("ann", 1, Role::Writer, false))
    }

    fn append(producer_id: u64, sequence: u64) -> Work {
        append_to(2, session(), producer_id, sequence)
    }

    fn append_to(stream_id: u64, session: Arc<Session>, producer_id: u64, sequence: u64) -> Work {
        let batch = EventBatch::from_events(["x"]).unwrap();
        Work::Append(AppendWork {
            session,
            stream_id,
            expected_offset: ANY_OFFSET,
            producer_id,
            sequence,
            acked_below: 1,
            count: 1,
            digest: batch.crc(),
            events: Events::Small(batch),
        })
    }

    fn create_stream() -> Work {
        let name = "events".to_string();
        Work::CreateStream { session: session(), name, data_class: DataClass::NonPhi }
    }

    fn codes(results: &[Result<Done, Error>]) -> Vec<ErrorCode> {
        let code = |result: &Result<Done, Error>| {
            result.as_ref().map_or_else(|e| e.code, |_| ErrorCode::Ok)
        };
        results.iter().map(code).collect()
    }

    /// A group sees what its own requests have decided before: a stream, a producer, a deletion.
    #[test]
    fn a_group_sees_its_own_decisions() {
        let mut bench = Bench::new();
        let root = Arc::new(Session::new("root", 1, Role::Admin, true));
        let results = bench.commit(vec![
            append(0, 0),
            create_stream(),
            create_stream(),
            Work::OpenProducer { session: session() },
            append(1, 1),
            append(1, 1),
            append(0, 0),
            Work::DeleteTenant { session: root, tenant_id: 1 },
            append(0, 0),
            create_stream(),
        ]);
        use ErrorCode::{Ok, StreamNotFound, TenantNotFound};
        let expected = [StreamNotFound, Ok, Ok, Ok, Ok, Ok, Ok, Ok, TenantNotFound, TenantNotFound];
        assert_eq!(codes(&results), expected);
        assert!(bench.machine.applied.catalogue().tenant_ids().is_empty());
        assert_eq!(bench.machine.producers.outcomes(), 0);
    }

    /// A producer that was idle for too long is forgotten by a logged decision, one that is at work
    /// is not, and appends of the forgotten one say so.
    #[test]
    fn idle_producers_expire() {
        let mut bench = Bench::new();
        let open = || Work::OpenProducer { session: session() };
        bench.commit(vec![create_stream(), open(), open(), append(1, 1), append(2, 1)]);
        let week_ns = IDLE_EXPIRY.as_nanos() as u64;
        bench.cursor.timestamp_ns += week_ns / 2;
        bench.commit(vec![append(2, 2)]);
        bench.cursor.timestamp_ns += week_ns / 2 + 1;
        let results = bench.commit(vec![Work::ExpireProducers, append(1, 2), append(2, 3)]);
        use ErrorCode::{Ok, ProducerExpired};
        assert_eq!(codes(&results), [Ok, ProducerExpired, Ok]);
        assert_eq!(codes(&bench.commit(vec![append(1, 1)])), [ProducerExpired]);
        // A group that uses a producer does not expire it.
        bench.cursor.timestamp_ns += 2 * week_ns;
        let results = bench.commit(vec![append(2, 4), Work::ExpireProducers, append(2, 5)]);
        assert_eq!(codes(&results), [Ok, Ok, Ok]);
    }

    /// A tenant that has as many producers as it may forgets the longest idle ones for new ones.
    #[test]
    fn producers_of_a_tenant_are_bounded() {
        let mut bench = Bench::new();
        bench.commit(vec![create_stream()]);
        let bound = limit::PRODUCERS_PER_TENANT as usize;
        for _ in 0..bound / 1024 {
            bench.cursor.timestamp_ns += 1;
            let opened = bench
                .commit((0..1024).map(|_| Work::OpenProducer { session: session() }).collect());
            assert!(opened.iter().all(Result::is_ok));
        }
        bench.commit(vec![append(1, 1)]);
        bench.cursor.timestamp_ns += 1;
        let results = bench.commit(vec![
            append(1, 2),
            Work::OpenProducer { session: session() },
            append(2, 1),
            append(1025, 1),
        ]);
        use ErrorCode::{Ok, ProducerExpired};
        assert_eq!(codes(&results), [Ok, Ok, ProducerExpired, Ok]);
        assert!(bench.machine.producers.count_of(1) <= bound);
    }

    /// Outcomes that nobody settles keep appends out for a minute and no longer: then the longest
    /// idle producers are forgotten, as many as make room, and those that are at work stay.
    #[test]
    fn outcomes_that_nobody_settles_make_room() {
        let mut bench = Bench::new();
        let producers = bench.fill();
        let fresh = producers + 1;
        let open = Work::OpenProducer { session: session() };
        use ErrorCode::{Ok, Overloaded, ProducerExpired};
        assert_eq!(codes(&bench.commit(vec![open, append(fresh, 1)])), [Ok, Overloaded]);
        bench.cursor.timestamp_ns += SETTLING.as_nanos() as u64 / 2;
        // A repeat is answered, and is no sign of life: nothing is logged for it.
        assert_eq!(codes(&bench.commit(vec![append(1, 1), append(fresh, 1)])), [Ok, Overloaded]);
        bench.cursor.timestamp_ns += SETTLING.as_nanos() as u64 / 2 + 1;
        let results = bench.commit(vec![append(fresh, 1), append(1, 1), append(producers, 1)]);
        assert_eq!(codes(&results), [Ok, ProducerExpired, Ok]);
        let left = bench.machine.producers.outcomes() as u64;
        assert_eq!(left, limit::REMEMBERED_OUTCOMES - FORGOTTEN_FOR_ROOM as u64 + 1);
    }

    /// A tenant whose producers fill what the log remembers keeps its own appends out, and nobody
    /// else's.
    #[test]
    fn a_tenant_keeps_only_itself_out() {
        let mut bench = Bench::new();
        let producers = bench.fill();
        let other = Arc::new(Session::new("bob", 2, Role::Writer, false));
        let (mine, other_s) = (producers + 1, producers + 2);
        bench.commit(vec![Work::CreateTenant { session: None, tenant_id: 2 }]);
        let name = "events".to_string();
        let create =
            Work::CreateStream { session: other.clone(), name, data_class: DataClass::NonPhi };
        let created = bench.commit(vec![create]);
        let stream_id = match &created[0] {
            Result::Ok(Done::Response(Response::CreateStream(created))) => created.stream_id,
            other => panic!("{other:?}"),
        };
        let open = |session| Work::OpenProducer { session };
        let results = bench.commit(vec![
            open(session()),
            open(other.clone()),
            append(mine, 1),
            append_to(stream_id, other, other_s, 1),
            append(mine, 1),
        ]);
        use ErrorCode::{Ok, Overloaded};
        assert_eq!(codes(&results), [Ok, Ok, Overloaded, Ok, Ok]);
    }

    /// After a time was passed, entries of the same group are later than it.
    #[test]
    fn passing_a_time_parts_a_group() {
        let mut bench = Bench::new();
        bench.commit(vec![create_stream()]);
        let timestamp_ns = bench.cursor.timestamp_ns + 10;
        let results =
            bench.commit(vec![append(0, 0), Work::PassTime { timestamp_ns }, append(0, 0)]);
        let times: Vec<u64> = results
            .into_iter()
            .filter_map(|result| match result {
                Ok(Done::Response(Response::Append(done))) => Some(done.timestamp_ns),
                _ => None,
            })
            .collect();
        assert_eq!(times, [timestamp_ns - 10, timestamp_ns + 1]);
    }
}
