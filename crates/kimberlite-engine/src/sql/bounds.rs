//! Which ids a set of conditions on `id`, `timestamp` and `timestamp_ns` leaves.
//!
//! The conditions are consumed here, so that they must mean exactly what they mean to SQLite: the
//! three columns have INTEGER affinity, hence text that looks like a number is compared as one
//! (SQLite converts it before it comes here), any other text and every blob is greater than every
//! number, and a comparison with NULL is never true.

use std::ops::Range;

use kimberlite_wire::Error;

use super::EventTable;

/// A column that follows from the id's place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// `id` and `rowid`.
    Id,
    /// `timestamp`, in seconds.
    Seconds,
    /// `timestamp_ns`.
    Nanos,
}

/// A comparison, the column on its left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// `=`
    Equal,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

/// What a column is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operand {
    /// NULL.
    Null,
    /// An integer.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text that is no number, or a blob: greater than every number.
    AboveNumbers,
}

/// Values from `low` to `high`, both included; none where `low` is the larger.
#[derive(Clone, Copy, Debug)]
struct Interval {
    low: i128,
    high: i128,
}

const EVERYTHING: Interval = Interval { low: i128::MIN, high: i128::MAX };
const NOTHING: Interval = Interval { low: i128::MAX, high: i128::MIN };
const NANOS_PER_SECOND: i128 = 1_000_000_000;

impl Interval {
    fn of(comparison: Comparison, operand: Operand) -> Interval {
        match operand {
            Operand::Null => NOTHING,
            Operand::AboveNumbers => match comparison {
                Comparison::Below | Comparison::AtMost => EVERYTHING,
                _ => NOTHING,
            },
            Operand::Integer(value) => {
                let value = i128::from(value);
                Interval::between(comparison, value, value)
            }
            Operand::Real(value) if value.is_nan() => NOTHING,
            // The casts saturate, far outside what a column can hold.
            Operand::Real(value) => {
                Interval::between(comparison, value.floor() as i128, value.ceil() as i128)
            }
        }
    }

    /// For a number between the integers `floor` and `ceil`, which are equal where it is one.
    fn between(comparison: Comparison, floor: i128, ceil: i128) -> Interval {
        match comparison {
            Comparison::Equal => Interval { low: ceil, high: floor },
            Comparison::Below => Interval { low: i128::MIN, high: ceil.saturating_sub(1) },
            Comparison::AtMost => Interval { low: i128::MIN, high: floor },
            Comparison::Above => Interval { low: floor.saturating_add(1), high: i128::MAX },
            Comparison::AtLeast => Interval { low: ceil, high: i128::MAX },
        }
    }

    fn intersect(&mut self, other: Interval) {
        self.low = self.low.max(other.low);
        self.high = self.high.min(other.high);
    }

    const fn is_empty(self) -> bool {
        self.low > self.high
    }
}

/// The conditions so far, joined by AND.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    ids: Interval,
    seconds: Interval,
    nanos: Interval,
}

impl Bounds {
    /// No condition.
    pub(super) const fn new() -> Bounds {
        Bounds { ids: EVERYTHING, seconds: EVERYTHING, nanos: EVERYTHING }
    }

    /// Adds a condition.
    pub(super) fn narrow(&mut self, key: Key, comparison: Comparison, operand: Operand) {
        let interval = Interval::of(comparison, operand);
        match key {
            Key::Id => self.ids.intersect(interval),
            Key::Seconds => self.seconds.intersect(interval),
            Key::Nanos => self.nanos.intersect(interval),
        }
    }

    /// The ids of the table that fulfil every condition: time never runs backwards in a stream, so
    /// that they are one range.
    pub(super) fn ids(&self, table: &dyn EventTable) -> Result<Range<u64>, Error> {
        if self.ids.is_empty() || self.seconds.is_empty() || self.nanos.is_empty() {
            return Ok(0..0);
        }
        let count = table.count();
        let mut first = clamp(self.ids.low, count);
        let mut end = clamp(self.ids.high.saturating_add(1), count);
        for (interval, unit) in [(self.seconds, NANOS_PER_SECOND), (self.nanos, 1)] {
            if interval.low != i128::MIN {
                let from_ns = interval.low.saturating_mul(unit);
                first = first.max(first_at_or_after(table, from_ns)?);
            }
            if interval.high != i128::MAX {
                let until_ns = interval.high.saturating_add(1).saturating_mul(unit);
                end = end.min(first_at_or_after(table, until_ns)?);
            }
        }
        Ok(if first < end { first..end } else { 0..0 })
    }
}

fn clamp(value: i128, count: u64) -> u64 {
    u64::try_from(value.max(0)).unwrap_or(u64::MAX).min(count)
}

fn first_at_or_after(table: &dyn EventTable, timestamp_ns: i128) -> Result<u64, Error> {
    if timestamp_ns <= 0 {
        return Ok(0);
    }
    match u64::try_from(timestamp_ns) {
        Ok(timestamp_ns) => Ok(table.first_id_at_or_after(timestamp_ns)?.min(table.count())),
        Err(_) => Ok(table.count()),
    }
}
