//! The C declarations of the contract, read once for every emitter: what a function takes and gives,
//! and where the fields of a layout lie on a 64-bit machine.

use crate::contract::{Contract, Function, Layout};

/// A type of the C ABI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CType {
    Void,
    Bool,
    U8,
    I32,
    U32,
    I64,
    U64,
    F64,
    /// A `size_t`.
    Size,
    /// A pointer, with the C text of what it points to: `const uint8_t`, `KmbPage *`.
    Pointer(String),
    /// A pointer to a function of ours, by its name: `KmbLogCallback`.
    Callback(String),
    /// Another layout inside a layout, by its name.
    Layout(String),
}

/// A function's declaration.
pub struct Signature {
    pub result: CType,
    pub arguments: Vec<Argument>,
}

pub struct Argument {
    pub name: String,
    pub kind: CType,
}

/// A layout on a 64-bit machine.
pub struct Placed {
    pub fields: Vec<PlacedField>,
    pub size: u64,
    align: u64,
}

pub struct PlacedField {
    pub name: String,
    pub kind: CType,
    /// The elements of an array; 1 for a plain field.
    pub count: u64,
    /// Where it begins.
    pub offset: u64,
    /// Bytes of the whole field.
    pub size: u64,
}

/// Reads a function's declaration.
pub fn signature(function: &Function) -> Result<Signature, String> {
    let text = &function.signature;
    let unreadable = || format!("{}: cannot read {text:?}", function.name);
    let (head, rest) = text.split_once('(').ok_or_else(unreadable)?;
    let arguments = rest.strip_suffix(')').ok_or_else(unreadable)?;
    let (_, result) = declared(head).ok_or_else(unreadable)?;
    if arguments == "void" {
        return Ok(Signature { result, arguments: Vec::new() });
    }
    let argument = |text: &str| {
        let (name, kind) = declared(text)?;
        (kind != CType::Void).then_some(Argument { name, kind })
    };
    let arguments: Option<Vec<Argument>> = arguments.split(", ").map(argument).collect();
    Ok(Signature { result, arguments: arguments.ok_or_else(unreadable)? })
}

/// Places a layout's fields as C does.
pub fn placed(contract: &Contract, layout: &Layout) -> Result<Placed, String> {
    let mut placed = Placed { fields: Vec::new(), size: 0, align: 1 };
    for text in &layout.fields {
        let unreadable = || format!("{}: cannot read {text:?}", layout.name);
        let (text, count) = match text.strip_suffix(']').and_then(|t| t.split_once('[')) {
            Some((text, count)) => (text, count.parse().map_err(|_| unreadable())?),
            None => (text.as_str(), 1),
        };
        let (name, kind) = declared(text).ok_or_else(unreadable)?;
        let (size, align) = measured(contract, &kind).ok_or_else(unreadable)?;
        let offset = if layout.union { 0 } else { placed.size.next_multiple_of(align) };
        let size = size * count;
        placed.size = placed.size.max(offset + size);
        placed.align = placed.align.max(align);
        placed.fields.push(PlacedField { name, kind, count, offset, size });
    }
    placed.size = placed.size.next_multiple_of(placed.align);
    Ok(placed)
}

/// Size and alignment.
fn measured(contract: &Contract, kind: &CType) -> Option<(u64, u64)> {
    let size = match kind {
        CType::Void => return None,
        CType::Bool | CType::U8 => 1,
        CType::I32 | CType::U32 => 4,
        CType::I64 | CType::U64 | CType::F64 | CType::Size => 8,
        CType::Pointer(_) | CType::Callback(_) => 8,
        CType::Layout(name) => {
            let inner = contract.layouts.iter().find(|l| l.name == *name)?;
            let inner = placed(contract, inner).ok()?;
            return Some((inner.size, inner.align));
        }
    };
    Some((size, size))
}

/// The name and the type of `const uint8_t *const *events` or `uint64_t count`.
fn declared(text: &str) -> Option<(String, CType)> {
    let (kind, name) = text.rsplit_once(' ')?;
    let plain_name = name.trim_start_matches('*');
    if plain_name.len() < name.len() {
        // The last star makes the pointer; what stands before it is what it points to.
        let target = format!("{kind} {}", &name[..name.len() - plain_name.len() - 1]);
        return Some((plain_name.to_string(), CType::Pointer(target.trim_end().to_string())));
    }
    Some((name.to_string(), plain(kind)?))
}

fn plain(kind: &str) -> Option<CType> {
    Some(match kind {
        "void" => CType::Void,
        "bool" => CType::Bool,
        "uint8_t" => CType::U8,
        "int32_t" => CType::I32,
        "uint32_t" | "KmbError" | "KmbParamType" => CType::U32,
        "int64_t" => CType::I64,
        "uint64_t" => CType::U64,
        "double" => CType::F64,
        "size_t" => CType::Size,
        callback if callback.starts_with("Kmb") && callback.ends_with("Callback") => {
            CType::Callback(callback.into())
        }
        layout if layout.starts_with("Kmb") => CType::Layout(layout.into()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(signature_text: &str) -> Result<Signature, String> {
        signature(&Function {
            name: "kmb_test".into(),
            since: "0.1".into(),
            signature: signature_text.into(),
            doc: String::new(),
        })
    }

    /// Pointers keep what they point to; a function without arguments has none; what is no
    /// declaration is refused with its text.
    #[test]
    fn declarations_are_read() {
        let read_one = |text: &str| read(&format!("KmbError kmb_test({text})")).unwrap();
        let kinds = |text: &str| {
            read_one(text).arguments.into_iter().map(|a| (a.name, a.kind)).collect::<Vec<_>>()
        };
        let pointer = |to: &str| CType::Pointer(to.into());
        assert_eq!(kinds("void"), []);
        assert_eq!(
            kinds("KmbClient *client, const char *const *addresses, KmbPage **page_out, size_t n"),
            [
                ("client".into(), pointer("KmbClient")),
                ("addresses".into(), pointer("const char *const")),
                ("page_out".into(), pointer("KmbPage *")),
                ("n".into(), CType::Size),
            ]
        );
        assert_eq!(read("const char *kmb_test(void)").unwrap().result, pointer("const char"));
        assert_eq!(read("void kmb_test(void)").unwrap().result, CType::Void);
        assert!(read("KmbError kmb_test(float x)").err().unwrap().contains("float x"));
        assert!(read("KmbError kmb_test").is_err());
    }

    /// Fields are aligned as C aligns them, arrays and nested layouts included; those of a union
    /// share their place.
    #[test]
    fn fields_are_placed() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut contract = Contract::load(root).unwrap();
        let mut layout = contract.layouts.remove(0);
        layout.fields = ["bool a", "uint8_t b[3]", "uint32_t c", "uint8_t d", "KmbBytes e"]
            .map(String::from)
            .into();
        let offsets = |layout: &Layout| {
            let placed = placed(&contract, layout).unwrap();
            let offsets: Vec<u64> = placed.fields.iter().map(|f| f.offset).collect();
            (offsets, placed.size)
        };
        assert_eq!(offsets(&layout), (vec![0, 1, 4, 8, 16], 32));
        layout.union = true;
        assert_eq!(offsets(&layout), (vec![0; 5], 16));
        layout.fields.push("float f".into());
        assert!(placed(&contract, &layout).is_err());
    }
}
