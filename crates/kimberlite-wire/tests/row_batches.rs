//! Batches of rows: every type, in place, and nothing else than what was written.

use bytes::Bytes;
use kimberlite_wire::rows::*;
use kimberlite_wire::{ErrorCode, Value};
use proptest::prelude::*;

fn cell() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Int64),
        any::<f64>().prop_map(Value::Float64),
        ".{0,12}".prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Value::Bytes),
        any::<bool>().prop_map(Value::Bool),
    ]
}

fn push(builder: &mut RowBatchBuilder, value: &Value) {
    match value {
        Value::Null => builder.push_null(),
        Value::Int64(v) => builder.push_i64(*v),
        Value::Float64(v) => builder.push_f64(*v),
        Value::String(v) => builder.push_str(v),
        Value::Bytes(v) => builder.push_bytes(v),
        Value::Bool(v) => builder.push_bool(*v),
    }
}

fn batch_of(rows: &[Vec<Value>]) -> Bytes {
    let mut builder = RowBatchBuilder::new(3);
    for row in rows {
        row.iter().for_each(|value| push(&mut builder, value));
        builder.finish_row();
    }
    let len = builder.byte_len();
    let bytes = builder.finish().unwrap();
    assert_eq!(bytes.len(), len);
    assert_eq!((builder.row_count(), builder.finish()), (0, None));
    bytes
}

proptest! {
    /// Shows that cells come back as they went in, that each way of pushing writes the same bytes,
    /// and that a batch waits for its last byte.
    #[test]
    fn round_trip(rows in prop::collection::vec(prop::collection::vec(cell(), 3), 1..8)) {
        let bytes = batch_of(&rows);
        let mut by_value = RowBatchBuilder::new(3);
        for row in &rows {
            row.iter().for_each(|value| by_value.push_value(value));
            by_value.finish_row();
        }
        prop_assert_eq!(&by_value.finish().unwrap(), &bytes);

        prop_assert_eq!(RowBatch::needed(&bytes), Some(bytes.len()));
        prop_assert!(RowBatch::parse(&bytes.slice(..bytes.len() - 1)).unwrap().is_none());
        let joined = Bytes::from([&bytes[..], b"next"].concat());
        let (batch, consumed) = RowBatch::parse(&joined).unwrap().unwrap();
        prop_assert_eq!(consumed, bytes.len());
        prop_assert_eq!((batch.row_count(), batch.column_count()), (rows.len(), 3));
        for (r, row) in rows.iter().enumerate() {
            for (c, value) in row.iter().enumerate() {
                let cell = batch.cell(r, c).unwrap();
                prop_assert_eq!(cell.value_type(), value.value_type());
                // Debug tells NaN from NaN alike.
                prop_assert_eq!(format!("{:?}", cell.to_value()), format!("{value:?}"));
            }
        }
    }
}

/// Shows that a batch is refused where a bit flipped, and where its counts promise more cells than
/// it has bytes, before it has come.
#[test]
fn damaged_batches() {
    let bytes = batch_of(&[vec![Value::Int64(5), Value::Null, Value::String("x".into())]]);
    for at in 4..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x10;
        let error = RowBatch::parse(&damaged.into()).unwrap_err();
        assert_eq!(error.code, ErrorCode::Protocol, "byte {at}");
    }
    let mut lying = bytes[..16].to_vec();
    lying[8..16].fill(0xff);
    assert!(RowBatch::parse(&lying.into()).is_err());
}
