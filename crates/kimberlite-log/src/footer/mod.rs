//! Footers: what lies where in the segments that are complete, and what their content is.
//!
//! A footer of level 0 belongs to one segment and follows from its bytes alone: for each stream that
//! has blocks in it their places, the timestamps of its entries, and digests of these. A footer of
//! the next level joins sixteen of the level below, and tells for each stream which of them have
//! blocks of it, so that looking for a block of a stream which is rarely written to asks few files.
//!
//! Footers are files of their own, written after their segment was sealed. They are local, and
//! whatever is wrong with one, it is made anew from the segment. Every part has a checksum that
//! stands in the part which leads to it; that of the first part stands in itself.

mod build;
mod format;
mod merge;
mod parts;

pub(crate) use build::{FooterBuilder, key};
pub(crate) use format::{Fence, Key, MAX_LEVEL, NodeId, PAGE_TIMES, Root, Run};
pub(crate) use merge::merge;
pub(crate) use parts::{PartFault, Parts, ReadAt, chunk_of};
