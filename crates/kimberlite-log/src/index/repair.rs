//! Footers that are missing or no good are made anew from what they tell of.

use std::ops::ControlFlow;
use std::sync::Arc;

use kimberlite_wire::{Error, ErrorCode};

use super::lookup::Looked;
use super::{Shared, lock};
use crate::entry::{EntryPlace, EntryView};
use crate::errors::{corrupt, storage};
use crate::footer::{FooterBuilder, NodeId, PartFault, Parts, ReadAt, Root, merge};
use crate::names;
use crate::publish::{Breathe, publish};
use crate::scan::Scanner;
use crate::sequence::Sequence;

/// How often one look-up makes footers anew, beside once for each, before it gives up.
const MOST_REPAIRS: u64 = 64;
/// After so many bytes of a walk others get a turn.
pub(crate) const STEP_BYTES: u64 = 1 << 20;
/// How many footers that could not be written are kept in memory.
const MOST_LOOSE: usize = 4;

impl Shared {
    /// Looks something up; makes what is no good anew and looks again.
    pub(super) fn repaired<T>(&self, look: impl Fn() -> Looked<T>) -> Result<T, Error> {
        let mut last = None;
        for _ in 0..MOST_REPAIRS + 2 * self.sealed() {
            match look() {
                Ok(found) => return Ok(found),
                Err(node) => {
                    // What was written but cannot be read is kept in memory instead.
                    let again = last == Some(node);
                    self.repair(node, again)?;
                    last = Some(node);
                }
            }
        }
        let detail = "the index of the log's segments could not be read, though it was made anew";
        Err(Error::new(ErrorCode::Storage, detail))
    }

    fn repair(&self, node: NodeId, in_memory: bool) -> Result<(), Error> {
        if node.level > 0 {
            tracing::warn!(level = node.level, number = node.number, "a footer is no good");
            // Those below it tell the same; the log's own thread joins them again.
            self.drop_merged(node);
            return Ok(());
        }
        let _one_at_a_time = lock(&self.repairing);
        self.cache.forget(node);
        self.files.close_footer(node);
        if !in_memory && self.whole(node) {
            return Ok(());
        }
        tracing::warn!(segment = node.number, "the segment's footer is made anew");
        let never = &mut || ControlFlow::Continue(());
        let Some(bytes) = self.build(node.number, never, &mut |_, _| Ok(()))? else {
            return Ok(());
        };
        if in_memory || !self.write_footer(node, &bytes, never) {
            let mut loose = lock(&self.loose);
            if loose.len() >= MOST_LOOSE {
                loose.clear();
            }
            loose.insert(node.number, Arc::new(bytes));
        }
        Ok(())
    }

    /// Whether the footer is there and every part of it is good.
    pub(crate) fn whole(&self, node: NodeId) -> bool {
        let check = |parts: &Parts<'_>| {
            let root = parts
                .root()
                .and_then(|root| if self.is_of(node, &root) { Ok(root) } else { Err(PartFault) })?;
            for chunk in 0..root.chunks.len() {
                for run in parts.runs(&root, chunk)? {
                    let fences = parts.fences(&run)?;
                    if node.level == 0 {
                        for fence in &fences {
                            parts.page(node.number, fence)?;
                        }
                    }
                }
            }
            (0..root.times.len()).try_for_each(|page| parts.times(&root, page).map(drop))
        };
        self.with_parts(node, check).is_ok()
    }

    /// Whether the footer is there and belongs to the log as it is; its parts are checked when they
    /// are read.
    pub(crate) fn has_root(&self, node: NodeId) -> bool {
        let root = self.with_parts(node, |parts| parts.root());
        root.is_ok_and(|root| self.is_of(node, &root))
    }

    /// Makes the footer of a complete segment from its bytes, showing each entry to `visit` too.
    /// `None` where it was told to stop.
    pub(crate) fn build(
        &self,
        segment: u64,
        breathe: Breathe<'_>,
        visit: &mut dyn FnMut(&EntryView<'_>, EntryPlace) -> Result<(), Error>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut builder = FooterBuilder::new(segment, self.sequence_before(segment));
        let walked = self.walk(segment, breathe, &mut |view, place| {
            builder.entry(view, place)?;
            visit(view, place)
        })?;
        let facts = self.facts(segment).filter(|_| walked);
        Ok(facts.map(|facts| builder.finish(&facts, self.identity.log_id)))
    }

    fn sequence_before(&self, segment: u64) -> Sequence {
        self.facts(segment - 1).map(|facts| facts.sequence).unwrap_or_default()
    }

    /// Visits the entries of a complete segment; CORRUPTION where it is not what it was. `false`
    /// where it was told to stop.
    pub(crate) fn walk(
        &self,
        segment: u64,
        breathe: Breathe<'_>,
        visit: &mut dyn FnMut(&EntryView<'_>, EntryPlace) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let Some(facts) = self.facts(segment) else { return Ok(false) };
        let before = self.facts(segment - 1);
        let file = self
            .files
            .get(segment)
            .map_err(|e| storage(format_args!("open segment {segment}"), &e))?;
        let (mut next_step, mut stopped) = (STEP_BYTES, false);
        let mut visit = |view: &EntryView<'_>, place: EntryPlace| {
            if place.position >= next_step {
                next_step = place.position + STEP_BYTES;
                stopped = breathe().is_break();
            }
            if stopped {
                return Err(Error::new(ErrorCode::Closed, "told to stop"));
            }
            visit(view, place)
        };
        let mut scanner = Scanner {
            identity: self.identity,
            next_index: facts.first_index,
            last_timestamp_ns: before.map_or(0, |facts| facts.last_timestamp_ns),
            sequence: self.sequence_before(segment),
            visit: &mut visit,
        };
        let end = scanner.segment(segment, &file);
        if stopped {
            return Ok(false);
        }
        let end = end?;
        if !end.sealed || end.end != facts.end {
            let why = end.fault.unwrap_or("it does not end as it did when it was sealed");
            return Err(corrupt(segment, end.end, why));
        }
        Ok(true)
    }

    /// Writes a footer; `false` where that failed, which is told and does no harm, or where it was
    /// told to stop.
    pub(crate) fn write_footer(&self, node: NodeId, bytes: &[u8], breathe: Breathe<'_>) -> bool {
        let name = names::footer(node.level, node.number);
        let written = publish(self.files.disk(), &name, bytes, breathe);
        self.files.close_footer(node);
        self.cache.forget(node);
        match written {
            Ok(whole) => whole,
            Err(error) => {
                tracing::warn!(%error, file = name, "cannot write a footer; it is made later");
                false
            }
        }
    }

    /// Joins the footers of the level below. An error names the one that is no good.
    pub(crate) fn join(&self, node: NodeId) -> Result<Option<Vec<u8>>, NodeId> {
        let mut files = Vec::new();
        for child in node.children() {
            files.push((child, self.files.footer(child).map_err(|_| child)?));
        }
        let reads: Vec<Box<ReadAt<'_>>> = files
            .iter()
            .map(|(_, file)| -> Box<ReadAt<'_>> {
                Box::new(|at, buffer| file.read_at(at, buffer).map_err(|_| PartFault))
            })
            .collect();
        let mut children: Vec<(Root, Parts<'_>)> = Vec::new();
        for ((child, _), read) in files.iter().zip(&reads) {
            let parts = Parts { read: &**read };
            let root = parts.root().map_err(|PartFault| *child)?;
            if !self.is_of(*child, &root) {
                return Err(*child);
            }
            children.push((root, parts));
        }
        merge(node, &children).map_err(|(child, PartFault)| child)
    }

    /// Makes a segment's footer anew because joining found it no good.
    pub(crate) fn repair_child(&self, node: NodeId) -> Result<(), Error> {
        self.repair(node, false)
    }
}
