//! Who is asking.

use kimberlite_wire::Role;

/// An authenticated caller: a principal, the tenant that it works for and what it may do there.
///
/// The door that made the session (a server's token check, an embedded opening) vouches for it; the
/// engine checks it against each operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    principal: String,
    tenant_id: u64,
    role: Role,
    admin_of_all: bool,
}

impl Session {
    pub(crate) fn new(principal: &str, tenant_id: u64, role: Role, admin_of_all: bool) -> Session {
        Session { principal: principal.to_string(), tenant_id, role, admin_of_all }
    }

    /// The name under which `_audit` records what the session does.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// The tenant that it works for.
    pub fn tenant_id(&self) -> u64 {
        self.tenant_id
    }

    /// What it may do on its tenant.
    pub fn role(&self) -> Role {
        if self.admin_of_all { Role::Admin } else { self.role }
    }

    /// Whether it is admin of every tenant, also of those that do not exist yet.
    pub fn is_admin_of_all(&self) -> bool {
        self.admin_of_all
    }
}
