//! A cut in memory, of real blocks, that counts what is read from it.
#![allow(dead_code, missing_docs)] // Each test program uses a part of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use kimberlite_engine::sql::{Cut, EventTable, QueryLimits, prepare};
use kimberlite_wire::block::{BlockDraft, content_hash, genesis, write_block};
use kimberlite_wire::rows::RowBatch;
use kimberlite_wire::{DataClass, Error, EventBatch, StreamInfo, Value};

/// A stream of blocks.
pub struct FakeTable {
    pub name: String,
    pub data_class: DataClass,
    /// Each block's bytes, first id and timestamp.
    pub blocks: Vec<(Vec<u8>, u64, u64)>,
    pub count: u64,
    pub loads: AtomicUsize,
    pub loaded_blocks: AtomicUsize,
    /// What `load` does instead of reading, for tests of failures.
    pub trouble: Trouble,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Trouble {
    None,
    Fails,
    Panics,
}

impl FakeTable {
    /// A stream of the given blocks: a timestamp and events each.
    pub fn new(name: &str, data_class: DataClass, blocks: &[(u64, Vec<Vec<u8>>)]) -> FakeTable {
        let mut head = genesis(1, 7, name, data_class);
        let mut table = FakeTable {
            name: name.to_string(),
            data_class,
            blocks: Vec::new(),
            count: 0,
            loads: AtomicUsize::new(0),
            loaded_blocks: AtomicUsize::new(0),
            trouble: Trouble::None,
        };
        for (timestamp_ns, events) in blocks {
            let batch = EventBatch::from_events(events).expect("the test's events are valid");
            let body = batch.payload();
            let draft = BlockDraft {
                tenant_id: 1,
                stream_id: 7,
                first_offset: table.count,
                timestamp_ns: *timestamp_ns,
                count: batch.count(),
                content: content_hash(body),
                body_crc: batch.crc(),
            };
            let mut bytes = Vec::new();
            head = write_block(&mut bytes, &head, &draft, body);
            table.blocks.push((bytes, table.count, *timestamp_ns));
            table.count += u64::from(batch.count());
        }
        table
    }

    /// A stream of numbered JSON events, ten a block, a block every 100 ms from 1000 s on.
    pub fn numbered(name: &str, data_class: DataClass, events: u64) -> FakeTable {
        let event = |id: u64| format!(r#"{{"n":{id},"kind":"k{}"}}"#, id % 3).into_bytes();
        let blocks: Vec<(u64, Vec<Vec<u8>>)> = (0..events.div_ceil(10))
            .map(|block| {
                let ids = block * 10..(block * 10 + 10).min(events);
                (1_000_000_000_000 + block * 100_000_000, ids.map(event).collect())
            })
            .collect();
        FakeTable::new(name, data_class, &blocks)
    }

    pub fn loaded_blocks(&self) -> usize {
        self.loaded_blocks.load(Ordering::Relaxed)
    }

    fn last_block(&self, wanted: impl Fn(&(Vec<u8>, u64, u64)) -> bool) -> usize {
        self.blocks.partition_point(wanted)
    }
}

impl EventTable for FakeTable {
    fn name(&self) -> &str {
        &self.name
    }

    fn data_class(&self) -> DataClass {
        self.data_class
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn first_id_at_or_after(&self, timestamp_ns: u64) -> Result<u64, Error> {
        let block = self.last_block(|(_, _, at)| *at < timestamp_ns);
        Ok(self.blocks.get(block).map_or(self.count, |(_, first_id, _)| *first_id))
    }

    fn load(&self, id: u64, max_bytes: usize, backwards: bool) -> Result<(Bytes, usize), Error> {
        assert!(id < self.count, "only events of the cut are asked for");
        let first_block = self.last_block(|(_, first_id, _)| *first_id <= id) - 1;
        match self.trouble {
            Trouble::None => {}
            Trouble::Fails => {
                let code = kimberlite_wire::ErrorCode::Storage;
                return Err(Error::new(code, "the disk failed"));
            }
            Trouble::Panics => panic!("the test's table panics"),
        }
        let mut range = first_block..first_block + 1;
        let mut bytes = self.blocks[first_block].0.len();
        loop {
            let next = if backwards { range.start.checked_sub(1) } else { Some(range.end) };
            let Some(block) = next.and_then(|next| self.blocks.get(next)) else { break };
            bytes += block.0.len();
            if bytes > max_bytes {
                break;
            }
            if backwards { range.start -= 1 } else { range.end += 1 }
        }
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.loaded_blocks.fetch_add(range.len(), Ordering::Relaxed);
        let mut joined = Vec::with_capacity(bytes);
        for (block, _, _) in &self.blocks[range.clone()] {
            joined.extend_from_slice(block);
        }
        Ok((Bytes::from(joined), range.len()))
    }
}

/// A cut of such streams.
#[derive(Default)]
pub struct FakeCut {
    pub tables: Vec<Arc<FakeTable>>,
    pub audit: Option<Arc<FakeTable>>,
}

impl FakeCut {
    pub fn of(tables: Vec<FakeTable>) -> Arc<FakeCut> {
        Arc::new(FakeCut { tables: tables.into_iter().map(Arc::new).collect(), audit: None })
    }
}

impl Cut for FakeCut {
    fn stream(&self, name: &str) -> Result<Option<Arc<dyn EventTable>>, Error> {
        let found = self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name));
        Ok(found.map(|found| Arc::clone(found) as Arc<dyn EventTable>))
    }

    fn streams(&self) -> Result<Vec<StreamInfo>, Error> {
        let info = |(id, table): (usize, &Arc<FakeTable>)| StreamInfo {
            stream_id: id as u64 + 1,
            name: table.name.clone(),
            data_class: table.data_class.number(),
            next_offset: table.count,
            created_ns: 900_000_000_000,
            last_timestamp_ns: table.blocks.last().map_or(0, |block| block.2),
            data_bytes: 5,
            head: [id as u8; 32],
        };
        Ok(self.tables.iter().enumerate().map(info).collect())
    }

    fn audit(&self) -> Result<Option<Arc<dyn EventTable>>, Error> {
        Ok(self.audit.as_ref().map(|audit| Arc::clone(audit) as Arc<dyn EventTable>))
    }
}

/// A query's rows, or its error from compiling or running.
pub fn query(cut: &Arc<FakeCut>, sql: &str, params: &[Value]) -> Result<Vec<Vec<Value>>, Error> {
    query_within(cut, sql, params, &QueryLimits::default())
}

pub fn query_within(
    cut: &Arc<FakeCut>,
    sql: &str,
    params: &[Value],
    limits: &QueryLimits,
) -> Result<Vec<Vec<Value>>, Error> {
    let prepared = prepare(Arc::clone(cut) as Arc<dyn Cut>, sql, params, limits)?;
    let mut rows = Vec::new();
    let mut sink = |batch: Bytes| {
        rows.extend(rows_of(&batch));
        true
    };
    prepared.run(&mut sink, &AtomicBool::new(false))?;
    Ok(rows)
}

pub fn rows_of(batch: &Bytes) -> Vec<Vec<Value>> {
    let (batch, len) = RowBatch::parse(batch).expect("the batch is valid").expect("it is whole");
    assert!(len > 0, "a batch has bytes");
    (0..batch.row_count())
        .map(|row| {
            (0..batch.column_count())
                .map(|column| batch.cell(row, column).unwrap().to_value())
                .collect()
        })
        .collect()
}

/// The rows of a query that must succeed.
pub fn rows(cut: &Arc<FakeCut>, sql: &str) -> Vec<Vec<Value>> {
    query(cut, sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The one value of a query that must succeed.
pub fn value(cut: &Arc<FakeCut>, sql: &str) -> Value {
    let mut rows = rows(cut, sql);
    assert_eq!(rows.len(), 1, "{sql}");
    rows.remove(0).remove(0)
}

/// The first column of a query that must succeed, as integers.
pub fn integers(cut: &Arc<FakeCut>, sql: &str) -> Vec<i64> {
    rows(cut, sql)
        .into_iter()
        .map(|row| match row[0] {
            Value::Int64(value) => value,
            ref other => panic!("{sql}: {other:?} is no integer"),
        })
        .collect()
}
