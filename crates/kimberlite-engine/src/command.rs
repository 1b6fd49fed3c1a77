//! The decisions that the log holds beside events: the bodies of its command entries.
//!
//! A body is its version, the command's number, and the fields in the layout of message bodies. A
//! version or number that this code does not know makes the log unreadable for it: skipping a
//! decision would apply those after it to a state that never was.

use kimberlite_wire::codec::{DecodeError, Field, Reader};
use kimberlite_wire::{DataClass, Error, ErrorCode};

const VERSION: u8 = 1;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// A tenant exists from now on, with its audit stream.
    CreateTenant { tenant_id: u64, audit_stream_id: u64 },
    /// A tenant is gone, and its number is used up.
    DeleteTenant { tenant_id: u64 },
    /// A stream exists from now on.
    CreateStream { tenant_id: u64, stream_id: u64, name: String, data_class: DataClass },
    /// A principal of a tenant may append under this producer id.
    OpenProducer { producer_id: u64, tenant_id: u64, principal: String },
    /// What these producers did is no longer remembered.
    ExpireProducers { producer_ids: Vec<u64> },
}

impl Command {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        let out_ref = &mut out;
        match self {
            Command::CreateTenant { tenant_id, audit_stream_id } => {
                1u8.put(out_ref);
                tenant_id.put(out_ref);
                audit_stream_id.put(out_ref);
            }
            Command::DeleteTenant { tenant_id } => {
                2u8.put(out_ref);
                tenant_id.put(out_ref);
            }
            Command::CreateStream { tenant_id, stream_id, name, data_class } => {
                3u8.put(out_ref);
                tenant_id.put(out_ref);
                stream_id.put(out_ref);
                name.put(out_ref);
                data_class.number().put(out_ref);
            }
            Command::OpenProducer { producer_id, tenant_id, principal } => {
                4u8.put(out_ref);
                producer_id.put(out_ref);
                tenant_id.put(out_ref);
                principal.put(out_ref);
            }
            Command::ExpireProducers { producer_ids } => {
                5u8.put(out_ref);
                producer_ids.put(out_ref);
            }
        }
        out
    }

    /// VERSION_MISMATCH for what a newer version wrote, CORRUPTION for what nobody wrote.
    pub(crate) fn decode(body: &[u8]) -> Result<Command, Error> {
        let damaged = |e: DecodeError| Error::new(ErrorCode::Corruption, format!("a command: {e}"));
        let reader = &mut Reader::new(body);
        let version = u8::take(reader).map_err(damaged)?;
        let number = u8::take(reader).map_err(damaged)?;
        if version != VERSION || !(1..=5).contains(&number) {
            let detail = format!(
                "the log holds a command of version {version}, number {number}; \
                 this program knows version {VERSION}, numbers 1 to 5: use a newer one"
            );
            return Err(Error::new(ErrorCode::VersionMismatch, detail));
        }
        Command::take(number, reader).map_err(damaged)
    }

    fn take(number: u8, reader: &mut Reader<'_>) -> Result<Command, DecodeError> {
        Ok(match number {
            1 => Command::CreateTenant {
                tenant_id: u64::take(reader)?,
                audit_stream_id: u64::take(reader)?,
            },
            2 => Command::DeleteTenant { tenant_id: u64::take(reader)? },
            3 => Command::CreateStream {
                tenant_id: u64::take(reader)?,
                stream_id: u64::take(reader)?,
                name: String::take(reader)?,
                data_class: DataClass::from_number(u8::take(reader)?)
                    .ok_or(DecodeError::new("has an unknown data class"))?,
            },
            4 => Command::OpenProducer {
                producer_id: u64::take(reader)?,
                tenant_id: u64::take(reader)?,
                principal: String::take(reader)?,
            },
            _ => Command::ExpireProducers { producer_ids: Vec::take(reader)? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<Command> {
        vec![
            Command::CreateTenant { tenant_id: 7, audit_stream_id: 1 },
            Command::DeleteTenant { tenant_id: u64::MAX },
            Command::CreateStream {
                tenant_id: 7,
                stream_id: 2,
                name: "größe".to_string(),
                data_class: DataClass::Deidentified,
            },
            Command::OpenProducer { producer_id: 3, tenant_id: 7, principal: "ann".to_string() },
            Command::ExpireProducers { producer_ids: vec![1, 2, 9] },
        ]
    }

    /// Every command comes back as it went, and every cut of it is an error, never a panic.
    #[test]
    fn commands_round_trip() {
        for command in examples() {
            let body = command.encode();
            assert_eq!(Command::decode(&body).unwrap(), command);
            for end in 0..body.len() {
                let error = Command::decode(&body[..end]).unwrap_err();
                assert_eq!(error.code, ErrorCode::Corruption, "{command:?} cut at {end}");
            }
        }
    }

    /// These bytes are on disks: they may not change.
    #[test]
    fn bytes_stay_as_they_are() {
        let bytes = examples()[2].encode();
        let mut expected = vec![1, 3];
        expected.extend(7u64.to_le_bytes());
        expected.extend(2u64.to_le_bytes());
        expected.extend(7u64.to_le_bytes());
        expected.extend("größe".as_bytes());
        expected.push(2);
        assert_eq!(bytes, expected);
    }

    /// What a newer version wrote is refused as such.
    #[test]
    fn newer_commands_are_refused() {
        for body in [[2, 1], [1, 6], [1, 0]] {
            assert_eq!(Command::decode(&body).unwrap_err().code, ErrorCode::VersionMismatch);
        }
    }
}
