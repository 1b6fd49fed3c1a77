//! The commit thread: takes everything that waits, judges it, writes it as one group, applies it,
//! and answers. Nothing is answered before the state it was judged on is durable. Where there is no
//! disk to wait for, a caller may do the same on its own thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use kimberlite_log::{
    ENTRY_HEADER_BYTES, EntryDraft, EntryPlace, LogWriter, REQUEST_ROW_BYTES, StateMachine,
};
use kimberlite_wire::{Error, ErrorCode};

use crate::audit::Audit;
use crate::clock::CommitClock;
use crate::job::{Done, Job, Reply, Work};
use crate::queue::{Queue, Woken};
use crate::sequencer::{Cursor, Group};
use crate::state::{Entry, Machine, closed};
use crate::stats::CommitStats;
use crate::sync::{Mutex, thread};
use crate::waiters::lock;

/// How often producers are looked through for idle ones.
const EXPIRY_SWEEP: Duration = Duration::from_secs(3_600);
/// Where a commit takes less than this, gathering more for one is not worth a pause.
const CHEAP_COMMIT: Duration = Duration::from_micros(50);
/// Where a commit takes longer than this, nobody waits for one who may have to give up waiting.
const CALM_COMMIT: Duration = Duration::from_millis(2);
/// How often the processor is offered to those who are about to send more, before a group begins.
const MAX_YIELDS: usize = 8;
/// A buffer for blocks is used again unless a group made it larger than this.
const MAX_SPARE_BYTES: usize = 32 << 20;

/// Where the committer is while nobody commits; empty once it is gone.
pub(crate) type Seat = Mutex<Option<Committer>>;

/// The commit thread's own, and of callers who commit on their own thread.
#[derive(Debug)]
pub(crate) struct Committer {
    machine: Machine,
    writer: LogWriter,
    queue: Arc<Queue>,
    audit: Arc<Audit>,
    clock: Arc<CommitClock>,
    stats: Arc<CommitStats>,
    /// The epoch that this opening of the log began, and the number of its last entry.
    epoch: Option<u64>,
    ordinal: u64,
    spare: Vec<u8>,
    /// How many requests the last group held.
    last_group: usize,
    /// How long it took to be durable.
    last_commit: Duration,
    next_sweep: Instant,
    /// Set where what was committed could not be applied: the state is not the log's any more.
    broken: Option<Error>,
}

impl Committer {
    pub(crate) fn new(
        machine: Machine,
        writer: LogWriter,
        queue: &Arc<Queue>,
        audit: &Arc<Audit>,
        clock: &Arc<CommitClock>,
        stats: &Arc<CommitStats>,
    ) -> Committer {
        Committer {
            machine,
            writer,
            queue: queue.clone(),
            audit: audit.clone(),
            clock: clock.clone(),
            stats: stats.clone(),
            epoch: None,
            ordinal: 0,
            spare: Vec::new(),
            last_group: 0,
            last_commit: Duration::ZERO,
            next_sweep: Instant::now() + EXPIRY_SWEEP,
            broken: None,
        }
    }

    /// Commits until the queue is closed and empty, then closes the log; STORAGE where that was
    /// not possible in good order, the defect where a caller's thread met one.
    pub(crate) fn run(seat: &Seat, queue: &Queue) -> Result<(), Error> {
        let mut waiting = VecDeque::new();
        loop {
            let mut came = Woken::Idle;
            if waiting.is_empty() {
                let Some(wake_at) = lock(seat).as_ref().map(Committer::wake_at) else { break };
                came = queue.take(wake_at);
            } else {
                queue.take_more(&mut waiting);
            }
            let mut seated = lock(seat);
            let Some(committer) = seated.as_mut() else { break };
            match came {
                Woken::Jobs(jobs) => {
                    waiting = jobs;
                    committer.let_gather(&mut waiting);
                }
                Woken::Idle => {}
                Woken::Closed => break,
            }
            committer.keep_house(&mut waiting);
            committer.commit_some(&mut waiting);
        }
        let Some(mut committer) = lock(seat).take() else {
            return Err(queue.end().unwrap_or_else(closed));
        };
        queue.take_more(&mut waiting);
        waiting.extend(committer.audit.end(true));
        while !waiting.is_empty() {
            committer.commit_some(&mut waiting);
        }
        // A machine that lacks what was committed would make a false state.
        let machine = committer.broken.is_none().then_some(&committer.machine as &dyn StateMachine);
        let proven = committer.writer.prove_end();
        committer.stats.proven.store(proven.is_ok(), Ordering::Relaxed);
        proven.and_then(|()| committer.writer.close_with_state(machine)).inspect_err(|error| {
            tracing::warn!(%error, "the log was not closed cleanly");
        })
    }

    /// When there is something to do though nobody asks.
    fn wake_at(&self) -> Option<Instant> {
        self.audit.next_end().into_iter().chain([self.next_sweep]).min()
    }

    /// Whether these jobs fit into the present segment. The work that comes with the next one is
    /// the commit thread's.
    pub(crate) fn has_room(&self, jobs: &VecDeque<Job>) -> bool {
        let bytes: usize = jobs.iter().map(Job::bytes).sum();
        bytes as u64 * 2 < self.writer.room()
    }

    /// Whether whoever commits is likely to do so alone and soon.
    pub(crate) fn is_calm(&self) -> bool {
        self.last_group <= 1 && self.last_commit < CALM_COMMIT
    }

    /// Where the last group was large, those who were answered are sending their next requests just
    /// now: they are let run while more comes, because a group of the first of them would make all
    /// others wait for one more write. A caller on its own never waits.
    fn let_gather(&mut self, waiting: &mut VecDeque<Job>) {
        if self.last_commit < CHEAP_COMMIT {
            return;
        }
        for _ in 0..MAX_YIELDS {
            if waiting.len() * 2 > self.last_group {
                break;
            }
            thread::yield_now();
            let before = waiting.len();
            self.queue.take_more(waiting);
            if waiting.len() == before {
                break;
            }
        }
    }

    fn keep_house(&mut self, waiting: &mut VecDeque<Job>) {
        waiting.extend(self.audit.end(false));
        let now = Instant::now();
        if now >= self.next_sweep {
            self.next_sweep = now + EXPIRY_SWEEP;
            let last_ns = self.writer.last_timestamp_ns();
            if !self.machine.producers.idle(self.clock.now_ns(last_ns)).is_empty() {
                let (work, reply) = (Work::ExpireProducers, Reply::None);
                waiting.push_back(Job { work, reply, deadline: None });
            }
        }
    }

    /// Takes as many jobs as one group holds, and commits them.
    pub(crate) fn commit_some(&mut self, waiting: &mut VecDeque<Job>) {
        if waiting.is_empty() {
            return;
        }
        let cursor = match self.cursor() {
            Ok(cursor) => cursor,
            Err(error) => {
                let error = error.without_effect();
                waiting.drain(..).for_each(|job| job.reply.send(Err(error.clone())));
                return;
            }
        };
        let now = Instant::now();
        let mut judged: Vec<(Job, Result<Done, Error>)> = Vec::with_capacity(waiting.len());
        let mut group = Group::new(&self.machine, cursor, std::mem::take(&mut self.spare));
        while !group.is_full() {
            let Some(job) = waiting.pop_front() else { break };
            if job.deadline.is_some_and(|deadline| deadline <= now) {
                job.reply.send(Err(too_late()));
                continue;
            }
            let result = group.judge(&job);
            judged.push((job, result));
        }
        let (drafts, cursor) = group.finish();
        self.last_group = judged.len();
        let had_failed = self.writer.failure().is_some();
        match self.commit(drafts, cursor, false) {
            Ok(()) => {
                self.stats.group_requests.observe(judged.len() as u64);
                self.tell(judged);
            }
            Err(error) => {
                let has_failed = self.writer.failure().is_some() || self.broken.is_some();
                let is_unknown = has_failed && !had_failed;
                self.commit_reserved(judged, &error, is_unknown);
            }
        }
    }

    fn cursor(&self) -> Result<Cursor, Error> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        Ok(Cursor {
            next_index: self.writer.next_index(),
            epoch: self.epoch,
            ordinal: self.ordinal,
            timestamp_ns: self.clock.commit_ns(self.writer.last_timestamp_ns())?,
        })
    }

    /// After a failure: refuses the jobs but for those that may use what the log keeps back for
    /// them, which are judged once more and committed by themselves.
    /// Where the write itself failed, the refused appends may have happened all the same; else
    /// nothing of them was written.
    fn commit_reserved(
        &mut self,
        judged: Vec<(Job, Result<Done, Error>)>,
        error: &Error,
        is_unknown: bool,
    ) {
        tracing::error!(%error, "a group could not be committed");
        let (again, refused): (Vec<_>, Vec<_>) =
            judged.into_iter().partition(|(job, _)| job.may_use_reserve());
        for (job, result) in refused {
            // Refusals, too, were judged on what did not come to be.
            let mut error = error.clone();
            if is_unknown && result.is_ok() {
                error.outcome_unknown = job.work.append_key();
            } else {
                error.no_effect = true;
            }
            job.reply.send(Err(error));
        }
        if again.is_empty() {
            return;
        }
        let result = self.cursor().and_then(|cursor| {
            let mut group = Group::new(&self.machine, cursor, Vec::new());
            let judged: Vec<_> = again.iter().map(|(job, _)| group.judge(job)).collect();
            let (drafts, cursor) = group.finish();
            self.commit(drafts, cursor, true).map(|()| judged)
        });
        match result {
            Ok(judged) => {
                self.tell(again.into_iter().map(|(job, _)| job).zip(judged));
            }
            Err(error) => {
                again.into_iter().for_each(|(job, _)| job.reply.send(Err(error.clone())));
            }
        }
    }

    /// Makes the entries durable and applies them. A failure leaves nothing of them behind here.
    fn commit(
        &mut self,
        mut drafts: Vec<EntryDraft>,
        cursor: Cursor,
        reserved: bool,
    ) -> Result<(), Error> {
        if drafts.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let committed = if reserved {
            self.writer.commit_reserved(&drafts)
        } else {
            self.writer.commit(&drafts)
        };
        self.last_commit = started.elapsed();
        self.count(&drafts, committed.as_deref().unwrap_or(&[]));
        match committed {
            Ok(places) => {
                (self.epoch, self.ordinal) = (cursor.epoch, cursor.ordinal);
                self.apply(&drafts, &places).inspect_err(|error| {
                    self.broken = Some(error.clone());
                })?;
            }
            Err(error) => {
                // Entries after a refusal belong to a new epoch: those refused may come to light
                // again, and must be void then.
                self.epoch = None;
                self.keep_spare(&mut drafts);
                return Err(error);
            }
        }
        self.keep_spare(&mut drafts);
        Ok(())
    }

    /// Answers what became durable.
    fn tell(&self, judged: impl IntoIterator<Item = (Job, Result<Done, Error>)>) {
        let told = judged.into_iter().filter_map(|(job, result)| {
            self.count_job(&job.work, &result);
            job.reply.put(result)
        });
        let wakers: Vec<Waker> = told.collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Counts what was asked for and became durable.
    fn count_job(&self, work: &Work, result: &Result<Done, Error>) {
        let add = |counter: &AtomicU64, count: u32| {
            counter.fetch_add(u64::from(count), Ordering::Relaxed);
        };
        match (work, result) {
            (Work::Audit { events, .. }, Ok(_)) => add(&self.stats.audit_records, events.count()),
            (Work::Append(append), Ok(_)) => {
                add(&self.stats.appends, 1);
                add(&self.stats.events, append.count);
            }
            _ => {}
        }
    }

    /// Counts what became durable: nothing where there are no places.
    fn count(&self, drafts: &[EntryDraft], places: &[EntryPlace]) {
        self.stats.failed.store(self.writer.failure().is_some(), Ordering::Relaxed);
        let Some(last) = places.last() else { return };
        let block_bytes = drafts.iter().map(|draft| draft.blocks.len() as u64).sum();
        self.stats.groups.fetch_add(1, Ordering::Relaxed);
        self.stats.block_bytes.fetch_add(block_bytes, Ordering::Relaxed);
        self.stats.commit.observe_duration(self.last_commit);
        self.stats.sync.observe_duration(self.writer.last_sync());
        self.stats.segment.store(last.segment, Ordering::Relaxed);
    }

    fn apply(&mut self, drafts: &[EntryDraft], places: &[EntryPlace]) -> Result<(), Error> {
        if drafts.len() != places.len() {
            return Err(Error::new(ErrorCode::Internal, "the log lost count of its entries"));
        }
        for (draft, place) in drafts.iter().zip(places) {
            let before_blocks = ENTRY_HEADER_BYTES + draft.rows.len() * REQUEST_ROW_BYTES;
            self.machine.apply(Entry {
                kind: draft.kind,
                index: place.index,
                epoch: draft.epoch,
                ordinal: draft.ordinal,
                timestamp_ns: draft.timestamp_ns,
                rows: draft.rows.iter().copied(),
                command: &draft.command,
                blocks: &draft.blocks,
                segment: place.segment,
                blocks_start: place.position + before_blocks as u64,
            })?;
        }
        if let Some(last) = places.last() {
            self.machine.publish(last.index);
        }
        Ok(())
    }

    /// Keeps the largest buffer of the group for the next one: memory that was touched before is
    /// much faster to write.
    fn keep_spare(&mut self, drafts: &mut [EntryDraft]) {
        let buffers = drafts.iter_mut().map(|draft| std::mem::take(&mut draft.blocks));
        if let Some(mut largest) = buffers.max_by_key(Vec::capacity)
            && largest.capacity() <= MAX_SPARE_BYTES
        {
            largest.clear();
            self.spare = largest;
        }
    }
}

fn too_late() -> Error {
    let detail = "the deadline passed while the request waited to be committed; nothing was done";
    Error::new(ErrorCode::Timeout, detail)
}
