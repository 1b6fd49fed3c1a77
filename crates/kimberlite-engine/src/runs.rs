//! What is kept in memory of the segments that no footer covers yet: a stream's blocks, and the
//! times of entries, segment by segment, so that a segment's part can be let go at once.

use std::collections::VecDeque;

use kimberlite_log::BlockPlace;

use crate::chunked::Chunked;

/// A stream's blocks in the segments that are not covered yet, in order.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: VecDeque<Run>,
}

#[derive(Debug)]
struct Run {
    segment: u32,
    places: Chunked<BlockPlace>,
}

impl Runs {
    /// Adds the next block; tells whether it is the first of its segment.
    pub(crate) fn push(&mut self, place: BlockPlace) -> bool {
        let is_first = self.runs.back().is_none_or(|run| run.segment != place.segment);
        if is_first {
            self.runs.push_back(Run { segment: place.segment, places: Chunked::new() });
        }
        if let Some(run) = self.runs.back_mut() {
            run.places.push(place);
        }
        is_first
    }

    /// The first block.
    pub(crate) fn first(&self) -> Option<BlockPlace> {
        self.runs.front()?.places.get(0)
    }

    /// The last block that fulfils the condition, which holds for a prefix.
    pub(crate) fn last_where(&self, holds: impl Fn(&BlockPlace) -> bool) -> Option<BlockPlace> {
        let begins = |run: &Run| run.places.get(0).is_some_and(|first| holds(&first));
        let run = self.runs.get(self.runs.partition_point(begins).checked_sub(1)?)?;
        run.places.get(run.places.partition_point(&holds).checked_sub(1)?)
    }

    /// The blocks from the one that holds an offset on.
    pub(crate) fn from(&self, offset: u64) -> impl Iterator<Item = BlockPlace> + '_ {
        let at = self.runs.partition_point(|run| {
            run.places.last().is_some_and(|last| last.end_offset() <= offset)
        });
        let start = self
            .runs
            .get(at)
            .map_or(0, |run| run.places.partition_point(|place| place.end_offset() <= offset));
        let skipped = move |number: usize| if number == 0 { start } else { 0 };
        let rest = self.runs.iter().skip(at).enumerate();
        rest.flat_map(move |(number, run)| run.places.iter_from(skipped(number)))
    }

    /// The blocks before and up to the one that holds an offset, backwards.
    pub(crate) fn back_from(&self, offset: u64) -> impl Iterator<Item = BlockPlace> + '_ {
        let begun = move |place: &BlockPlace| place.first_offset <= offset;
        let runs = self.runs.iter().rev();
        runs.flat_map(move |run| {
            let count = run.places.partition_point(begun);
            (0..count).rev().filter_map(|at| run.places.get(at))
        })
    }

    /// How many bytes the events of blocks that begin before an offset have.
    pub(crate) fn data_bytes_before(&self, offset: u64) -> u64 {
        let all = self.runs.iter().flat_map(|run| run.places.iter_from(0));
        all.take_while(|place| place.first_offset < offset).map(|p| p.data_bytes()).sum()
    }

    /// Lets go of the segments up to this one; what is returned is dropped without the lock.
    pub(crate) fn forget(&mut self, upto_segment: u64) -> impl Sized + use<> {
        let gone = self.runs.partition_point(|run| u64::from(run.segment) <= upto_segment);
        self.runs.drain(..gone).collect::<Vec<Run>>()
    }

    /// The blocks of each segment from this one on.
    pub(crate) fn segments_from(
        &self,
        first_segment: u64,
    ) -> impl Iterator<Item = (u32, &Chunked<BlockPlace>)> {
        let late = self.runs.iter().filter(move |run| u64::from(run.segment) >= first_segment);
        late.map(|run| (run.segment, &run.places))
    }
}

/// The times of the entries in the segments that are not covered yet.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    runs: VecDeque<TimeRun>,
    last_index: u64,
    last_ns: u64,
}

#[derive(Debug)]
struct TimeRun {
    segment: u64,
    first_index: u64,
    times: Chunked<u64>,
}

impl Timeline {
    /// One that goes on after this entry.
    pub(crate) fn after(last_index: u64, last_ns: u64) -> Timeline {
        Timeline { runs: VecDeque::new(), last_index, last_ns }
    }

    /// The last entry that was added.
    pub(crate) fn last_index(&self) -> u64 {
        self.last_index
    }

    /// Its time.
    pub(crate) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    pub(crate) fn push(&mut self, index: u64, timestamp_ns: u64, segment: u64) {
        (self.last_index, self.last_ns) = (index, timestamp_ns);
        self.restore(index, timestamp_ns, segment);
    }

    /// Adds an entry whose time is told again.
    pub(crate) fn restore(&mut self, index: u64, timestamp_ns: u64, segment: u64) {
        if self.runs.back().is_none_or(|run| run.segment != segment) {
            self.runs.push_back(TimeRun { segment, first_index: index, times: Chunked::new() });
        }
        if let Some(run) = self.runs.back_mut() {
            run.times.push(timestamp_ns);
        }
    }

    /// The last entry here with at most this time; `None` where it is older than all that are here.
    pub(crate) fn position_at(&self, timestamp_ns: u64) -> Option<u64> {
        let begins = |run: &TimeRun| run.times.get(0).is_some_and(|first| first <= timestamp_ns);
        match self.runs.partition_point(begins).checked_sub(1) {
            Some(at) => {
                let run = self.runs.get(at)?;
                let within = run.times.partition_point(|time| *time <= timestamp_ns);
                Some(run.first_index + within as u64 - 1)
            }
            None if self.runs.is_empty() && self.last_ns <= timestamp_ns => Some(self.last_index),
            None => None,
        }
    }

    pub(crate) fn forget(&mut self, upto_segment: u64) -> impl Sized + use<> {
        let gone = self.runs.partition_point(|run| run.segment <= upto_segment);
        self.runs.drain(..gone).collect::<Vec<TimeRun>>()
    }

    /// The first index and the times of each segment from this one on.
    pub(crate) fn segments_from(
        &self,
        first_segment: u64,
    ) -> impl Iterator<Item = (u64, u64, &Chunked<u64>)> {
        let late = self.runs.iter().filter(move |run| run.segment >= first_segment);
        late.map(|run| (run.segment, run.first_index, &run.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64, segment: u32) -> BlockPlace {
        let (timestamp_ns, index) = (offset * 10, offset + 1);
        let (start, body_len, count) = (0, 100, 2);
        BlockPlace { first_offset: offset, timestamp_ns, index, segment, start, body_len, count }
    }

    /// Blocks are found by offset from both sides across segments, and a segment goes as a whole.
    #[test]
    fn runs_are_found_and_forgotten() {
        let mut runs = Runs::default();
        let firsts = [(0, 1, true), (2, 1, false), (4, 3, true), (6, 3, false), (8, 4, true)];
        for (offset, segment, is_first) in firsts {
            assert_eq!(runs.push(place(offset, segment)), is_first);
        }
        let from = |runs: &Runs, offset| runs.from(offset).map(|p| p.first_offset).collect();
        let back = |runs: &Runs, offset| runs.back_from(offset).map(|p| p.first_offset).collect();
        let (all, some): (Vec<u64>, Vec<u64>) = (from(&runs, 3), from(&runs, 9));
        assert_eq!((all, some), (vec![2, 4, 6, 8], vec![8]));
        let some: Vec<u64> = back(&runs, 5);
        assert_eq!(some, [4, 2, 0]);
        assert_eq!(runs.last_where(|p| p.index <= 6).map(|p| p.first_offset), Some(4));
        assert_eq!(runs.data_bytes_before(4), 2 * 92);
        drop(runs.forget(3));
        assert_eq!(runs.first().map(|p| p.first_offset), Some(8));
        assert!(runs.last_where(|p| p.index <= 6).is_none());
    }

    /// The position at a time is found while the time is here, and left to the index before that.
    #[test]
    fn positions_at_times() {
        let mut line = Timeline::after(5, 50);
        assert_eq!((line.position_at(49), line.position_at(50)), (None, Some(5)));
        for (index, time, segment) in [(6, 60, 2), (7, 60, 2), (8, 80, 3)] {
            line.push(index, time, segment);
        }
        assert_eq!(line.position_at(59), None);
        assert_eq!((line.position_at(60), line.position_at(100)), (Some(7), Some(8)));
        drop(line.forget(2));
        assert_eq!((line.position_at(79), line.position_at(80)), (None, Some(8)));
    }
}
