//! A stream as a table: `id`, `timestamp`, `data`, and hidden `timestamp_ns` and `text`.
//!
//! A walk is a range of ids and a direction; a block is only read when a column asks for something
//! that lies in it. So counting, skipping and everything else that `id` alone answers read nothing.

use std::ffi::{CStr, c_int};
use std::sync::Arc;

use kimberlite_wire::Error;
use rusqlite::ffi;

use super::EventTable;
use super::blocks::BlockReader;
use super::bounds::{Bounds, Comparison, Key, Operand};
use super::module::{Ask, Cell, Cursor, MAX_OPERANDS, Table};
use super::state::QueryState;

const COLUMN_ID: c_int = 0;
const COLUMN_TIMESTAMP: c_int = 1;
const COLUMN_DATA: c_int = 2;
const COLUMN_TIMESTAMP_NS: c_int = 3;
const COLUMN_TEXT: c_int = 4;
const COLUMN_ROWID: c_int = -1;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A stream in a query.
pub(super) struct Events {
    table: Arc<dyn EventTable>,
    state: Arc<QueryState>,
}

impl Events {
    /// The table of a stream.
    pub(super) fn new(table: Arc<dyn EventTable>, state: Arc<QueryState>) -> Events {
        Events { table, state }
    }
}

impl Table for Events {
    type Cursor = EventsCursor;

    const SCHEMA: &'static CStr = c"CREATE TABLE x(id INTEGER, timestamp INTEGER, data BLOB, \
        timestamp_ns INTEGER HIDDEN, text TEXT HIDDEN)";

    fn state(&self) -> &QueryState {
        &self.state
    }

    fn plan(&self, ask: &mut Ask<'_>) {
        let mut plan = Plan::default();
        let mut estimate = Estimate::new(self.table.count());
        for (index, (column, operator, usable)) in ask.conditions().into_iter().enumerate() {
            let condition = key_of(column).zip(comparison_of(operator)).filter(|_| usable);
            let Some((key, comparison)) = condition else { continue };
            let Some(operand) = plan.push(key, comparison) else { break };
            ask.consume(index, operand);
            estimate.narrow(key, comparison);
        }
        if let Some(descends) = order_of(&ask.order()) {
            ask.consume_order();
            plan.set_backwards(descends);
        }
        ask.answer(plan.number(), estimate.rows(), estimate.cost(), estimate.one_row);
    }

    fn open(&self) -> EventsCursor {
        EventsCursor {
            reader: BlockReader::new(Arc::clone(&self.table), Arc::clone(&self.state)),
            at: 0,
            left: 0,
            step: 1,
        }
    }
}

/// A walk over a range of a stream's events.
pub(super) struct EventsCursor {
    reader: BlockReader,
    at: u64,
    left: u64,
    /// 1, or -1 as two's complement.
    step: u64,
}

impl Cursor for EventsCursor {
    fn state(&self) -> &QueryState {
        self.reader.state()
    }

    fn filter(&mut self, plan: i32, operands: &[Operand]) -> Result<(), Error> {
        let plan = Plan::from_number(plan);
        let mut bounds = Bounds::new();
        for ((key, comparison), operand) in plan.conditions().zip(operands) {
            bounds.narrow(key, comparison, *operand);
        }
        let ids = bounds.ids(self.reader.table())?;
        self.left = ids.end - ids.start;
        let backwards = plan.backwards();
        (self.at, self.step) = match backwards {
            false => (ids.start, 1),
            true => (ids.end.wrapping_sub(1), u64::MAX),
        };
        self.reader.start(self.left, backwards);
        Ok(())
    }

    fn advance(&mut self) {
        self.left = self.left.saturating_sub(1);
        self.at = self.at.wrapping_add(self.step);
    }

    fn is_at_end(&self) -> bool {
        self.left == 0
    }

    fn id(&self) -> i64 {
        signed(self.at)
    }

    fn column(&mut self, column: c_int, cell: Cell<'_>) -> Result<(), Error> {
        match column {
            COLUMN_ID => cell.integer(signed(self.at)),
            COLUMN_TIMESTAMP => {
                cell.integer(signed(self.reader.timestamp_ns(self.at)? / NANOS_PER_SECOND));
            }
            COLUMN_DATA => cell.blob(self.reader.data(self.at)?),
            COLUMN_TIMESTAMP_NS => cell.integer(signed(self.reader.timestamp_ns(self.at)?)),
            COLUMN_TEXT => match std::str::from_utf8(self.reader.data(self.at)?) {
                Ok(text) => cell.text(text),
                Err(_) => cell.null(),
            },
            _ => cell.null(),
        }
        Ok(())
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn key_of(column: c_int) -> Option<Key> {
    match column {
        COLUMN_ID | COLUMN_ROWID => Some(Key::Id),
        COLUMN_TIMESTAMP => Some(Key::Seconds),
        COLUMN_TIMESTAMP_NS => Some(Key::Nanos),
        _ => None,
    }
}

fn comparison_of(operator: u8) -> Option<Comparison> {
    match c_int::from(operator) {
        ffi::SQLITE_INDEX_CONSTRAINT_EQ => Some(Comparison::Equal),
        ffi::SQLITE_INDEX_CONSTRAINT_LT => Some(Comparison::Below),
        ffi::SQLITE_INDEX_CONSTRAINT_LE => Some(Comparison::AtMost),
        ffi::SQLITE_INDEX_CONSTRAINT_GT => Some(Comparison::Above),
        ffi::SQLITE_INDEX_CONSTRAINT_GE => Some(Comparison::AtLeast),
        _ => None,
    }
}

/// Whether a walk by id gives this order, and if so, whether it must go backwards. Time follows the
/// id, and after an id nothing is left to order.
fn order_of(terms: &[(c_int, bool)]) -> Option<bool> {
    let (_, backwards) = *terms.first()?;
    for (column, descends) in terms {
        let key = key_of(*column).filter(|_| *descends == backwards)?;
        if key == Key::Id {
            break;
        }
    }
    Some(backwards)
}

/// How a walk was planned, as the number that SQLite keeps with the statement: four bits for each
/// consumed condition, in the order of the operands, and one for the direction.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    conditions: u32,
    count: usize,
    backwards: bool,
}

const KEYS: [Key; 3] = [Key::Id, Key::Seconds, Key::Nanos];
const COMPARISONS: [Comparison; 5] = [
    Comparison::Equal,
    Comparison::Below,
    Comparison::AtMost,
    Comparison::Above,
    Comparison::AtLeast,
];
const BITS: usize = 4;
const BACKWARDS: u32 = 1 << (BITS * MAX_OPERANDS);
const _: () = assert!(KEYS.len() * COMPARISONS.len() < 1 << BITS);
const _: () = assert!(BITS * MAX_OPERANDS < 31);

impl Plan {
    /// Adds a condition and returns its operand's number; `None` where no more fit.
    fn push(&mut self, key: Key, comparison: Comparison) -> Option<c_int> {
        if self.count == MAX_OPERANDS {
            return None;
        }
        let key = KEYS.iter().position(|&k| k == key)?;
        let comparison = COMPARISONS.iter().position(|&c| c == comparison)?;
        let code = u32::try_from(1 + key * COMPARISONS.len() + comparison).ok()?;
        self.conditions |= code << (BITS * self.count);
        self.count += 1;
        c_int::try_from(self.count - 1).ok()
    }

    fn set_backwards(&mut self, backwards: bool) {
        self.backwards = backwards;
    }

    fn number(self) -> c_int {
        let direction = if self.backwards { BACKWARDS } else { 0 };
        // The sum stays below 2^31 as asserted above.
        (self.conditions | direction).cast_signed()
    }

    fn from_number(number: c_int) -> Plan {
        let number = number.cast_unsigned();
        let conditions = number & (BACKWARDS - 1);
        let bits = usize::try_from(u32::BITS - conditions.leading_zeros()).unwrap_or(0);
        Plan { conditions, count: bits.div_ceil(BITS), backwards: number & BACKWARDS != 0 }
    }

    fn backwards(self) -> bool {
        self.backwards
    }

    fn conditions(self) -> impl Iterator<Item = (Key, Comparison)> {
        (0..self.count).filter_map(move |at| {
            let code =
                usize::try_from((self.conditions >> (BITS * at)) & 15).ok()?.checked_sub(1)?;
            let key = KEYS.get(code / COMPARISONS.len())?;
            Some((*key, COMPARISONS[code % COMPARISONS.len()]))
        })
    }
}

/// How many rows a plan may give, for SQLite's choice between plans. The values are not known when
/// it plans, so that these are fixed shares.
struct Estimate {
    rows: u64,
    one_row: bool,
}

impl Estimate {
    fn new(count: u64) -> Estimate {
        Estimate { rows: count.max(1), one_row: false }
    }

    fn narrow(&mut self, key: Key, comparison: Comparison) {
        let share = match (key, comparison) {
            (Key::Id, Comparison::Equal) => {
                self.one_row = true;
                u64::MAX
            }
            (_, Comparison::Equal) => 1024,
            _ => 4,
        };
        self.rows = (self.rows / share).max(1);
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn cost(&self) -> f64 {
        // Reaching the first row costs a block; each further one little.
        20.0 + self.rows as f64
    }
}
