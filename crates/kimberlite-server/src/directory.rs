//! Who the tokens belong to and what they grant.

use kimberlite_wire::Role;

use crate::config::TokenConfig;
use crate::token::{Tenants, TokenHash};

/// Every token of the configuration.
#[derive(Debug)]
pub(crate) struct Directory {
    tokens: Vec<TokenConfig>,
}

/// What a token grants on a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The name of the token's holder.
    pub(crate) principal: String,
    /// The role on the tenant.
    pub(crate) role: Role,
    /// Whether it is admin of every tenant.
    pub(crate) admin_of_all: bool,
    /// The hashes that the token matched, by which a reload finds it again.
    hashes: Vec<TokenHash>,
}

impl Directory {
    pub(crate) fn new(tokens: Vec<TokenConfig>) -> Directory {
        Directory { tokens }
    }

    /// What `token` grants on the tenant; `None` where no such token is known. Every entry is
    /// compared, so that the time tells nothing about which one matched. A token in several
    /// entries has the highest of their roles.
    pub(crate) fn grant(&self, token: &str, tenant_id: u64) -> Option<Grant> {
        let mut found: Vec<&TokenConfig> = Vec::new();
        for entry in &self.tokens {
            if entry.hash.matches(token) {
                found.push(entry);
            }
        }
        Directory::join(&found, tenant_id)
    }

    /// Whether the tokens of this directory still grant the same.
    pub(crate) fn still_grants(&self, grant: &Grant, tenant_id: u64) -> bool {
        let found: Vec<&TokenConfig> =
            self.tokens.iter().filter(|entry| grant.hashes.contains(&entry.hash)).collect();
        Directory::join(&found, tenant_id).as_ref() == Some(grant)
    }

    fn join(found: &[&TokenConfig], tenant_id: u64) -> Option<Grant> {
        let principal = found.first()?.name.clone();
        let here = found.iter().filter(|entry| entry.tenants.contains(tenant_id));
        Some(Grant {
            principal,
            role: here.map(|entry| entry.role).max().unwrap_or(Role::None),
            admin_of_all: found
                .iter()
                .any(|entry| entry.role == Role::Admin && entry.tenants == Tenants::All),
            hashes: found.iter().map(|entry| entry.hash.clone()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, role: Role, tenants: Tenants, token: &str) -> TokenConfig {
        TokenConfig::new(name, role, tenants, token).unwrap()
    }

    /// A token grants its role where it is named, nothing elsewhere, and an unknown one is none.
    #[test]
    fn grants_by_token_and_tenant() {
        let directory = Directory::new(vec![
            entry("alice", Role::Writer, Tenants::Some(vec![1, 2]), "a"),
            entry("root", Role::Admin, Tenants::All, "r"),
            entry("alice", Role::Reader, Tenants::Some(vec![2, 3]), "a"),
        ]);
        let role = |token, tenant| directory.grant(token, tenant).map(|grant| grant.role);
        assert_eq!(role("a", 1), Some(Role::Writer));
        assert_eq!(role("a", 2), Some(Role::Writer));
        assert_eq!(role("a", 3), Some(Role::Reader));
        assert_eq!(role("a", 4), Some(Role::None));
        assert_eq!(role("b", 1), None);
        assert!(directory.grant("r", 9).unwrap().admin_of_all);
        assert!(!directory.grant("a", 1).unwrap().admin_of_all);
    }

    /// After a reload a grant stands only where the same token grants the same.
    #[test]
    fn notices_changes() {
        let alice = entry("alice", Role::Writer, Tenants::Some(vec![1]), "a");
        let grant = Directory::new(vec![alice.clone()]).grant("a", 1).unwrap();
        let more = entry("bob", Role::Reader, Tenants::All, "b");
        assert!(Directory::new(vec![alice.clone(), more]).still_grants(&grant, 1));
        let less = TokenConfig { role: Role::Reader, ..alice.clone() };
        assert!(!Directory::new(vec![less]).still_grants(&grant, 1));
        assert!(!Directory::new(vec![]).still_grants(&grant, 1));
        let salted_anew = entry("alice", Role::Writer, Tenants::Some(vec![1]), "a");
        assert!(!Directory::new(vec![salted_anew]).still_grants(&grant, 1));
    }
}
