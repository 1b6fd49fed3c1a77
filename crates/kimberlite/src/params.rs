//! Parameters of SQL statements.

use kimberlite_client::Value;

/// A type that can be a parameter of a statement.
pub trait Param {
    /// The parameter's value.
    fn to_value(&self) -> Value;
}

macro_rules! param {
    ($($kind:ty, $value:ident => $made:expr;)*) => {$(
        impl Param for $kind {
            fn to_value(&self) -> Value {
                let $value = self;
                $made
            }
        }
    )*};
}

param! {
    i64, v => Value::Int64(*v);
    i32, v => Value::Int64(i64::from(*v));
    u32, v => Value::Int64(i64::from(*v));
    f64, v => Value::Float64(*v);
    bool, v => Value::Bool(*v);
    str, v => Value::String(v.to_string());
    String, v => Value::String(v.clone());
    [u8], v => Value::Bytes(v.to_vec());
    Vec<u8>, v => Value::Bytes(v.clone());
    Value, v => v.clone();
}

impl<T: Param + ?Sized> Param for &T {
    fn to_value(&self) -> Value {
        (**self).to_value()
    }
}

impl<T: Param> Param for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, Param::to_value)
    }
}

/// All parameters of a statement: a tuple of up to eight, `()` for none, or values in a slice,
/// an array or a `Vec`.
pub trait Params {
    /// The parameters in order.
    fn to_values(&self) -> Vec<Value>;
}

impl Params for () {
    fn to_values(&self) -> Vec<Value> {
        Vec::new()
    }
}

impl Params for &[Value] {
    fn to_values(&self) -> Vec<Value> {
        self.to_vec()
    }
}

impl Params for Vec<Value> {
    fn to_values(&self) -> Vec<Value> {
        self.clone()
    }
}

impl<const N: usize> Params for [Value; N] {
    fn to_values(&self) -> Vec<Value> {
        self.to_vec()
    }
}

macro_rules! params {
    ($($($part:ident)*;)*) => {$(
        impl<$($part: Param),*> Params for ($($part,)*) {
            #[allow(non_snake_case)]
            fn to_values(&self) -> Vec<Value> {
                let ($($part,)*) = self;
                vec![$($part.to_value()),*]
            }
        }
    )*};
}

params! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}
