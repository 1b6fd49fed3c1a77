//! Tenants, streams and SQL over the log.

pub mod sql;
