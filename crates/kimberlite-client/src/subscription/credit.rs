//! How far ahead of its reader a subscription receives.

use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use crate::door::Granter;

/// What a subscription owes its sender: payload bytes that came in and were not yet granted again.
pub(super) struct Credit {
    window_bytes: u64,
    account: Mutex<Account>,
}

#[derive(Default)]
struct Account {
    owed: u64,
    /// Of what is owed, bytes of pages that are gone.
    returned: u64,
    granter: Option<Granter>,
}

impl Credit {
    pub(super) fn new(window_bytes: u64) -> Credit {
        Credit { window_bytes, account: Mutex::default() }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh sender, which holds a whole window of credit.
    pub(super) fn restart(&self, granter: Option<Granter>) {
        let fresh = Account { granter, ..Account::default() };
        let old = std::mem::replace(&mut *self.account(), fresh);
        drop(old);
    }

    pub(super) fn received(&self, bytes: u64) {
        self.account().owed += bytes;
    }

    /// The reader waits and holds nothing back. Where it keeps its pages, or a block is larger than
    /// the window, the sender would else wait for ever.
    pub(super) fn reader_waits(&self) {
        self.grant(|account| if account.owed > self.window_bytes / 2 { account.owed } else { 0 });
    }

    /// A page of this many bytes is gone.
    fn give(&self, bytes: u64) {
        self.grant(|account| {
            account.returned = (account.returned + bytes).min(account.owed);
            if account.returned >= self.window_bytes / 4 { account.returned } else { 0 }
        });
    }

    fn grant(&self, decide: impl FnOnce(&mut Account) -> u64) {
        let (bytes, granter) = {
            let mut account = self.account();
            let bytes = decide(&mut account);
            account.owed -= bytes;
            account.returned = account.returned.saturating_sub(bytes);
            (bytes, account.granter.clone())
        };
        // Outside the lock: granting may wake others, who may come back here.
        if let (Some(granter), true) = (granter, bytes > 0) {
            granter.grant(bytes);
        }
    }
}

/// What a page gives back to its subscription when it goes.
pub(crate) struct CreditGrant {
    pub(super) credit: Weak<Credit>,
    pub(super) bytes: u64,
}

impl CreditGrant {
    /// Gives it back.
    pub(crate) fn give(self) {
        if let Some(credit) = self.credit.upgrade() {
            credit.give(self.bytes);
        }
    }
}
