//! The examples run as they stand.

use kimberlite::{Config, Error};

#[path = "../../../examples/rust/audit_trail.rs"]
mod audit_trail;
#[path = "../../../examples/rust/crud.rs"]
mod crud;

/// The program keeps every event, also of what it updated and deleted.
#[test]
fn crud_keeps_its_history() -> Result<(), Error> {
    assert_eq!(crud::run(Config::new(["memory:"]).tenant(1))?, 5);
    Ok(())
}

/// The program finds the same head of the chain as the database.
#[test]
fn audit_trail_is_proven() -> Result<(), Error> {
    assert!(audit_trail::run(Config::new(["memory:"]).tenant(1))?);
    Ok(())
}
