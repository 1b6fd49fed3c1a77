//! Who may do what: the one place that decides.
//!
//! Each operation needs a role on the tenant that it is about; the contract says which. A tenant
//! that does not exist is TENANT_NOT_FOUND to everybody, and only one that does can be denied.

use kimberlite_wire::{Error, ErrorCode, Operation, Role};

use crate::catalogue::{Catalogue, TenantState, tenant_not_found};
use crate::session::Session;

/// Whether the session may do the operation on its own tenant.
pub(crate) fn check(
    catalogue: &Catalogue,
    session: &Session,
    operation: Operation,
) -> Result<(), Error> {
    catalogue.live(session.tenant_id())?;
    need(session, operation, session.role(), session.tenant_id())
}

/// Whether the session may create this tenant.
pub(crate) fn check_create(session: &Session, tenant_id: u64) -> Result<(), Error> {
    need(session, Operation::CreateTenant, role_on(session, tenant_id), tenant_id)
}

/// Whether the session may delete this tenant. One that is gone already may be deleted again: the
/// first answer may have been lost on its way.
pub(crate) fn check_delete(
    catalogue: &Catalogue,
    session: &Session,
    tenant_id: u64,
) -> Result<(), Error> {
    let may = need(session, Operation::DeleteTenant, role_on(session, tenant_id), tenant_id);
    match catalogue.state(tenant_id) {
        Some(TenantState::Live(_)) => may,
        Some(TenantState::Deleted { .. }) if may.is_ok() => Ok(()),
        _ => Err(tenant_not_found(tenant_id)),
    }
}

/// Whether the session may hear of its tenant's audit stream: its name, its chain, its end.
pub(crate) fn check_audit(session: &Session, operation: Operation) -> Result<(), Error> {
    if session.role() == Role::Admin {
        return Ok(());
    }
    let detail = format!(
        "{} of _audit needs the role {} on tenant {}; {:?} has {}",
        operation.name(),
        Role::Admin.name(),
        session.tenant_id(),
        session.principal(),
        session.role().name()
    );
    Err(Error::new(ErrorCode::PermissionDenied, detail))
}

/// The tenants on which the session is admin.
pub(crate) fn administered(catalogue: &Catalogue, session: &Session) -> Result<Vec<u64>, Error> {
    if session.is_admin_of_all() {
        return Ok(catalogue.tenant_ids());
    }
    check(catalogue, session, Operation::ListTenants)?;
    Ok(vec![session.tenant_id()])
}

fn role_on(session: &Session, tenant_id: u64) -> Role {
    let is_own = tenant_id == session.tenant_id();
    if is_own || session.is_admin_of_all() { session.role() } else { Role::None }
}

fn need(session: &Session, operation: Operation, role: Role, tenant_id: u64) -> Result<(), Error> {
    let least = operation.role();
    if role >= least {
        return Ok(());
    }
    // Clients open a producer by themselves before the first append, which is what was asked for.
    let asked = if operation == Operation::OpenProducer { Operation::Append } else { operation };
    let detail = format!(
        "{} needs the role {} on tenant {tenant_id}; {:?} has {}",
        asked.name(),
        least.name(),
        session.principal(),
        role.name()
    );
    Err(Error::new(ErrorCode::PermissionDenied, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        let mut catalogue = Catalogue::default();
        catalogue.create_tenant(1, 1, 0, 1);
        catalogue.create_tenant(2, 2, 0, 2);
        catalogue.create_tenant(3, 3, 0, 3);
        catalogue.delete_tenant(3, 4);
        catalogue
    }

    fn code(result: Result<(), Error>) -> ErrorCode {
        result.map_or_else(|error| error.code, |()| ErrorCode::Ok)
    }

    /// Every role against every operation on the session's own tenant.
    #[test]
    fn roles_are_a_ladder() {
        let catalogue = catalogue();
        for role in Role::ALL {
            let session = Session::new("ann", 1, role, false);
            for operation in Operation::ALL {
                let expected = if role >= operation.role() {
                    ErrorCode::Ok
                } else {
                    ErrorCode::PermissionDenied
                };
                assert_eq!(code(check(&catalogue, &session, operation)), expected);
            }
        }
        let all = Session::new("root", 1, Role::None, true);
        assert_eq!(code(check(&catalogue, &all, Operation::Append)), ErrorCode::Ok);
    }

    /// Who may not append hears of that, and not of the producer that the client opens for it.
    #[test]
    fn who_may_not_append_is_told_so() {
        let session = Session::new("ann", 1, Role::Reader, false);
        for operation in [Operation::Append, Operation::OpenProducer] {
            let error = check(&catalogue(), &session, operation).unwrap_err();
            let told = "append needs the role Writer on tenant 1; \"ann\" has Reader";
            assert_eq!((error.code, error.detail.as_str()), (ErrorCode::PermissionDenied, told));
        }
    }

    /// A tenant that does not exist, or no longer, is not found before anything is denied.
    #[test]
    fn missing_tenants_are_not_found() {
        let catalogue = catalogue();
        for tenant_id in [3, 9] {
            for role in Role::ALL {
                let session = Session::new("ann", tenant_id, role, false);
                let result = check(&catalogue, &session, Operation::Read);
                assert_eq!(code(result), ErrorCode::TenantNotFound);
            }
        }
    }

    /// Tenants are created and deleted by an admin of theirs, or of all.
    #[test]
    fn tenants_are_administered() {
        let catalogue = catalogue();
        let admin = Session::new("ann", 1, Role::Admin, false);
        let writer = Session::new("bob", 1, Role::Writer, false);
        let all = Session::new("root", 9, Role::None, true);
        assert_eq!(code(check_create(&admin, 1)), ErrorCode::Ok);
        assert_eq!(code(check_create(&admin, 9)), ErrorCode::PermissionDenied);
        assert_eq!(code(check_create(&writer, 1)), ErrorCode::PermissionDenied);
        assert_eq!(code(check_create(&all, 9)), ErrorCode::Ok);
        for (session, tenant_id, expected) in [
            (&admin, 1, ErrorCode::Ok),
            (&admin, 2, ErrorCode::PermissionDenied),
            (&admin, 3, ErrorCode::TenantNotFound),
            (&admin, 9, ErrorCode::TenantNotFound),
            (&writer, 1, ErrorCode::PermissionDenied),
            (&all, 2, ErrorCode::Ok),
            (&all, 3, ErrorCode::Ok),
            (&all, 9, ErrorCode::TenantNotFound),
        ] {
            assert_eq!(code(check_delete(&catalogue, session, tenant_id)), expected);
        }
        assert_eq!(administered(&catalogue, &admin), Ok(vec![1]));
        assert_eq!(administered(&catalogue, &all), Ok(vec![1, 2]));
        assert!(administered(&catalogue, &writer).is_err());
    }
}
