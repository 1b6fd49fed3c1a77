//! Rows and cells as the types of the program that reads them.

use kimberlite_wire::rows::ValueRef;
use kimberlite_wire::{Error, Value};

use crate::query::Row;

/// A type that one cell can be read as. INVALID_ARGUMENT names a cell of another type.
pub trait FromCell: Sized {
    /// Reads the cell of a column.
    fn from_cell(row: &Row<'_>, column: usize) -> Result<Self, Error>;
}

/// A type that a row can be read as: implement it for a struct, or read tuples.
///
/// ```
/// use kimberlite_client::{Error, FromRow, Row};
///
/// struct Visit {
///     id: i64,
///     note: Option<String>,
/// }
///
/// impl FromRow for Visit {
///     fn from_row(row: &Row<'_>) -> Result<Visit, Error> {
///         Ok(Visit { id: row.get("id")?, note: row.get("note")? })
///     }
/// }
/// ```
pub trait FromRow: Sized {
    /// Reads a row.
    fn from_row(row: &Row<'_>) -> Result<Self, Error>;
}

impl Row<'_> {
    /// A cell by its column's name or index, as the type that is wanted. INVALID_ARGUMENT where
    /// there is no such column, or the cell is of another type or beyond its range.
    pub fn get<T: FromCell>(&self, column: impl ColumnRef) -> Result<T, Error> {
        T::from_cell(self, column.index_in(self)?)
    }
}

/// What names a column: its index, or its name (the exact one, else the one that differs in ASCII
/// case alone).
pub trait ColumnRef {
    /// The column's index. INVALID_ARGUMENT where there is none.
    fn index_in(&self, row: &Row<'_>) -> Result<usize, Error>;
}

impl ColumnRef for usize {
    fn index_in(&self, row: &Row<'_>) -> Result<usize, Error> {
        row.value(*self).map(|_| *self)
    }
}

impl ColumnRef for str {
    fn index_in(&self, row: &Row<'_>) -> Result<usize, Error> {
        row.column(self)
    }
}

impl ColumnRef for String {
    fn index_in(&self, row: &Row<'_>) -> Result<usize, Error> {
        row.column(self)
    }
}

impl<C: ColumnRef + ?Sized> ColumnRef for &C {
    fn index_in(&self, row: &Row<'_>) -> Result<usize, Error> {
        (**self).index_in(row)
    }
}

macro_rules! from_cell {
    ($($kind:ty => $getter:ident;)*) => {$(
        impl FromCell for $kind {
            fn from_cell(row: &Row<'_>, column: usize) -> Result<$kind, Error> {
                row.$getter(column).map(Into::into)
            }
        }
    )*};
}

from_cell! {
    i64 => i64;
    f64 => f64;
    bool => bool;
    String => str;
    Vec<u8> => bytes;
}

macro_rules! from_integer_cell {
    ($($kind:ident)*) => {$(
        impl FromCell for $kind {
            fn from_cell(row: &Row<'_>, column: usize) -> Result<$kind, Error> {
                $kind::try_from(row.i64(column)?)
                    .map_err(|_| out_of_range(column, stringify!($kind)))
            }
        }
    )*};
}

from_integer_cell! { i8 i16 i32 isize u8 u16 u32 u64 usize }

/// It does not tell the number, which may be somebody's data.
fn out_of_range(column: usize, kind: &str) -> Error {
    Error::invalid(format!("column {column} holds an integer beyond the range of {kind}"))
}

impl FromCell for Value {
    fn from_cell(row: &Row<'_>, column: usize) -> Result<Value, Error> {
        row.value(column).map(|value| value.to_value())
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(row: &Row<'_>, column: usize) -> Result<Option<T>, Error> {
        match row.value(column)? {
            ValueRef::Null => Ok(None),
            _ => T::from_cell(row, column).map(Some),
        }
    }
}

macro_rules! from_row {
    ($($count:literal: $($part:ident $index:literal),*;)*) => {$(
        impl<$($part: FromCell),*> FromRow for ($($part,)*) {
            fn from_row(row: &Row<'_>) -> Result<Self, Error> {
                if row.len() != $count {
                    let has = row.len();
                    let detail = format!("the row has {has} columns, the tuple {}", $count);
                    return Err(Error::invalid(detail));
                }
                Ok(($($part::from_cell(row, $index)?,)*))
            }
        }
    )*};
}

from_row! {
    1: A 0;
    2: A 0, B 1;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
    5: A 0, B 1, C 2, D 3, E 4;
    6: A 0, B 1, C 2, D 3, E 4, F 5;
    7: A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
}
