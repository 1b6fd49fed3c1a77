//! Parts of footers, from the cache or from their files.

use std::sync::Arc;

use super::cache::{Cached, Part};
use super::{Shared, lock};
use crate::footer::{Fence, NodeId, PartFault, Parts, Root, Run, chunk_of};
use crate::place::BlockPlace;

/// What was looked for, or the footer that must be made anew first.
pub(super) type Looked<T> = Result<T, NodeId>;

macro_rules! cached {
    ($shared:ident, $node:ident, $part:expr, $kind:ident, $read:expr) => {{
        let part = $part;
        if let Some(Cached::$kind(found)) = $shared.cache.get($node, part) {
            return Ok(found);
        }
        let read: Result<_, PartFault> = $shared.with_parts($node, $read);
        let found = Arc::new(read.map_err(|PartFault| $node)?);
        $shared.cache.put($node, part, Cached::$kind(Arc::clone(&found)));
        Ok(found)
    }};
}

impl Shared {
    /// Reads parts of a footer, without the cache.
    pub(crate) fn with_parts<T>(
        &self,
        node: NodeId,
        work: impl FnOnce(&Parts<'_>) -> Result<T, PartFault>,
    ) -> Result<T, PartFault> {
        let loose = (node.level == 0).then(|| lock(&self.loose).get(&node.number).cloned());
        if let Some(bytes) = loose.flatten() {
            let read = |at: u64, buffer: &mut [u8]| {
                let from = bytes.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or(&[]);
                let count = from.len().min(buffer.len());
                buffer[..count].copy_from_slice(&from[..count]);
                Ok(count)
            };
            return work(&Parts { read: &read });
        }
        let file = self.files.footer(node).map_err(|_| PartFault)?;
        let read = |at: u64, buffer: &mut [u8]| file.read_at(at, buffer).map_err(|_| PartFault);
        work(&Parts { read: &read })
    }

    pub(super) fn root(&self, node: NodeId) -> Looked<Arc<Root>> {
        let checked = |parts: &Parts<'_>| {
            let root = parts.root()?;
            if self.is_of(node, &root) { Ok(root) } else { Err(PartFault) }
        };
        cached!(self, node, Part::Root, Root, checked)
    }

    /// Whether a root is that of this footer of this log, as the segments are now.
    pub(crate) fn is_of(&self, node: NodeId, root: &Root) -> bool {
        let segments = node.segments();
        let (first, last) = (self.facts(*segments.start()), self.facts(*segments.end()));
        let (Some(first), Some(last)) = (first, last) else { return false };
        let here = (first.first_index, last.last_index, last.last_timestamp_ns, last.end);
        root.id == node
            && root.log_id == self.identity.log_id
            && here == (root.first_index, root.last_index, root.last_timestamp_ns, root.end)
    }

    fn runs(&self, node: NodeId, root: &Root, chunk: usize) -> Looked<Arc<Vec<Run>>> {
        cached!(self, node, Part::Runs(chunk), Runs, |parts| parts.runs(root, chunk))
    }

    /// A stream in a footer, where it has blocks there.
    pub(super) fn run(&self, node: NodeId, stream_id: u64) -> Looked<Option<Run>> {
        let root = self.root(node)?;
        let Some(chunk) = chunk_of(&root, stream_id) else { return Ok(None) };
        let runs = self.runs(node, &root, chunk)?;
        let at = runs.binary_search_by_key(&stream_id, |run| run.stream_id);
        Ok(at.ok().map(|at| runs[at]))
    }

    pub(super) fn fences(&self, node: NodeId, run: &Run) -> Looked<Arc<Vec<Fence>>> {
        let part = Part::Fences(run.fences_at);
        cached!(self, node, part, Fences, |parts| parts.fences(run))
    }

    pub(super) fn page(&self, node: NodeId, fence: &Fence) -> Looked<Arc<Vec<BlockPlace>>> {
        let part = Part::Page(fence.at);
        cached!(self, node, part, Page, |parts| parts.page(node.number, fence))
    }

    pub(super) fn times(&self, node: NodeId, page: usize) -> Looked<Arc<Vec<u64>>> {
        let root = self.root(node)?;
        cached!(self, node, Part::Times(page), Times, |parts| parts.times(&root, page))
    }
}
