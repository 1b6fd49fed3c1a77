//! One SQL value: a parameter or a cell of a result.

use crate::codec::{DecodeError, Field, Reader, put_bytes};
use crate::generated::ValueType;

/// One SQL value. On the wire: its [`ValueType`] as one byte, then the value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// A signed 64-bit integer.
    Int64(i64),
    /// A 64-bit floating-point number.
    Float64(f64),
    /// UTF-8 text.
    String(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A truth value; SQL sees 0 or 1.
    Bool(bool),
}

impl Value {
    /// Its type.
    pub const fn value_type(&self) -> ValueType {
        match self {
            Value::Null => ValueType::Null,
            Value::Int64(_) => ValueType::Int64,
            Value::Float64(_) => ValueType::Float64,
            Value::String(_) => ValueType::String,
            Value::Bytes(_) => ValueType::Bytes,
            Value::Bool(_) => ValueType::Bool,
        }
    }
}

impl Field for Value {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.value_type().number());
        match self {
            Value::Null => {}
            Value::Int64(v) => v.put(out),
            Value::Float64(v) => v.put(out),
            Value::String(v) => put_bytes(out, v.as_bytes()),
            Value::Bytes(v) => put_bytes(out, v),
            Value::Bool(v) => v.put(out),
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
        let kind = ValueType::from_number(u8::take(reader)?)
            .ok_or(DecodeError::new("holds a value of an unknown type"))?;
        Ok(match kind {
            ValueType::Null => Value::Null,
            ValueType::Int64 => Value::Int64(i64::take(reader)?),
            ValueType::Float64 => Value::Float64(f64::take(reader)?),
            ValueType::String => Value::String(String::take(reader)?),
            ValueType::Bytes => Value::Bytes(reader.take_bytes()?.to_vec()),
            ValueType::Bool => Value::Bool(bool::take(reader)?),
        })
    }
}
