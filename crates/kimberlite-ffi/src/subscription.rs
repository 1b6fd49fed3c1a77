//! Subscriptions: a stream as it grows.

use std::sync::Arc;
use std::time::Duration;

use kimberlite_client::{CallOptions, Page, StreamId, Subscription};
use kimberlite_wire::{CompletionKind, Error};

use crate::arguments::Out;
use crate::boundary::boundary;
use crate::call::{self, KmbCallOptions, wait};
use crate::client::{self, ClientState, KmbClient};
use crate::detail::{KmbDetail, KmbError};
use crate::generated::KMB_FOREVER;
use crate::handle::Table;
use crate::page::{self, KmbPage};
use crate::queue::{self, KmbQueue};
use crate::submit::{self, Outcome, Submission, Target};
use crate::watch::{self, Readiness};

/// Everything of a stream from an offset on, then every event as it is committed.
///
/// Ownership: made by kmb_subscribe or a completion of kmb_submit_subscribe, closed by
/// kmb_subscription_close. Threads: safe from every thread.
pub struct KmbSubscription {
    _private: [u8; 0],
}

static SUBSCRIPTIONS: Table<SubscriptionState> = Table::new(6, "KmbSubscription");

/// A subscription behind its handle.
pub(crate) struct SubscriptionState {
    pub(crate) client: Arc<ClientState>,
    pub(crate) subscription: Subscription,
    pub(crate) readiness: Readiness,
}

impl SubscriptionState {
    /// The next page; `KMB_FOREVER` waits for ever.
    async fn next(&self, timeout_ms: u64) -> Result<Option<Page>, Error> {
        let timeout = (timeout_ms != KMB_FOREVER).then(|| Duration::from_millis(timeout_ms));
        self.noted(self.subscription.next(timeout).await)
    }

    /// Lets the watch look again where nothing was there.
    fn noted(&self, page: Result<Option<Page>, Error>) -> Result<Option<Page>, Error> {
        if !matches!(page, Ok(Some(_))) {
            self.readiness.rearm(page.is_err());
        }
        page
    }

    fn close(&self) {
        self.subscription.close();
        self.readiness.rearm(true);
    }
}

/// A handle on its way to the caller: a number, not an address.
struct Handle(*mut KmbSubscription);

// SAFETY: see the type.
unsafe impl Send for Handle {}

async fn open(
    client: Arc<ClientState>,
    stream: StreamId,
    from_offset: u64,
    options: CallOptions,
) -> Result<Handle, Error> {
    let subscription = client.subscribe(stream, from_offset, &options).await?;
    let readiness = Readiness::default();
    let state = SubscriptionState { client, subscription, readiness };
    Ok(Handle(SUBSCRIPTIONS.insert(Arc::new(state))?))
}

/// Closes a subscription that nobody wants any more.
pub(crate) fn discard(subscription: *mut KmbSubscription) {
    if let Ok(Some(subscription)) = SUBSCRIPTIONS.remove("subscription", subscription) {
        subscription.close();
    }
}

/// Closes every subscription.
pub(crate) fn close_all() {
    SUBSCRIPTIONS.drain().iter().for_each(|subscription| subscription.close());
}

/// Subscribes to a stream. When a connection is lost the subscription resumes by itself at the next
/// offset: nothing is skipped or repeated. The call's deadline bounds the subscribing only.
///
/// subscription_out: receives the subscription; the caller closes it with kmb_subscription_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_subscribe(
    client: *mut KmbClient,
    stream_id: u64,
    from_offset: u64,
    call: *const KmbCallOptions,
    subscription_out: *mut *mut KmbSubscription,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("subscription_out", subscription_out)?;
        let options = call::options(call)?;
        out.put(wait(open(client, StreamId(stream_id), from_offset, options))?.0);
        Ok(())
    })
}

/// Submits kmb_subscribe. The completion's result: the KmbSubscription.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_subscribe(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    stream_id: u64,
    from_offset: u64,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::Subscribe, tag)?;
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            let subscription = open(client, StreamId(stream_id), from_offset, options).await?;
            Ok(Outcome::result(subscription.0))
        })
    })
}

/// The next page as soon as anything is there; NULL with OK where nothing came in time. CLOSED after
/// the subscription or its client was closed; any other error ends the subscription too.
///
/// timeout_ms: 0 does not wait, KMB_FOREVER waits for ever. page_out: receives the page; the caller
/// frees it with kmb_page_free, which lets further bytes be sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_subscription_next(
    subscription: *mut KmbSubscription,
    timeout_ms: u64,
    page_out: *mut *mut KmbPage,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let state = SUBSCRIPTIONS.get("subscription", subscription)?;
        let out = Out::new("page_out", page_out)?;
        let page = match timeout_ms {
            0 => state.noted(state.subscription.try_next())?,
            _ => wait(state.next(timeout_ms))?,
        };
        out.put(page::give_some(page));
        Ok(())
    })
}

/// Submits kmb_subscription_next. The completion's result: the KmbPage, NULL where none came in
/// time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_subscription_next(
    subscription: *mut KmbSubscription,
    queue: *mut KmbQueue,
    timeout_ms: u64,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let state = SUBSCRIPTIONS.get("subscription", subscription)?;
        let kind = CompletionKind::SubscriptionNext;
        let target = Target::new(queue::get(queue)?, kind, tag);
        let pending = state.client.begin()?;
        let future = Box::pin(async move {
            let page = state.next(timeout_ms).await?;
            Ok(Outcome::result(page::give_some(page)))
        });
        submit::start(target, Some(pending), operation_out, future)
    })
}

/// Watches a subscription: posts a KMB_COMPLETION_SUBSCRIPTION_READY to the queue when pages are
/// there or the subscription has ended, and again only after a kmb_subscription_next gave no page.
/// So one who gets it takes pages with a timeout of 0 until there is none. One may come in vain.
/// Every one of them carries this operation's id and tag; kmb_cancel ends the watch with a last
/// completion, which says CANCELLED. A subscription has one watch at a time, else INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_subscription_watch(
    subscription: *mut KmbSubscription,
    queue: *mut KmbQueue,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let state = SUBSCRIPTIONS.get("subscription", subscription)?;
        let queue = queue::get(queue)?;
        Out::optional(operation_out).put(watch::start(state, queue, tag)?);
        Ok(())
    })
}

/// Ends a subscription; waiting calls get CLOSED, pages live on. A second close is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_subscription_close(
    subscription: *mut KmbSubscription,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        if let Some(subscription) = SUBSCRIPTIONS.remove("subscription", subscription)? {
            subscription.close();
        }
        Ok(())
    })
}
