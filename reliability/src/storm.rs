//! Rounds of load with a fault in the middle of each, and a check of everything after it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kimberlite_client::blocking::Client;
use kimberlite_client::{
    At, CallOptions, Config, DataClass, Error, ErrorCode, EventBatch, ExpectedOffset, StreamId,
    VerifiedHead, genesis_of, verify_blocks,
};

use crate::ledger::{Ledger, Told};
use crate::memory::{Memory, Sample};
use crate::proxy::Proxy;
use crate::random::Random;
use crate::server::{Server, Signal, TOKEN, memory_of};
use crate::workers::{self, Shared, WORKERS};

/// What happens to the server or the network in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// kill -9, and a start on the same folder.
    Kill,
    /// kill -TERM, and a start on the same folder.
    Restart,
    /// Every connection is cut.
    Cut,
    /// Every connection is cut in the middle of its bytes.
    CutInside,
    /// Bytes vanish for a while.
    Swallow,
    /// The server's process is stopped for a while.
    Pause,
}

/// What a storm is made of.
pub struct Storm {
    /// The program `kimberlite-server`.
    pub program: PathBuf,
    /// The folder of its data, port and log.
    pub folder: PathBuf,
    /// Everything that is random follows from it, but for what threads and the machine do.
    pub seed: u64,
    /// Which faults there are.
    pub faults: Vec<Fault>,
    /// How many rounds; none: as many as `duration` allows.
    pub rounds: Option<u64>,
    /// When to stop.
    pub duration: Duration,
    /// The longest load before and after a fault, in milliseconds.
    pub load_ms: u64,
}

/// Runs the storm and tells the closing line.
pub fn run(storm: &Storm) -> Result<String, String> {
    let start = Instant::now();
    let mut random = Random::new(storm.seed);
    let mut world = World::new(&storm.program, &storm.folder)?;
    let mut memory = Memory::default();
    let mut round = 0;
    while storm.rounds.is_none_or(|rounds| round < rounds) && start.elapsed() < storm.duration {
        round += 1;
        let fault = *random.pick(&storm.faults);
        world
            .round(round, fault, storm.load_ms, &mut random)
            .map_err(|e| format!("round {round} of seed {}, {fault:?}: {e}", storm.seed))?;
        memory.note(Sample {
            at: start.elapsed(),
            server: world.server.memory("VmRSS"),
            server_peak: world.server.memory("VmHWM").max(world.peak_before),
            clients: memory_of(std::process::id(), "VmRSS"),
        });
        if round % 10 == 0 {
            let t = world.shared.ledger.totals();
            let told = format!("{} appends, {} events, nothing lost", t.appends, t.events);
            println!("round {round}: {told}; {}", memory.now());
        }
    }
    world.check_whole()?;
    memory.judge().map_err(|e| format!("{e}; {}", memory.told()))?;
    let totals = world.shared.ledger.totals();
    Ok(format!(
        "{round} rounds of {:?} in {} s, seed {}: {} appends of {} events acknowledged, {} refused, {} \
         of unknown outcome settled ({} had been done); 0 lost, 0 doubled, every chain proven; {}",
        storm.faults,
        start.elapsed().as_secs(),
        storm.seed,
        totals.appends,
        totals.events,
        totals.refused,
        totals.settled,
        totals.settled_done,
        memory.told(),
    ))
}

/// A server, the network before it, and its clients.
struct World {
    server: Server,
    proxy: Proxy,
    clients: Vec<Client>,
    shared: Shared,
    /// The most that the server held before the last fault, in KiB.
    peak_before: u64,
    /// Counts as of positions, as they were told: (position, stream's place, count).
    past: Vec<(u64, usize, i64)>,
}

impl World {
    fn new(program: &Path, folder: &Path) -> Result<World, String> {
        let server = Server::start(program, folder)?;
        let proxy = Proxy::start(server.address()).map_err(|e| e.to_string())?;
        let connect = || {
            let address = proxy.address().to_string();
            let mut config = Config::new([address]).tenant(1).token(TOKEN);
            // A dead connection must be noticed well within the patience of the calls.
            config.options.keepalive_ms = 1_000;
            Client::connect(config)
        };
        let clients = (0..3).map(|_| connect()).collect::<Result<Vec<_>, _>>().map_err(shown)?;
        let first = clients.first().ok_or("there is no client")?;
        let create = |name: String, class| workers::create(first, &name, class).map_err(shown);
        let streams = (0..6)
            .map(|i| create(format!("storm_{i}"), DataClass::NonPhi))
            .collect::<Result<Vec<_>, _>>()?;
        let health = create("storm_health".into(), DataClass::Phi)?;
        let events = EventBatch::from_events(["x"; 100]).map_err(shown)?;
        first.append(health, ExpectedOffset::Any, events, &patient()).map_err(shown)?;
        let shared = Shared {
            ledger: Ledger::default(),
            streams,
            health,
            health_reads: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            failures: Default::default(),
        };
        Ok(World { server, proxy, clients, shared, peak_before: 0, past: Vec::new() })
    }

    fn round(
        &mut self,
        round: u64,
        fault: Fault,
        load_ms: u64,
        random: &mut Random,
    ) -> Result<(), String> {
        self.shared.stop.store(false, Ordering::SeqCst);
        let (shared, clients) = (&self.shared, &self.clients);
        let (server, proxy) = (&mut self.server, &self.proxy);
        std::thread::scope(|threads| {
            for (name, count, work) in WORKERS {
                for _ in 0..count {
                    let at = random.between(0, clients.len() as u64 - 1) as usize;
                    let Some(client) = clients.get(at).cloned() else { continue };
                    let random = random.split();
                    let caller = workers::Caller { client, at };
                    threads.spawn(move || workers::run(shared, &caller, name, work, random));
                }
            }
            let stream_maker = random.pick(clients).clone();
            threads.spawn(move || make_streams(shared, &stream_maker, round));
            sleep_ms(random.between(20, load_ms));
            self.peak_before = server.memory("VmHWM");
            let struck = strike(server, proxy, fault, random);
            sleep_ms(random.between(20, load_ms / 2 + 20));
            shared.stop.store(true, Ordering::SeqCst);
            struck
        })?;
        self.settle()?;
        self.check()?;
        self.check_audit()?;
        self.check_past(random)
    }

    fn client(&self) -> Result<&Client, String> {
        self.clients.first().ok_or_else(|| "there is no client".to_string())
    }

    /// Every append of unknown outcome becomes known by its key, through the client that sent it:
    /// until then the log remembers the outcomes of what that client sent afterwards.
    fn settle(&self) -> Result<(), String> {
        for (append, key) in self.shared.ledger.unknown() {
            let client = self.clients.get(append.client).ok_or("there is no such client")?;
            let before = client.stream_info(append.stream, &patient()).map_err(shown)?.next_offset;
            let events = EventBatch::from_events(append.events()).map_err(shown)?;
            let (stream, any) = (append.stream, ExpectedOffset::Any);
            let done = client.append_with_key(key, stream, any, events, &patient());
            let first = done.map_err(|e| format!("append {}: {e}", append.id))?.first_offset;
            self.shared.ledger.end(append.id, Told::Done(first));
            self.shared.ledger.settled(first < before);
        }
        Ok(())
    }

    /// What was appended since the last check stands where it was said to, and its chain fits.
    fn check(&self) -> Result<(), String> {
        let stands = self.check_streams();
        let failures = self.shared.failures.lock().map_err(|e| e.to_string())?;
        match (failures.first(), stands) {
            (None, stands) => stands,
            (Some(first), Ok(())) => Err(format!("{first} ({} failures)", failures.len())),
            (Some(first), Err(lost)) => {
                Err(format!("{lost}; {first} ({} failures)", failures.len()))
            }
        }
    }

    fn check_streams(&self) -> Result<(), String> {
        for stream in &self.shared.streams {
            let info = self.client()?.stream_info(*stream, &patient()).map_err(shown)?;
            let start = match self.shared.ledger.proven(*stream) {
                Some(head) => head,
                None => genesis_of(1, &info).map_err(shown)?,
            };
            let (events, head) = self.prove(*stream, start, info.next_offset)?;
            self.shared.ledger.check(*stream, start.next_offset, &events, head)?;
        }
        self.shared.ledger.finish()
    }

    /// The events from where a stream is proven to its end, with the chain walked over them.
    fn prove(
        &self,
        stream: StreamId,
        start: VerifiedHead,
        end: u64,
    ) -> Result<(Vec<Vec<u8>>, VerifiedHead), String> {
        let (mut head, mut events) = (start, Vec::new());
        while head.next_offset < end {
            let client = self.client()?;
            let blocks = client.read_blocks(stream, head.next_offset, 50_000, 0, &patient());
            let blocks = blocks.map_err(shown)?;
            for block in blocks.iter() {
                let block = block.map_err(shown)?;
                if block.header.first_offset >= head.next_offset {
                    events.extend(block.events().map(<[u8]>::to_vec));
                }
            }
            head = verify_blocks(head, blocks.bytes()).map_err(shown)?;
        }
        Ok((events, head))
    }

    /// Reads of health data that were answered before the fault are on record after it.
    fn check_audit(&self) -> Result<(), String> {
        if self.shared.health_reads.swap(0, Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let sql = "SELECT count(*) FROM _audit WHERE data ->> '$.stream' = 'storm_health' \
                   AND data ->> '$.event' = 'access_started'";
        match self.number(sql, At::Now)? {
            0 => Err("health data was read, and nothing is on record".to_string()),
            _ => Ok(()),
        }
    }

    /// The past stays as it was told, whatever happened since.
    fn check_past(&mut self, random: &mut Random) -> Result<(), String> {
        for _ in 0..3.min(self.past.len()) {
            let (position, at, count) = *random.pick(&self.past);
            let sql = format!("SELECT count(*) FROM storm_{at}");
            let now = self.number(&sql, At::Position(position))?;
            if now != count {
                return Err(format!("{sql} as of {position} was {count} and is {now}"));
            }
        }
        let at = random.between(0, self.shared.streams.len() as u64 - 1) as usize;
        let sql = format!("SELECT count(*) FROM storm_{at}");
        let result = self.client()?.query(&sql, &[], At::Now, &patient()).map_err(shown)?;
        let rows = result.rows_as::<(i64,)>().map_err(shown)?;
        if let Some((count,)) = rows.first() {
            self.past.push((result.position(), at, *count));
        }
        Ok(())
    }

    fn number(&self, sql: &str, at: At) -> Result<i64, String> {
        let result = self.client()?.query(sql, &[], at, &patient()).map_err(shown)?;
        let rows = result.rows_as::<(i64,)>().map_err(shown)?;
        rows.first().map(|row| row.0).ok_or_else(|| format!("{sql}: no row"))
    }

    /// At the end the server walks every chain whole, and comes to the heads that were proven.
    fn check_whole(&self) -> Result<(), String> {
        for stream in &self.shared.streams {
            let long = CallOptions::timeout_ms(600_000);
            let found = self.client()?.verify(*stream, &long).map_err(shown)?;
            let proven = self.shared.ledger.proven(*stream);
            if !found.valid || proven.is_some_and(|p| p.head != found.head) {
                return Err(format!("{stream:?}: {found:?}, but proven was {proven:?}"));
            }
        }
        Ok(())
    }
}

/// After as many rounds the names of streams come again, and mean the streams that are there: what a
/// server holds for each of its streams would otherwise grow as long as a storm lasts.
const ROUNDS_OF_NAMES: u64 = 30;

/// Streams are made all the time, and each is there afterwards under its id.
fn make_streams(shared: &Shared, client: &Client, round: u64) {
    let mut made = Vec::new();
    for at in 0.. {
        if shared.stopped() {
            break;
        }
        let name = format!("round_{}_{at}", round % ROUNDS_OF_NAMES);
        match workers::create(client, &name, DataClass::Deidentified) {
            Ok(stream) => made.push((name, stream)),
            Err(error) if error.is_retryable() || error.code == ErrorCode::Timeout => {}
            Err(error) => shared.fail(format!("create_stream: {error}")),
        }
        sleep_ms(10);
    }
    for (name, stream) in made {
        match client.stream_by_name(&name, &patient()) {
            Ok(info) if info.stream_id == stream.0 => {}
            other => shared.fail(format!("{name} was {stream:?} and is {other:?}")),
        }
    }
}

/// Does it to the server or the network, to its end.
pub fn strike(
    server: &mut Server,
    proxy: &Proxy,
    fault: Fault,
    random: &mut Random,
) -> Result<(), String> {
    match fault {
        Fault::Kill | Fault::Restart => {
            server.hit(if fault == Fault::Kill { Signal::Kill } else { Signal::Term })?;
            server.start_again()?;
            proxy.retarget(server.address());
        }
        Fault::Cut => proxy.cut(),
        Fault::CutInside => proxy.cut_after(random.between(1, 200_000)),
        Fault::Swallow => {
            proxy.swallow(true);
            sleep_ms(random.between(50, 1_500));
            proxy.swallow(false);
        }
        Fault::Pause => {
            server.hit(Signal::Stop)?;
            sleep_ms(random.between(50, 1_500));
            server.hit(Signal::Continue)?;
        }
    }
    Ok(())
}

fn patient() -> CallOptions {
    CallOptions::timeout_ms(60_000)
}

fn shown(error: Error) -> String {
    error.to_string()
}

fn sleep_ms(duration_ms: u64) {
    std::thread::sleep(Duration::from_millis(duration_ms));
}
