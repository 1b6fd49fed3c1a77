//! Databases for tests.

use kimberlite_client::Error;

use crate::blocking::Client;

/// A database of the caller's own, in memory, with nothing in it: tests that each take one can run
/// side by side. It is gone when the client is; [`Client::to_async`] gives its asynchronous face.
///
/// ```
/// use kimberlite::{DataClass, Offset};
///
/// let client = kimberlite::testing::database()?;
/// let stream = client.create_stream("orders", DataClass::NonPhi)?;
/// client.append(stream, ["one"])?;
/// assert_eq!(client.read(stream, Offset::START, 10)?.event(0), Some(&b"one"[..]));
/// # Ok::<(), kimberlite::Error>(())
/// ```
pub fn database() -> Result<Client, Error> {
    Client::connect("memory:")
}
