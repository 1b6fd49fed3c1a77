//! Joins sixteen footers to one of the next level.

use super::format::{Fence, NodeId, Root, Run, assemble};
use super::parts::{PartFault, Parts};

/// Walks over the runs of one footer by stream id.
struct Runs<'a> {
    parts: &'a Parts<'a>,
    root: &'a Root,
    chunk: usize,
    runs: std::vec::IntoIter<Run>,
    next: Option<Run>,
}

impl Runs<'_> {
    fn advance(&mut self) -> Result<(), PartFault> {
        self.next = self.runs.next();
        if self.next.is_none() && self.chunk < self.root.chunks.len() {
            self.runs = self.parts.runs(self.root, self.chunk)?.into_iter();
            self.chunk += 1;
            self.next = self.runs.next();
        }
        Ok(())
    }
}

/// The bytes of the footer that joins these, which are in order. The fault names the one that is
/// to be made anew.
pub(crate) fn merge(
    id: NodeId,
    children: &[(Root, Parts<'_>)],
) -> Result<Option<Vec<u8>>, (NodeId, PartFault)> {
    let (Some((first, _)), Some((last, _))) = (children.first(), children.last()) else {
        return Ok(None);
    };
    let mut walks = Vec::with_capacity(children.len());
    for (root, parts) in children {
        let runs = Vec::new().into_iter();
        let mut walk = Runs { parts, root, chunk: 0, runs, next: None };
        walk.advance().map_err(|fault| (root.id, fault))?;
        walks.push(walk);
    }
    let mut runs: Vec<(Run, Vec<Fence>)> = Vec::new();
    while let Some(stream_id) = walks.iter().filter_map(|w| Some(w.next?.stream_id)).min() {
        let mut joined: Option<(Run, Vec<Fence>)> = None;
        for walk in &mut walks {
            let Some(run) = walk.next.filter(|run| run.stream_id == stream_id) else { continue };
            walk.advance().map_err(|fault| (walk.root.id, fault))?;
            let (all, fences) = joined.get_or_insert_with(|| (empty(&run), Vec::new()));
            fences.push(Fence {
                first: run.first,
                data_before: all.data_bytes,
                at: walk.root.id.number,
                len: 0,
                crc: 0,
            });
            all.end_offset = run.end_offset;
            all.last_index = run.last_index;
            all.data_bytes += run.data_bytes;
        }
        runs.extend(joined);
    }
    let root = Root {
        id,
        log_id: first.log_id,
        first_index: first.first_index,
        last_index: last.last_index,
        last_timestamp_ns: last.last_timestamp_ns,
        end: last.end,
        digest: [0; 32],
        streams: 0,
        runs_at: 0,
        chunks: Vec::new(),
        times: Vec::new(),
        pieces: Vec::new(),
    };
    Ok(Some(assemble(root, runs, &[])))
}

fn empty(run: &Run) -> Run {
    Run { data_bytes: 0, fences_at: 0, fences: 0, crc: 0, ..*run }
}
