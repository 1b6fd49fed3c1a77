//! Finds a stream's blocks, wherever they are told of: in memory for the newest segments, by the
//! log's index for all others.

use kimberlite_log::{BlockPlace, LogIndex, PlacePage};
use kimberlite_wire::{Error, ErrorCode};

use crate::stream::Stream;

/// The page of the index that was looked at last: the next look is likely at it or beside it.
pub(crate) type Near = Option<PlacePage>;

impl Stream {
    /// The next offset as it was at a position.
    pub(crate) fn end_at(&self, index: &LogIndex, position: u64) -> Result<u64, Error> {
        Ok(self.last_at(index, position)?.map_or(0, |last| last.end_offset()))
    }

    /// The last block that was visible at a position.
    pub(crate) fn last_at(
        &self,
        index: &LogIndex,
        position: u64,
    ) -> Result<Option<LastBlock>, Error> {
        {
            let blocks = self.blocks();
            if blocks.last_index <= position {
                let end_offset = blocks.next_offset;
                return Ok((end_offset > 0).then_some(LastBlock::Newest { end_offset }));
            }
            if let Some(found) = blocks.runs.last_where(|place| place.index <= position) {
                return Ok(Some(LastBlock::Older(found)));
            }
        }
        let found = index.last_at(self.identity.stream_id, position)?;
        Ok(found.map(LastBlock::Older))
    }

    /// The first offset at or after a time, of those before `end`; `end` where there is none.
    pub(crate) fn first_at_or_after(
        &self,
        index: &LogIndex,
        timestamp_ns: u64,
        end: u64,
    ) -> Result<u64, Error> {
        let is_before = |place: &BlockPlace| place.timestamp_ns < timestamp_ns;
        {
            let blocks = self.blocks();
            if blocks.last_timestamp_ns < timestamp_ns {
                return Ok(end);
            }
            if let Some(found) = blocks.runs.last_where(is_before) {
                return Ok(found.end_offset().min(end));
            }
        }
        let found = index.last_before(self.identity.stream_id, timestamp_ns)?;
        Ok(found.map_or(0, |place| place.end_offset()).min(end))
    }

    /// How many bytes the events before an offset have, where a block begins there.
    pub(crate) fn data_bytes_before(&self, index: &LogIndex, offset: u64) -> Result<u64, Error> {
        // What is counted in memory begins where the index was counted up to.
        let (first, in_memory) = {
            let blocks = self.blocks();
            if offset >= blocks.next_offset {
                return Ok(blocks.data_bytes);
            }
            let first = blocks.runs.first().map_or(offset, |place| place.first_offset);
            (first, blocks.runs.data_bytes_before(offset))
        };
        let indexed = index.data_bytes_before(self.identity.stream_id, first.min(offset))?;
        Ok(indexed + in_memory)
    }

    /// Shows the blocks that hold the offsets from `from` to `end`, in order, until `take` returns
    /// `false`. The commit thread may wait for `take`.
    pub(crate) fn walk(
        &self,
        index: &LogIndex,
        near: &mut Near,
        from: u64,
        end: u64,
        mut take: impl FnMut(&BlockPlace) -> bool,
    ) -> Result<(), Error> {
        let mut at = from;
        while at < end {
            {
                let blocks = self.blocks();
                if blocks.runs.first().is_some_and(|first| first.first_offset <= at) {
                    let mut wanted = blocks.runs.from(at).take_while(|p| p.first_offset < end);
                    wanted.all(|place| take(&place));
                    return Ok(());
                }
            }
            let page = self.page(index, near, at)?;
            let places = page.places();
            let first = places.partition_point(|place| place.end_offset() <= at);
            for place in &places[first..] {
                if place.first_offset >= end || !take(place) {
                    return Ok(());
                }
                at = place.end_offset();
            }
        }
        Ok(())
    }

    /// Shows the block that holds an offset and those before it, backwards, until `take` returns
    /// `false`.
    pub(crate) fn walk_back(
        &self,
        index: &LogIndex,
        near: &mut Near,
        from: u64,
        mut take: impl FnMut(&BlockPlace) -> bool,
    ) -> Result<(), Error> {
        let mut at = from;
        loop {
            let mut next = None;
            {
                let blocks = self.blocks();
                for place in blocks.runs.back_from(at) {
                    if !take(&place) {
                        return Ok(());
                    }
                    next = Some(place.first_offset);
                }
            }
            if next.is_none() {
                let page = self.page(index, near, at)?;
                let places = page.places();
                let count = places.partition_point(|place| place.first_offset <= at);
                for place in places[..count].iter().rev() {
                    if !take(place) {
                        return Ok(());
                    }
                    next = Some(place.first_offset);
                }
            }
            match next.and_then(|first| first.checked_sub(1)) {
                Some(before) => at = before,
                None => return Ok(()),
            }
        }
    }

    fn page(&self, index: &LogIndex, near: &mut Near, at: u64) -> Result<PlacePage, Error> {
        let stream_id = self.identity.stream_id;
        match index.page_of(stream_id, at, near.as_ref())? {
            Some(page) => {
                *near = Some(page.clone());
                Ok(page)
            }
            None => {
                let detail = format!(
                    "the index knows no block of stream {stream_id} that holds offset {at}, \
                     though there is one"
                );
                Err(Error::new(ErrorCode::Internal, detail).with_value(at))
            }
        }
    }
}

/// The last block at a position.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LastBlock {
    /// It is still the last.
    Newest { end_offset: u64 },
    /// There are others after it.
    Older(BlockPlace),
}

impl LastBlock {
    pub(crate) fn end_offset(&self) -> u64 {
        match self {
            LastBlock::Newest { end_offset } => *end_offset,
            LastBlock::Older(place) => place.end_offset(),
        }
    }
}
