//! Databases in this process.
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kimberlite_wire::session::Answer;
use kimberlite_wire::{Error, ErrorCode, Request, Response};

use crate::address::EmbeddedAddress;
use crate::config::Config;

pub(crate) struct Local;
pub(crate) struct LocalPull;
fn later() -> Error {
    Error::new(ErrorCode::Storage, "")
}
impl Local {
    pub(crate) async fn open(_: &Config, _: EmbeddedAddress) -> Result<Arc<Local>, Error> {
        Err(later())
    }
    pub(crate) fn log_id(&self) -> [u8; 16] {
        [0; 16]
    }
    pub(crate) async fn collect(&self, _: Request, _: Bytes, _: Duration) -> Result<Answer, Error> {
        Err(later())
    }
    pub(crate) async fn stream(
        &self,
        _: Request,
        _: Duration,
    ) -> Result<(Response, LocalPull), Error> {
        Err(later())
    }
    pub(crate) async fn close(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }
}
impl LocalPull {
    pub(crate) fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        Poll::Ready(None)
    }
}
