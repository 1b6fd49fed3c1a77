//! The page of metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use kimberlite_wire::{ErrorCode, Operation};

use super::process::Process;
use super::text::{Kind, Text};
use super::{Bound, CODES, Counter, descriptor_limit};
use crate::shared::Shared;

/// Microseconds of a second.
const SECOND: f64 = 1e6;

/// The page of metrics as it stands now.
pub(crate) fn render(shared: &Shared) -> String {
    let mut text = Text::default();
    connections(&mut text, shared);
    requests(&mut text, shared);
    memory(&mut text, shared);
    log(&mut text, shared);
    process(&mut text, shared);
    text.finish()
}

fn codes(text: &mut Text, counters: &[Counter; CODES], labels: &[(&str, &str)], name: &str) {
    for (number, counter) in counters.iter().enumerate() {
        let Some(code) = ErrorCode::from_number(number as u32) else { continue };
        if counter.get() > 0 {
            text.value(&[labels, &[(name, code.name())]].concat(), counter.get());
        }
    }
}

fn connections(text: &mut Text, shared: &Shared) {
    let metrics = &shared.metrics;
    text.metric("kimberlite_connections", Kind::Gauge, "Connections by state.");
    text.value(&[("state", "open")], shared.connections_open());
    text.value(&[("state", "handshake")], shared.handshakes.len());
    let help = "Connections that were accepted from the system.";
    text.single(
        "kimberlite_connections_accepted_total",
        Kind::Counter,
        help,
        metrics.accepted.get(),
    );
    let help = "Connections that authenticated.";
    text.single("kimberlite_connections_opened_total", Kind::Counter, help, metrics.opened.get());
    let help = "Connections that were refused, by the error that they were told.";
    text.metric("kimberlite_connections_refused_total", Kind::Counter, help);
    codes(text, &metrics.refused, &[], "error");
    text.value(&[("error", "none")], metrics.lost.get());
    let help = "Failures to accept a connection, as where files run out.";
    text.single("kimberlite_accept_errors_total", Kind::Counter, help, metrics.accept_errors.get());
    let help = "Wrong tokens that were shown.";
    text.single("kimberlite_auth_failures_total", Kind::Counter, help, metrics.wrong_tokens.get());
    let help = "Requests and connections that a bound of the server refused or closed.";
    text.metric("kimberlite_bound_reached_total", Kind::Counter, help);
    for bound in Bound::ALL {
        text.value(&[("bound", bound.option())], metrics.bounds[bound as usize].get());
    }
    let help = "Bytes received from clients, TLS taken off.";
    text.single(
        "kimberlite_received_bytes_total",
        Kind::Counter,
        help,
        metrics.received_bytes.get(),
    );
    let help = "Bytes sent to clients, before TLS.";
    text.single("kimberlite_sent_bytes_total", Kind::Counter, help, metrics.sent_bytes.get());
    text.metric("kimberlite_reloads_total", Kind::Counter, "Reloads of tokens and certificates.");
    text.value(&[("outcome", "ok")], metrics.reloads.get());
    text.value(&[("outcome", "failed")], metrics.failed_reloads.get());
}

fn requests(text: &mut Text, shared: &Shared) {
    let operations = || {
        let numbered = shared.metrics.operations.iter().enumerate();
        numbered.filter_map(|(number, counted)| {
            let operation = Operation::from_number(u16::try_from(number).ok()?)?;
            (operation != Operation::Hello).then_some((operation.name(), counted))
        })
    };
    let help = "Requests by operation and outcome: ok, or the error. One whose answer fails after \
                it has begun counts as both.";
    text.metric("kimberlite_requests_total", Kind::Counter, help);
    for (name, counted) in operations() {
        text.value(&[("operation", name), ("outcome", "ok")], counted.answered.get());
        codes(text, &counted.failed, &[("operation", name)], "outcome");
    }
    let help = "Time from a request's arrival to the beginning of its answer.";
    text.metric("kimberlite_request_duration_seconds", Kind::Histogram, help);
    for (name, counted) in operations() {
        text.histogram(&[("operation", name)], &counted.latency, SECOND);
    }
    let help = "Requests under way, subscriptions among them.";
    text.single("kimberlite_requests_inflight", Kind::Gauge, help, shared.requests_inflight());
    let help = "Subscriptions under way.";
    text.single("kimberlite_subscriptions", Kind::Gauge, help, shared.subscriptions());
    let load = shared.engine.load();
    text.metric("kimberlite_queries", Kind::Gauge, "Statements and verifications by state.");
    text.value(&[("state", "running")], load.queries_running);
    text.value(&[("state", "waiting")], load.queries_waiting);
    text.value(&[("state", "aside")], load.queries_aside);
}

fn memory(text: &mut Text, shared: &Shared) {
    let load = shared.engine.load();
    let help = "Memory that is accounted for, by what holds it.";
    text.metric("kimberlite_memory_bytes", Kind::Gauge, help);
    text.value(&[("held_by", "requests")], shared.requests.used());
    text.value(&[("held_by", "buffers")], shared.buffers.used());
    text.value(&[("held_by", "commit_queue")], load.queued_bytes);
    text.value(&[("held_by", "queries")], load.query_bytes);
    let help = "The most that may be held.";
    text.metric("kimberlite_memory_limit_bytes", Kind::Gauge, help);
    text.value(&[("held_by", "requests")], shared.limits.total_queue_bytes);
    text.value(&[("held_by", "buffers")], shared.buffers.total());
    text.value(&[("held_by", "queries")], shared.query_total_bytes);
}

fn log(text: &mut Text, shared: &Shared) {
    let stats = shared.engine.commit_stats();
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = [
        ("kimberlite_commits_total", "Groups that became durable.", &stats.groups),
        (
            "kimberlite_appends_total",
            "Appends that were answered as durable, repeats among them.",
            &stats.appends,
        ),
        ("kimberlite_events_total", "Events of these appends.", &stats.events),
        (
            "kimberlite_block_bytes_total",
            "Bytes of blocks that became durable.",
            &stats.block_bytes,
        ),
        (
            "kimberlite_audit_records_total",
            "Audit records that became durable.",
            &stats.audit_records,
        ),
    ];
    for (name, help, counter) in counters {
        text.single(name, Kind::Counter, help, get(counter));
    }
    let help = "Requests that were committed together.";
    text.metric("kimberlite_commit_requests", Kind::Histogram, help);
    text.histogram(&[], &stats.group_requests, 1.0);
    let help = "Time that a group took to write and sync.";
    text.metric("kimberlite_commit_duration_seconds", Kind::Histogram, help);
    text.histogram(&[], &stats.commit, SECOND);
    let help = "Time that a group's fdatasync took.";
    text.metric("kimberlite_fdatasync_duration_seconds", Kind::Histogram, help);
    text.histogram(&[], &stats.sync, SECOND);
    let help = "The newest applied position of the log.";
    text.single("kimberlite_log_position", Kind::Gauge, help, shared.engine.position());
    let help = "The number of the log's newest segment, from the first commit after a start.";
    text.single("kimberlite_log_segment", Kind::Gauge, help, get(&stats.segment));
    let help = "1 while the log takes changes, 0 once it has failed and needs a restart.";
    text.single("kimberlite_log_writable", Kind::Gauge, help, u8::from(shared.takes_changes()));
}

fn process(text: &mut Text, shared: &Shared) {
    text.metric("kimberlite_build_info", Kind::Gauge, "1, with what was built.");
    text.value(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let started = shared.metrics.started_ms as f64 / 1e3;
    let help = "When the server started, in seconds since the Unix epoch.";
    text.single("process_start_time_seconds", Kind::Gauge, help, started);
    let process = Process::now();
    let known = [
        ("process_resident_memory_bytes", "Resident memory.", process.resident_bytes),
        ("process_virtual_memory_bytes", "Virtual memory.", process.virtual_bytes),
        ("process_open_fds", "Open files and sockets.", process.open_files),
        ("process_max_fds", "The most files and sockets that may be open.", descriptor_limit()),
        ("process_threads", "Threads.", process.threads),
    ];
    for (name, help, value) in known {
        if let Some(value) = value {
            text.single(name, Kind::Gauge, help, value);
        }
    }
}
