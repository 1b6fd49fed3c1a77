//! The memory of a server and of its clients over a storm, and whether it stays where it was.

use std::time::Duration;

/// One look at both processes, in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Since the storm began.
    pub at: Duration,
    /// What the server held.
    pub server: u64,
    /// The most that it held since its start.
    pub server_peak: u64,
    /// What the clients' process held. The judge lives there too, with everything that it reads
    /// back.
    pub clients: u64,
}

/// How many rounds are warm-up: each kind of load has met each kind of fault, and every stream that
/// is made over and over is there.
const WARM_UP_ROUNDS: usize = 40;

/// What the options of a server allow: 64 MiB for itself, `total_queue_bytes` and
/// `total_buffer_bytes`. The storm's statements count, which needs no memory of theirs.
const SERVER_PEAK: u64 = (64 + 128 + 64) * 1024;

/// What may come on top from the middle third of the rounds after warm-up to the last one. The
/// places of blocks of which no footer tells yet come and go with the segments; what is kept for
/// each append, block or round grows by more in some hundred rounds.
const MORE: u64 = 8 * 1024;

/// One of its figures.
type Of = fn(&Sample) -> u64;

/// All looks of a storm, in their order.
#[derive(Default)]
pub struct Memory(Vec<Sample>);

impl Memory {
    /// One more look.
    pub fn note(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// The newest look, for a line while the storm lasts.
    pub fn now(&self) -> String {
        self.0.last().map_or_else(String::new, |sample| {
            format!(
                "minute {:.1}: resident MiB: server {}, clients {}",
                sample.at.as_secs_f64() / 60.0,
                sample.server / 1024,
                sample.clients / 1024
            )
        })
    }

    /// First, highest and last of what both held after warm-up.
    pub fn told(&self) -> String {
        let kept = self.kept();
        let told = |of: Of| {
            let mib = |kib: Option<u64>| kib.unwrap_or(0) / 1024;
            let highest = mib(kept.iter().map(of).max());
            format!("{}, {highest}, {}", mib(kept.first().map(of)), mib(kept.last().map(of)))
        };
        let peak = self.0.iter().map(|s| s.server_peak).max().unwrap_or(0) / 1024;
        format!(
            "resident MiB first, highest, last: server {}, clients {}; server at most {peak}",
            told(|s| s.server),
            told(|s| s.clients)
        )
    }

    /// Fails where the server held more than it may, or either of them more and more.
    pub fn judge(&self) -> Result<(), String> {
        let peak = self.0.iter().map(|s| s.server_peak).max().unwrap_or(0);
        if peak > SERVER_PEAK {
            let (peak, bound) = (peak / 1024, SERVER_PEAK / 1024);
            return Err(format!("the server held {peak} MiB, and {bound} are allowed"));
        }
        let kept = self.kept();
        if kept.len() < 3 * WARM_UP_ROUNDS {
            return Ok(());
        }
        let third = kept.len() / 3;
        let (middle, last) = (&kept[third..2 * third], &kept[2 * third..]);
        let parts: [(&str, Of); 2] = [("server", |s| s.server), ("clients", |s| s.clients)];
        for (name, of) in parts {
            let (before, after) = (median(middle, of), median(last, of));
            if after > before + before / 8 + MORE {
                return Err(format!(
                    "memory of the {name} grows: {} MiB in the middle third of the rounds, {} in \
                     the last",
                    before / 1024,
                    after / 1024
                ));
            }
        }
        Ok(())
    }

    fn kept(&self) -> &[Sample] {
        let warm = WARM_UP_ROUNDS.min(self.0.len().saturating_sub(1));
        self.0.get(warm..).unwrap_or(&[])
    }
}

fn median(samples: &[Sample], of: Of) -> u64 {
    let mut sorted: Vec<u64> = samples.iter().map(of).collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(rounds: u64, at: impl Fn(u64) -> (u64, u64)) -> Memory {
        let mut memory = Memory::default();
        for round in 0..rounds {
            let (server, clients) = at(round);
            let at = Duration::from_secs(round);
            memory.note(Sample { at, server, server_peak: server + 1024, clients });
        }
        memory
    }

    /// Memory that swings passes; a server that holds too much once, and either side that grows by
    /// 200 KiB a round, do not.
    #[test]
    fn growth_is_found() {
        let swing = |round| 60_000 + (round * 7_919) % 20_000;
        memory(600, |round| (swing(round), swing(round + 1))).judge().unwrap();
        let high = memory(10, |round| (if round == 4 { 300_000 } else { 60_000 }, 1));
        assert!(high.judge().unwrap_err().contains("293 MiB"));
        let server = memory(600, |round| (swing(round) + round * 200, swing(round)));
        assert!(server.judge().unwrap_err().contains("of the server grows"));
        let clients = memory(600, |round| (swing(round), swing(round) + round * 200));
        assert!(clients.judge().unwrap_err().contains("of the clients grows"));
    }
}
