//! Tenants: creating, deleting and listing them.

use kimberlite_wire::CompletionKind;

use crate::arguments::Out;
use crate::boundary::{boundary, quietly};
use crate::call::{self, KmbCallOptions, wait};
use crate::client::{self, KmbClient};
use crate::detail::{KmbDetail, KmbError};
use crate::queue::KmbQueue;
use crate::submit::{Outcome, Submission};

/// Tenants in order.
///
/// Ownership: freed once by kmb_tenant_list_free; tenant_ids is valid until then. Threads: any
/// thread may read it.
#[repr(C)]
pub struct KmbTenantList {
    /// The tenants' ids.
    pub tenant_ids: *const u64,
    /// How many there are.
    pub count: usize,
}

/// A list with what it points into; the public part comes first.
#[repr(C)]
struct OwnedList {
    public: KmbTenantList,
    _ids: Vec<u64>,
}

fn give(ids: Vec<u64>) -> *mut KmbTenantList {
    let public = KmbTenantList { tenant_ids: ids.as_ptr(), count: ids.len() };
    Box::into_raw(Box::new(OwnedList { public, _ids: ids })).cast()
}

/// Frees a list that [`give`] made; NULL is harmless.
///
/// # Safety
/// It must not be freed yet.
pub(crate) unsafe fn free(list: *mut KmbTenantList) {
    if !list.is_null() {
        // SAFETY: `give` made it from such a box, and the caller frees it once.
        drop(unsafe { Box::from_raw(list.cast::<OwnedList>()) });
    }
}

/// Creates a tenant. The token's role must be admin on it, or on every tenant.
///
/// created_out: receives whether this call created it; may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_create_tenant(
    client: *mut KmbClient,
    tenant_id: u64,
    call: *const KmbCallOptions,
    created_out: *mut bool,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let options = call::options(call)?;
        Out::optional(created_out).put(wait(client.create_tenant(tenant_id, &options))?);
        Ok(())
    })
}

/// Submits kmb_create_tenant. The completion's values: 1 where this call created it, else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_create_tenant(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    tenant_id: u64,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::CreateTenant, tag)?;
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            let created = client.create_tenant(tenant_id, &options).await?;
            Ok(Outcome::value(u64::from(created)))
        })
    })
}

/// Deletes a tenant: from then on nobody reaches its streams, and its number is never used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_delete_tenant(
    client: *mut KmbClient,
    tenant_id: u64,
    call: *const KmbCallOptions,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let options = call::options(call)?;
        wait(client.delete_tenant(tenant_id, &options))
    })
}

/// Submits kmb_delete_tenant.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_delete_tenant(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    tenant_id: u64,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::DeleteTenant, tag)?;
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            client.delete_tenant(tenant_id, &options).await?;
            Ok(Outcome::none())
        })
    })
}

/// Lists the tenants on which the caller is admin, in order.
///
/// list_out: receives the list; the caller frees it with kmb_tenant_list_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_list_tenants(
    client: *mut KmbClient,
    call: *const KmbCallOptions,
    list_out: *mut *mut KmbTenantList,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("list_out", list_out)?;
        let options = call::options(call)?;
        out.put(give(wait(client.list_tenants(&options))?));
        Ok(())
    })
}

/// Submits kmb_list_tenants. The completion's result: the KmbTenantList.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_list_tenants(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::ListTenants, tag)?;
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            Ok(Outcome::result(give(client.list_tenants(&options).await?)))
        })
    })
}

/// Frees a list of tenants once; NULL is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_tenant_list_free(list: *mut KmbTenantList) {
    // SAFETY: the caller passes NULL or a list of its own.
    quietly(|| unsafe { free(list) });
}
