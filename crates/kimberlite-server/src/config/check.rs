//! Checks a configuration: every refusal names the option, its value, the bounds and what to do.

use kimberlite_wire::{Error, Role};

use super::problems::Problems;
use super::{ServerConfig, TokenConfig, bounds};
use crate::token::Tenants;

const MAX_TOKENS: usize = 4_096;
const MAX_TENANTS: usize = 65_536;
const MAX_LISTEN: usize = 64;
const MAX_NAME_BYTES: usize = 255;

impl ServerConfig {
    /// Checks every value. INVALID_ARGUMENT names each option that is wrong, its value and the
    /// bounds.
    pub fn check(&self) -> Result<(), Error> {
        let mut problems = Problems::default();
        self.find_problems(&mut problems);
        problems.into_result()
    }

    /// Notes everything that is wrong.
    pub(crate) fn find_problems(&self, problems: &mut Problems) {
        let count = self.listen.len();
        if !(1..=MAX_LISTEN).contains(&count) {
            problems.add(format!(
                "listen holds {count} addresses; it must be from 1 to {MAX_LISTEN}; leave it out \
                 for localhost"
            ));
        }
        let count = self.admin.listen.len();
        if count > MAX_LISTEN {
            problems
                .add(format!("admin.listen holds {count} addresses; give at most {MAX_LISTEN}"));
        }
        find_repeated("listen", &self.listen, problems);
        find_repeated("admin.listen", &self.admin.listen, problems);
        let count = self.tenants.len();
        if count > MAX_TENANTS {
            problems.add(format!(
                "tenants holds {count} numbers; at most {MAX_TENANTS} can exist from the start; \
                 create the others by create_tenant"
            ));
        }
        if self.tenants.contains(&0) {
            problems.add("tenants holds 0; tenants are numbered from 1; leave the 0 out");
        }
        if self.allow_plaintext && self.tls.is_none() {
            problems.add(
                "allow_plaintext is true but there is no [tls]; without TLS every connection is \
                 plain, so leave allow_plaintext out",
            );
        }
        bounds::check(self, problems);
        let count = self.tokens.len();
        if count == 0 && !problems.about_tokens {
            problems.add(
                "no token is configured, so that nobody could connect; make one with \
                 `kimberlite-server token --name NAME --role ROLE --tenants LIST`",
            );
        }
        if count > MAX_TOKENS {
            problems.add(format!("there are {count} tokens; at most {MAX_TOKENS} are taken"));
        }
        for (at, token) in self.tokens.iter().enumerate() {
            problems.note(token.check());
            if let Some(other) = self.tokens.iter().take(at).find(|t| t.hash == token.hash) {
                problems.add(format!(
                    "the tokens {:?} and {:?} have the same hash; make one of them anew, so that \
                     each act is its holder's",
                    other.name, token.name
                ));
            }
        }
        if !self.memory && self.data_dir.as_os_str().is_empty() {
            problems.add("data_dir is empty; name a folder, or leave it out for ./kimberlite-data");
        }
    }
}

/// Notes an address that stands in a list twice, unless each time it takes a free port.
fn find_repeated(option: &str, addresses: &[String], problems: &mut Problems) {
    for (at, address) in addresses.iter().enumerate() {
        let before = addresses.iter().take(at).filter(|other| *other == address).count();
        if before == 1 && !address.ends_with(":0") {
            problems.add(format!("{option} names {address:?} more than once; leave one"));
        }
    }
}

impl TokenConfig {
    /// Checks name, role and tenants. INVALID_ARGUMENT names what is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let name = &self.name;
        let mut problems = Problems::default();
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            problems.add(format!(
                "a token's name is {name:?}; it must be 1 to {MAX_NAME_BYTES} bytes without \
                 control characters"
            ));
        }
        if self.role == Role::None {
            problems.add(format!("token {name:?} grants no role; use reader, writer or admin"));
        }
        if matches!(&self.tenants, Tenants::Some(list) if list.is_empty() || list.contains(&0)) {
            problems.add(format!(
                "token {name:?} names no tenant or tenant 0; give numbers from 1, or \"*\""
            ));
        }
        problems.into_result()
    }
}
