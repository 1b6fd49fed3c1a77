//! The language of scenarios: every operation with its arguments and result fields.
//!
//! The table drives validation, rendering and the JSON Schema; test-fixtures/README.md explains it.

/// What stands behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    Bool,
    /// A name of the contract's enum, or a number.
    DataClass,
    /// A stream's name, its id, or a reference.
    Stream,
    /// A tenant by the scenario's own count.
    Tenant,
    /// A token's name, or any other text.
    Token,
    /// Connect options by name.
    Options,
    /// Bytes.
    Data,
    /// One SQL value.
    Value,
    /// Several of a kind.
    List(&'static Kind),
}

/// A key and what stands behind it.
pub type Key = (&'static str, Kind);

/// One operation of the language.
pub struct Shape {
    pub name: &'static str,
    /// The contract's operation that it shows; empty where it shows the client alone.
    pub shows: &'static str,
    pub doc: &'static str,
    pub arguments: &'static [Key],
    pub results: &'static [Key],
}

const TEXTS: Kind = Kind::List(&Kind::Text);
const NUMBERS: Kind = Kind::List(&Kind::Number);
const EVENTS: Kind = Kind::List(&Kind::Data);
const VALUES: Kind = Kind::List(&Kind::Value);
const ROWS: Kind = Kind::List(&VALUES);
const TENANTS: Kind = Kind::List(&Kind::Tenant);

/// Arguments that every operation takes.
pub const COMMON: &[Key] = &[("client", Kind::Text), ("timeout_ms", Kind::Number)];

/// Result fields of a step that failed.
pub const FAILURE: &[Key] =
    &[("error", Kind::Text), ("error_detail", Kind::Text), ("error_retryable", Kind::Bool)];

const APPENDED: &[Key] = &[
    ("first_offset", Kind::Number),
    ("count", Kind::Number),
    ("timestamp_ns", Kind::Number),
    ("position", Kind::Number),
];

const PAGE: &[Key] = &[("count", Kind::Number), ("offsets", NUMBERS), ("events", EVENTS)];

/// Every operation.
pub const OPERATIONS: &[Shape] = &[
    Shape {
        name: "connect",
        shows: "hello",
        doc: "Makes a further client, under the name `client`.",
        arguments: &[
            ("tenant", Kind::Tenant),
            ("token", Kind::Token),
            ("addresses", TEXTS),
            ("options", Kind::Options),
        ],
        results: &[],
    },
    Shape {
        name: "close",
        shows: "",
        doc: "Closes a client or a subscription.",
        arguments: &[("subscription", Kind::Text)],
        results: &[],
    },
    Shape {
        name: "create_stream",
        shows: "create_stream",
        doc: "Creates a stream and keeps its id under its name.",
        arguments: &[("name", Kind::Text), ("data_class", Kind::DataClass)],
        results: &[("stream_id", Kind::Number)],
    },
    Shape {
        name: "append",
        shows: "append",
        doc: "Appends events.",
        arguments: &[
            ("stream", Kind::Stream),
            ("events", EVENTS),
            ("expected_offset", Kind::Number),
        ],
        results: APPENDED,
    },
    Shape {
        name: "open_producer",
        shows: "open_producer",
        doc: "Opens a producer.",
        arguments: &[],
        results: &[("producer_id", Kind::Number)],
    },
    Shape {
        name: "append_with_key",
        shows: "append",
        doc: "Appends events under a key, so that a repeat does nothing more.",
        arguments: &[
            ("stream", Kind::Stream),
            ("events", EVENTS),
            ("expected_offset", Kind::Number),
            ("producer_id", Kind::Number),
            ("sequence", Kind::Number),
        ],
        results: APPENDED,
    },
    Shape {
        name: "read",
        shows: "read",
        doc: "Reads one page of events.",
        arguments: &[
            ("stream", Kind::Stream),
            ("from_offset", Kind::Number),
            ("max_events", Kind::Number),
            ("max_bytes", Kind::Number),
            ("min_position", Kind::Number),
        ],
        results: &[
            ("count", Kind::Number),
            ("offsets", NUMBERS),
            ("events", EVENTS),
            ("timestamps", NUMBERS),
        ],
    },
    Shape {
        name: "read_all",
        shows: "read",
        doc: "Reads page by page to the end, by the SDK's own iteration.",
        arguments: &[
            ("stream", Kind::Stream),
            ("from_offset", Kind::Number),
            ("page_events", Kind::Number),
        ],
        results: PAGE,
    },
    Shape {
        name: "subscribe",
        shows: "subscribe",
        doc: "Opens a subscription, under the name `subscription`.",
        arguments: &[
            ("stream", Kind::Stream),
            ("from_offset", Kind::Number),
            ("subscription", Kind::Text),
        ],
        results: &[],
    },
    Shape {
        name: "next",
        shows: "subscribe",
        doc: "Collects events of a subscription until there are `wanted` or the time is over.",
        arguments: &[("subscription", Kind::Text), ("wanted", Kind::Number)],
        results: PAGE,
    },
    Shape {
        name: "query",
        shows: "query",
        doc: "Runs a statement, now or in the past.",
        arguments: &[
            ("sql", Kind::Text),
            ("params", VALUES),
            ("at_position", Kind::Number),
            ("at_timestamp_ns", Kind::Number),
            ("min_position", Kind::Number),
        ],
        results: &[
            ("rows", Kind::Number),
            ("values", ROWS),
            ("columns", TEXTS),
            ("position", Kind::Number),
        ],
    },
    Shape {
        name: "verify",
        shows: "verify",
        doc: "Lets the database walk a stream's hash chain.",
        arguments: &[("stream", Kind::Stream)],
        results: &[("valid", Kind::Bool), ("count", Kind::Number), ("head", Kind::Data)],
    },
    Shape {
        name: "list_streams",
        shows: "list_streams",
        doc: "Lists the tenant's streams by id.",
        arguments: &[],
        results: &[("count", Kind::Number), ("names", TEXTS)],
    },
    Shape {
        name: "stream_info",
        shows: "stream_info",
        doc: "Tells about a stream, by id or by name.",
        arguments: &[("stream", Kind::Stream), ("name", Kind::Text)],
        results: &[
            ("stream_id", Kind::Number),
            ("name", Kind::Text),
            ("data_class", Kind::Text),
            ("next_offset", Kind::Number),
            ("data_bytes", Kind::Number),
            ("created_ns", Kind::Number),
            ("last_timestamp_ns", Kind::Number),
            ("head", Kind::Data),
        ],
    },
    Shape {
        name: "create_tenant",
        shows: "create_tenant",
        doc: "Creates a tenant.",
        arguments: &[("tenant", Kind::Tenant)],
        results: &[],
    },
    Shape {
        name: "delete_tenant",
        shows: "delete_tenant",
        doc: "Deletes a tenant.",
        arguments: &[("tenant", Kind::Tenant)],
        results: &[],
    },
    Shape {
        name: "list_tenants",
        shows: "list_tenants",
        doc: "Lists the tenants on which the token is admin.",
        arguments: &[],
        results: &[("tenants", TENANTS)],
    },
];

/// What a key of a step means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Argument(Kind),
    /// `expected_X`: the kind of the field.
    Equal(Kind),
    /// `expected_X_contains`: the kind of what it contains.
    Contains(Kind),
    /// `expected_X_at_least`.
    AtLeast,
    /// `save_X`: under which name.
    Save,
}

impl Shape {
    /// The operation of this name.
    pub fn find(name: &str) -> Option<&'static Shape> {
        OPERATIONS.iter().find(|shape| shape.name == name)
    }

    /// What this key means in a step of this operation.
    pub fn role(&self, key: &str) -> Option<Role> {
        let arguments = self.arguments.iter().chain(COMMON);
        if let Some((_, kind)) = arguments.clone().find(|(name, _)| *name == key) {
            return Some(Role::Argument(*kind));
        }
        if let Some(field) = key.strip_prefix("save_") {
            return self.results.iter().any(|(name, _)| *name == field).then_some(Role::Save);
        }
        let field = key.strip_prefix("expected_")?;
        if let Some(kind) = self.field(field) {
            return Some(Role::Equal(kind));
        }
        if let Some(kind) = field.strip_suffix("_contains").and_then(|f| self.field(f)) {
            return match kind {
                Kind::Text => Some(Role::Contains(Kind::Text)),
                Kind::List(inner) => Some(Role::Contains(*inner)),
                _ => None,
            };
        }
        let kind = field.strip_suffix("_at_least").and_then(|f| self.field(f))?;
        (kind == Kind::Number).then_some(Role::AtLeast)
    }

    fn field(&self, name: &str) -> Option<Kind> {
        self.results.iter().chain(FAILURE).find(|(field, _)| *field == name).map(|(_, kind)| *kind)
    }
}
