//! The examples run as they stand.

use kimberlite::{Config, Error};

#[path = "../../../examples/rust/audit_trail.rs"]
mod audit_trail;
#[path = "../../../examples/rust/compliance_patterns.rs"]
mod compliance_patterns;
#[path = "../../../examples/rust/connection_pooling.rs"]
mod connection_pooling;
#[path = "../../../examples/rust/crud.rs"]
mod crud;
#[path = "../../../examples/rust/quickstart.rs"]
mod quickstart;
#[path = "../../../examples/rust/troubleshooting.rs"]
mod troubleshooting;

/// The program may run any number of times on one database, and each run adds its three events.
#[test]
fn quickstart_runs_again() -> Result<(), Error> {
    // It lives as long as it has a client, so that the runs meet the same one.
    let config = || Config::new(["memory:quickstart-test"]).tenant(1);
    let kept = kimberlite::blocking::Client::connect(config())?;
    for count in [3, 6, 9] {
        let found = quickstart::run(config())?;
        assert!(found.valid);
        assert_eq!(found.count, count);
    }
    kept.close()
}

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

/// Threads share one client, and none of their appends is lost.
#[test]
fn connection_pooling_shares_one_client() -> Result<(), Error> {
    assert_eq!(connection_pooling::run(Config::new(["memory:"]).tenant(1))?, 96);
    Ok(())
}

/// Corrections, the past, the audit, conflicts, isolation and proof are as the guide says.
#[test]
fn compliance_patterns_hold() -> Result<(), Error> {
    assert!(compliance_patterns::run(Config::new(["memory:patterns-test"]).tenant(1))?);
    Ok(())
}

/// An append whose outcome was unknown is there once, or was never sent.
#[test]
fn troubleshooting_settles_appends() -> Result<(), Error> {
    assert!(troubleshooting::run(Config::new(["memory:"]).tenant(1))? <= 1);
    Ok(())
}
