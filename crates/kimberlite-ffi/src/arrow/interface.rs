//! The structs of Arrow's C data and C stream interfaces, and how ours are filled in and released.
//! Their layout is Arrow's promise: <https://arrow.apache.org/docs/format/CDataInterface.html>.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};

use kimberlite_wire::Error;

use super::columns::{Buffer, Column, Kind};
use crate::boundary::quietly;

const NULLABLE: i64 = 2;

#[repr(C)]
pub(crate) struct Schema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut Schema,
    dictionary: *mut Schema,
    release: Option<unsafe extern "C" fn(*mut Schema)>,
    private_data: *mut c_void,
}

#[repr(C)]
pub(crate) struct Array {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut Array,
    dictionary: *mut Array,
    release: Option<unsafe extern "C" fn(*mut Array)>,
    private_data: *mut c_void,
}

#[repr(C)]
pub(crate) struct Stream {
    pub(crate) get_schema: Option<unsafe extern "C" fn(*mut Stream, *mut Schema) -> c_int>,
    pub(crate) get_next: Option<unsafe extern "C" fn(*mut Stream, *mut Array) -> c_int>,
    pub(crate) get_last_error: Option<unsafe extern "C" fn(*mut Stream) -> *const c_char>,
    pub(crate) release: Option<unsafe extern "C" fn(*mut Stream)>,
    pub(crate) private_data: *mut c_void,
}

/// A column's name and type.
#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
}

/// What a schema points to; its children are boxes that it owns.
struct SchemaOwner {
    _name: CString,
    children: Vec<*mut Schema>,
}

/// The schema of a stream: a struct with a child for each column.
pub(crate) fn schema_of(fields: &[Field]) -> Schema {
    let child = |f: &Field| schema(f.kind.format(), &f.name, f.nullable, Vec::new());
    let children = fields.iter().map(|field| Box::into_raw(Box::new(child(field)))).collect();
    schema(c"+s", "", false, children)
}

fn schema(format: &'static CStr, name: &str, nullable: bool, children: Vec<*mut Schema>) -> Schema {
    // SQL allows a NUL in no name; what a server sends nevertheless is cut there.
    let until = name.find('\0').unwrap_or(name.len());
    let name = CString::new(&name[..until]).unwrap_or_default();
    let text = name.as_ptr();
    let mut owner = Box::new(SchemaOwner { _name: name, children });
    Schema {
        format: format.as_ptr(),
        name: text,
        metadata: null(),
        flags: if nullable { NULLABLE } else { 0 },
        n_children: owner.children.len() as i64,
        children: owner.children.as_mut_ptr(),
        dictionary: null_mut(),
        release: Some(release_schema),
        private_data: Box::into_raw(owner).cast(),
    }
}

/// Arrow's rule: it frees what the struct points to, its children unless they were moved away, and
/// marks the struct as released.
unsafe extern "C" fn release_schema(schema: *mut Schema) {
    quietly(|| {
        // SAFETY: the consumer passes a schema that it has not released; the owner is ours.
        unsafe {
            let owner = Box::from_raw((*schema).private_data.cast::<SchemaOwner>());
            for child in &owner.children {
                if let Some(release) = (**child).release {
                    release(*child);
                }
                drop(Box::from_raw(*child));
            }
        }
    });
    // SAFETY: as above. In a forked child this is all that is done.
    unsafe { (*schema).release = None };
}

/// What an array points to; its children are boxes that it owns.
struct ArrayOwner {
    /// Kept for the pointers.
    _buffers: Vec<Buffer>,
    pointers: Vec<*const c_void>,
    children: Vec<*mut Array>,
}

/// One batch: a struct with a child for each column.
pub(crate) fn array_of(length: usize, columns: Vec<Column>) -> Array {
    let children = columns
        .into_iter()
        .map(|column| {
            let Column { length, null_count, buffers } = column;
            Box::into_raw(Box::new(array(length, null_count, buffers, Vec::new())))
        })
        .collect();
    array(length, 0, vec![Buffer::None], children)
}

/// The array that ends a stream.
pub(crate) fn no_array() -> Array {
    let mut array = array(0, 0, Vec::new(), Vec::new());
    // SAFETY: it was made here and is released once.
    unsafe { release_array(&raw mut array) };
    array
}

fn array(
    length: usize,
    null_count: usize,
    buffers: Vec<Buffer>,
    children: Vec<*mut Array>,
) -> Array {
    let pointers = buffers.iter().map(Buffer::pointer).collect();
    let mut owner = Box::new(ArrayOwner { _buffers: buffers, pointers, children });
    Array {
        length: length as i64,
        null_count: null_count as i64,
        offset: 0,
        n_buffers: owner.pointers.len() as i64,
        n_children: owner.children.len() as i64,
        buffers: owner.pointers.as_mut_ptr(),
        children: owner.children.as_mut_ptr(),
        dictionary: null_mut(),
        release: Some(release_array),
        private_data: Box::into_raw(owner).cast(),
    }
}

unsafe extern "C" fn release_array(array: *mut Array) {
    quietly(|| {
        // SAFETY: the consumer passes an array that it has not released; the owner is ours.
        unsafe {
            let owner = Box::from_raw((*array).private_data.cast::<ArrayOwner>());
            for child in &owner.children {
                if let Some(release) = (**child).release {
                    release(*child);
                }
                drop(Box::from_raw(*child));
            }
        }
    });
    // SAFETY: as above. In a forked child this is all that is done.
    unsafe { (*array).release = None };
}

/// The types that a caller wants; `None` where it leaves them to us. INVALID_ARGUMENT names a format
/// that no column of ours has, or another number of columns.
///
/// # Safety
/// The schema must be NULL or one that was not released.
pub(crate) unsafe fn wanted_kinds(
    schema: *const Schema,
    columns: usize,
) -> Result<Option<Vec<Kind>>, Error> {
    if schema.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let (format, count, children) =
        unsafe { (text((*schema).format), (*schema).n_children, (*schema).children) };
    if format != "+s" || usize::try_from(count) != Ok(columns) {
        return Err(Error::invalid(format!(
            "schema has the format {format:?} and {count} children; it must be a struct (+s) with a \
             child for each of the {columns} columns"
        )));
    }
    (0..columns)
        .map(|index| {
            // SAFETY: there are as many children as Arrow's struct says.
            let format = unsafe { text((**children.add(index)).format) };
            Kind::from_format(&format).ok_or_else(|| {
                Error::invalid(format!(
                    "schema's column {index} has the format {format:?}; use n, b, l, g, u or z: \
                     null, bool, int64, float64, utf8 or binary"
                ))
            })
        })
        .collect::<Result<Vec<Kind>, Error>>()
        .map(Some)
}

/// # Safety
/// It must be NULL or end with a NUL.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
