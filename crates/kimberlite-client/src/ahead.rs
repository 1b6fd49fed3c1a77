//! Reading ahead: the next page is read while the caller works on the present one.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use kimberlite_wire::Error;
use tokio::task::JoinHandle;

use crate::client::{Client, StreamId};
use crate::config::CallOptions;
use crate::deadlines::Timer;
use crate::page::Page;
use crate::{block_on, process, runtime};

/// A caller who works at least so long on a page gets the next one read meanwhile. Handing a read to
/// another thread costs some ten microseconds, which quicker callers would only lose.
pub(crate) const WORTH_IT: Duration = Duration::from_micros(100);

/// A read under way for nobody yet. Dropped, it is given up.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    /// Taken only as it is dropped.
    task: Option<JoinHandle<Result<Page, Error>>>,
}

impl ReadAhead {
    /// Starts reading a page; `None` where there are no threads for it.
    pub(crate) fn start(
        client: &Client,
        stream: StreamId,
        from_offset: u64,
        max_events: u64,
        options: &CallOptions,
    ) -> Option<ReadAhead> {
        let runtime = runtime::handle().ok()?;
        let (client, options) = (client.clone(), *options);
        let waits_for_disk = client.is_embedded();
        let read = async move { client.read(stream, from_offset, max_events, 0, &options).await };
        let task = if waits_for_disk {
            // The two threads that serve all clients must not wait for a disk.
            runtime.spawn_blocking(move || block_on(read))
        } else {
            runtime.spawn(read)
        };
        Some(ReadAhead { task: Some(task) })
    }

    /// The page; `None` where it could not be read or does not come in time, so that the caller
    /// must ask by itself.
    pub(crate) async fn page(&mut self, timeout: Duration) -> Option<Page> {
        let task = self.task.as_mut()?;
        let mut timer = Timer::after(timeout);
        std::future::poll_fn(|context| {
            if let Poll::Ready(ended) = Pin::new(&mut *task).poll(context) {
                return Poll::Ready(ended.ok().and_then(Result::ok));
            }
            timer.poll(context).map(|_| None)
        })
        .await
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        if process::is_forked() {
            // It belongs to threads that the child does not have.
            std::mem::forget(task);
        } else {
            task.abort();
        }
    }
}
