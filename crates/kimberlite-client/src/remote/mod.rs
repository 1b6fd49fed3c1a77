//! The tokio driver of the protocol session.
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kimberlite_wire::session::Answer;
use kimberlite_wire::{Error, ErrorCode, Request, Response};

use crate::address::ServerAddress;
use crate::config::Config;

pub(crate) struct Remote;
pub(crate) struct RemotePull;
#[derive(Clone)]
pub(crate) struct RemoteGranter;

fn later() -> Error {
    Error::new(ErrorCode::ConnectionFailed, "")
}

impl Remote {
    pub(crate) async fn connect(_: Config, _: Vec<ServerAddress>) -> Result<Remote, Error> {
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
    ) -> Result<(Response, RemotePull), Error> {
        Err(later())
    }
    pub(crate) async fn close(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }
}
impl RemotePull {
    pub(crate) fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        Poll::Ready(None)
    }
    pub(crate) fn granter(&self) -> RemoteGranter {
        RemoteGranter
    }
}
impl RemoteGranter {
    pub(crate) fn grant(&self, _: u64) {}
}
