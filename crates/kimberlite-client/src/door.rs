//! The two doors to a database: a session over sockets, or an engine in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kimberlite_wire::constant::MAX_TIMEOUT_MS;
use kimberlite_wire::session::Answer;
use kimberlite_wire::{ClientOptions, Error, ErrorCode, Request, Response};

use crate::address::{self, Target};
use crate::config::{CallOptions, Config};
use crate::deadlines::Timer;
#[cfg(feature = "embedded")]
use crate::embedded::{Local, LocalPull};
use crate::process;
use crate::remote::{Remote, RemoteGranter, RemotePull};
use crate::stop::Stop;

/// One client's way to its database.
pub(crate) struct Door {
    way: Way,
    addresses: Vec<String>,
    options: ClientOptions,
    tenant_id: u64,
    /// Set as the client is closed: what was buffered is not handed out after that.
    closed: Arc<AtomicBool>,
}

enum Way {
    Remote(Remote),
    #[cfg(feature = "embedded")]
    Local(Arc<Local>),
}

impl Door {
    pub(crate) async fn open(config: Config) -> Result<Door, Error> {
        process::check()?;
        process::mark_used();
        config.check()?;
        let tenant_id = config.tenant_id;
        let target = address::parse(&config.addresses)?;
        let (addresses, options) = (config.addresses.clone(), config.options.clone());
        let way = match target {
            Target::Servers(servers) => {
                config.check_tls_is_used(&servers)?;
                Way::Remote(Remote::connect(config, servers).await?)
            }
            #[cfg(feature = "embedded")]
            Target::Embedded(address) => Way::Local(Local::open(&config, address).await?),
            #[cfg(not(feature = "embedded"))]
            Target::Embedded(address) => {
                let detail = format!("{address:?}: this build has no embedded database");
                return Err(Error::invalid(detail));
            }
        };
        Ok(Door { way, addresses, options, tenant_id, closed: Arc::default() })
    }

    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.options
    }

    pub(crate) fn tenant_id(&self) -> u64 {
        self.tenant_id
    }

    /// What tells whether the client was closed.
    pub(crate) fn closed(&self) -> ClosedFlag {
        ClosedFlag(Arc::clone(&self.closed))
    }

    pub(crate) fn is_embedded(&self) -> bool {
        !matches!(self.way, Way::Remote(_))
    }

    pub(crate) fn log_id(&self) -> [u8; 16] {
        match &self.way {
            Way::Remote(remote) => remote.log_id(),
            #[cfg(feature = "embedded")]
            Way::Local(local) => local.log_id(),
        }
    }

    /// A call's time in milliseconds. INVALID_ARGUMENT names one out of bounds.
    pub(crate) fn timeout_ms(&self, options: &CallOptions) -> Result<u64, Error> {
        let timeout_ms = options.timeout_ms.unwrap_or(self.options.timeout_ms);
        if !(1..=MAX_TIMEOUT_MS).contains(&timeout_ms) {
            let detail =
                format!("timeout_ms is {timeout_ms}; it must be from 1 to {MAX_TIMEOUT_MS}");
            return Err(Error::invalid(detail));
        }
        Ok(timeout_ms)
    }

    /// Asks, and holds the whole answer.
    pub(crate) async fn collect(
        &self,
        request: Request,
        payload: Bytes,
        options: &CallOptions,
    ) -> Result<Answer, Error> {
        self.append(request, payload, options, None).await
    }

    /// The same, which `stop` can cancel: made for appends, whose error then tells the key.
    pub(crate) async fn append(
        &self,
        request: Request,
        payload: Bytes,
        options: &CallOptions,
        stop: Option<&Stop>,
    ) -> Result<Answer, Error> {
        process::check()?;
        let timeout = Duration::from_millis(self.timeout_ms(options)?);
        match &self.way {
            Way::Remote(remote) => remote.collect(request, payload, timeout, stop).await,
            #[cfg(feature = "embedded")]
            Way::Local(local) => local.collect(request, payload, timeout, stop).await,
        }
    }

    /// Asks, and takes the answer's payload as it comes. The deadline bounds the wait for its body.
    pub(crate) async fn stream(
        &self,
        request: Request,
        options: &CallOptions,
    ) -> Result<(Response, Pull), Error> {
        process::check()?;
        let timeout = Duration::from_millis(self.timeout_ms(options)?);
        match &self.way {
            Way::Remote(remote) => {
                let (body, pull) = remote.stream(request, timeout).await?;
                Ok((body, Pull::Remote(pull)))
            }
            #[cfg(feature = "embedded")]
            Way::Local(local) => {
                let (body, pull) = local.stream(request, timeout).await?;
                Ok((body, Pull::Local(pull)))
            }
        }
    }

    pub(crate) async fn close(&self, timeout_ms: u64) -> Result<(), Error> {
        process::check()?;
        let timeout = Duration::from_millis(timeout_ms);
        self.closed.store(true, Ordering::Release);
        match &self.way {
            Way::Remote(remote) => remote.close(timeout).await,
            #[cfg(feature = "embedded")]
            Way::Local(local) => local.close(timeout).await,
        }
    }
}

/// Tells whether a client was closed, without keeping it open.
#[derive(Default)]
pub(crate) struct ClosedFlag(Arc<AtomicBool>);

impl ClosedFlag {
    /// CLOSED after the close.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Acquire) {
            return Err(Error::new(ErrorCode::Closed, "the client is closed"));
        }
        Ok(())
    }
}

/// The payload of a streaming answer. Dropping it stops the work behind it.
pub(crate) enum Pull {
    Remote(RemotePull),
    #[cfg(feature = "embedded")]
    Local(LocalPull),
}

impl Pull {
    /// The next chunk, cut anywhere; `None` at the end.
    pub(crate) fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        match self {
            Pull::Remote(pull) => pull.poll_chunk(context),
            #[cfg(feature = "embedded")]
            Pull::Local(pull) => pull.poll_chunk(context),
        }
    }

    /// The next chunk, cut anywhere; `None` at the end. TIMEOUT where the timer, which was set for
    /// `timeout_ms`, fires first.
    pub(crate) async fn next_chunk(
        &mut self,
        timer: &mut Timer,
        timeout_ms: u64,
        what: &str,
    ) -> Result<Option<Bytes>, Error> {
        std::future::poll_fn(|context| {
            if let Poll::Ready(chunk) = self.poll_chunk(context) {
                return Poll::Ready(chunk.transpose());
            }
            timer.poll(context).map(|fired| {
                fired?;
                let detail = format!("the next part of {what} took longer than {timeout_ms} ms");
                Err(Error::new(ErrorCode::Timeout, detail))
            })
        })
        .await
    }

    /// Lets the sender send more.
    pub(crate) fn grant(&self, bytes: u64) {
        self.granter().grant(bytes);
    }

    /// What grants without the payload at hand.
    pub(crate) fn granter(&self) -> Granter {
        match self {
            Pull::Remote(pull) => Granter::Remote(pull.granter()),
            #[cfg(feature = "embedded")]
            Pull::Local(_) => Granter::None,
        }
    }
}

/// Lets a sender send more.
#[derive(Clone)]
pub(crate) enum Granter {
    Remote(RemoteGranter),
    /// A database in this process is asked for each chunk; it never runs ahead.
    #[cfg(feature = "embedded")]
    None,
}

impl Granter {
    pub(crate) fn grant(&self, bytes: u64) {
        match self {
            Granter::Remote(granter) => granter.grant(bytes),
            #[cfg(feature = "embedded")]
            Granter::None => {}
        }
    }
}
