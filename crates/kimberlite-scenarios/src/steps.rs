//! The operations of the language, each by the client's own call.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kimberlite_client::blocking::{Client, Subscription};
use kimberlite_client::{
    AppendKey, Appended, At, CallOptions, ClientOptions, Config, DataClass, Error, ErrorCode,
    EventBatch, ExpectedOffset, Page, StreamId, StreamInfo,
};
use serde_json::{Map, Value as Json, json};

use crate::values::{as_integer, bytes, cell, hex, integer, parameter};

/// How long closing a client may take.
const CLOSE_TIMEOUT_MS: u64 = 5000;

/// What a scenario has open.
#[derive(Default)]
pub struct World {
    clients: HashMap<String, Client>,
    subscriptions: HashMap<String, Subscription>,
    streams: HashMap<String, u64>,
}

/// Why a step could not be carried out.
enum Failure {
    /// Kimberlite's answer, which a scenario may expect.
    Kimberlite(Error),
    /// A mistake in the scenario.
    Scenario(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Kimberlite(error)
    }
}

impl From<String> for Failure {
    fn from(mistake: String) -> Failure {
        Failure::Scenario(mistake)
    }
}

type Result<T> = std::result::Result<T, Failure>;

impl World {
    /// Calls one operation; the result holds its fields, or those of the error that it gave.
    pub fn call(
        &mut self,
        operation: &str,
        arguments: &Json,
    ) -> std::result::Result<Map<String, Json>, String> {
        let result = match self.operate(operation, &Arguments(arguments)) {
            Ok(result) => result,
            Err(Failure::Kimberlite(error)) => json!({
                "error": error.code.name(),
                "error_detail": error.detail,
                "error_retryable": error.is_retryable(),
            }),
            Err(Failure::Scenario(mistake)) => return Err(mistake),
        };
        result.as_object().cloned().ok_or_else(|| "the result is no object".to_string())
    }

    /// Closes everything.
    pub fn close(&mut self) {
        for subscription in self.subscriptions.values() {
            subscription.close();
        }
        for client in self.clients.values() {
            // A client that a step closed already is fine, and others end with the process.
            let _ = client.close(CLOSE_TIMEOUT_MS);
        }
    }

    fn operate(&mut self, operation: &str, a: &Arguments<'_>) -> Result<Json> {
        a.check(operation)?;
        match operation {
            "connect" => self.connect(a),
            "close" => self.close_one(a),
            "create_stream" => self.create_stream(a),
            "append" => self.append(a, None),
            "append_with_key" => {
                let key = AppendKey {
                    producer_id: a.u64("producer_id", 0)?,
                    sequence: a.u64("sequence", 0)?,
                };
                self.append(a, Some(key))
            }
            "open_producer" => {
                let producer_id = self.client(a)?.open_producer(&a.options()?)?;
                Ok(json!({ "producer_id": integer(producer_id) }))
            }
            "read" => self.read(a),
            "read_all" => self.read_all(a),
            "subscribe" => self.subscribe(a),
            "next" => self.next(a),
            "query" => self.query(a),
            "verify" => {
                let found = self.client(a)?.verify(self.stream(a)?, &a.options()?)?;
                Ok(
                    json!({ "valid": found.valid, "count": integer(found.count), "head": hex(&found.head) }),
                )
            }
            "list_streams" => {
                let streams = self.client(a)?.list_streams(&a.options()?)?;
                let names: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
                Ok(json!({ "count": names.len(), "names": names }))
            }
            "stream_info" => self.stream_info(a),
            "create_tenant" => {
                self.client(a)?.create_tenant(a.u64("tenant", 0)?, &a.options()?)?;
                Ok(json!({}))
            }
            "delete_tenant" => {
                self.client(a)?.delete_tenant(a.u64("tenant", 0)?, &a.options()?)?;
                Ok(json!({}))
            }
            "list_tenants" => {
                let tenants = self.client(a)?.list_tenants(&a.options()?)?;
                let tenants: Vec<Json> = tenants.into_iter().map(integer).collect();
                Ok(json!({ "tenants": tenants }))
            }
            other => Err(format!("there is no operation {other}").into()),
        }
    }

    fn client(&self, a: &Arguments<'_>) -> Result<&Client> {
        let name = a.text("client", "main");
        self.clients.get(name).ok_or_else(|| format!("there is no client {name}").into())
    }

    fn stream(&self, a: &Arguments<'_>) -> Result<StreamId> {
        match a.0["stream"].as_str() {
            Some(name) => {
                let id = self.streams.get(name);
                id.copied().map(StreamId).ok_or_else(|| format!("there is no stream {name}").into())
            }
            None => Ok(StreamId(a.u64("stream", 0)?)),
        }
    }

    fn connect(&mut self, a: &Arguments<'_>) -> Result<Json> {
        let mut options = ClientOptions::default();
        for (name, value) in a.0["options"].as_object().into_iter().flatten() {
            match value.as_str() {
                Some(text) => options.set_string(name, text)?,
                None => options.set_u64(name, a.number(value)?)?,
            }
        }
        let addresses = a.list("addresses").iter().filter_map(Json::as_str);
        let mut config = Config::new(addresses).tenant(a.u64("tenant", 1)?).options(options);
        let token = a.text("token", "");
        if !token.is_empty() {
            config = config.token(token);
        }
        let client = Client::connect(config)?;
        self.clients.insert(a.text("client", "main").to_string(), client);
        Ok(json!({}))
    }

    fn close_one(&mut self, a: &Arguments<'_>) -> Result<Json> {
        if a.0.get("subscription").is_some() {
            self.subscription(a)?.close();
        } else {
            self.client(a)?.close(CLOSE_TIMEOUT_MS)?;
        }
        Ok(json!({}))
    }

    fn create_stream(&mut self, a: &Arguments<'_>) -> Result<Json> {
        let name = a.text("name", "");
        let class = match a.0["data_class"].as_str() {
            Some(name) => DataClass::ALL
                .into_iter()
                .find(|class| class.name() == name)
                .ok_or_else(|| format!("there is no data class {name}"))?,
            None => {
                // Rust's type cannot hold another number, so that nothing is left to call.
                let number = a.u64("data_class", 0)?;
                u8::try_from(number).ok().and_then(DataClass::from_number).ok_or_else(|| {
                    let detail = format!("data_class is {number}");
                    Error::new(ErrorCode::InvalidDataClass, detail)
                })?
            }
        };
        let StreamId(id) = self.client(a)?.create_stream(name, class, &a.options()?)?;
        self.streams.insert(name.to_string(), id);
        Ok(json!({ "stream_id": integer(id) }))
    }

    fn append(&self, a: &Arguments<'_>, key: Option<AppendKey>) -> Result<Json> {
        let events: std::result::Result<Vec<Vec<u8>>, String> =
            a.list("events").iter().map(bytes).collect();
        let events = EventBatch::from_events(events?)?;
        let expected = ExpectedOffset::from_number(a.u64("expected_offset", u64::MAX)?);
        let (client, stream, options) = (self.client(a)?, self.stream(a)?, a.options()?);
        let appended: Appended = match key {
            None => client.append(stream, expected, events, &options)?,
            Some(key) => client.append_with_key(key, stream, expected, events, &options)?,
        };
        Ok(json!({
            "first_offset": integer(appended.first_offset),
            "count": appended.count,
            "timestamp_ns": integer(appended.timestamp_ns),
            "position": integer(appended.position),
        }))
    }

    fn read(&self, a: &Arguments<'_>) -> Result<Json> {
        let (from, max_events) = (a.u64("from_offset", 0)?, a.u64("max_events", 1000)?);
        let max_bytes = a.u64("max_bytes", 0)?;
        let client = self.client(a)?;
        let page = client.read(self.stream(a)?, from, max_events, max_bytes, &a.options()?)?;
        let timestamps: Vec<Json> = page.timestamps().iter().map(|t| integer(*t)).collect();
        let mut result = Events::default();
        result.add(&page);
        let mut result = result.json();
        result["timestamps"] = timestamps.into();
        Ok(result)
    }

    fn read_all(&self, a: &Arguments<'_>) -> Result<Json> {
        let (from, page_events) = (a.u64("from_offset", 0)?, a.u64("page_events", 1000)?);
        let pages = self.client(a)?.pages(self.stream(a)?, from, page_events);
        let mut events = Events::default();
        for page in pages.with_options(a.options()?) {
            events.add(&page?);
        }
        Ok(events.json())
    }

    fn subscription(&self, a: &Arguments<'_>) -> Result<&Subscription> {
        let name = a.text("subscription", "sub");
        let found = self.subscriptions.get(name);
        found.ok_or_else(|| format!("there is no subscription {name}").into())
    }

    fn subscribe(&mut self, a: &Arguments<'_>) -> Result<Json> {
        let from = a.u64("from_offset", 0)?;
        let subscription = self.client(a)?.subscribe(self.stream(a)?, from, &a.options()?)?;
        self.subscriptions.insert(a.text("subscription", "sub").to_string(), subscription);
        Ok(json!({}))
    }

    fn next(&self, a: &Arguments<'_>) -> Result<Json> {
        let subscription = self.subscription(a)?;
        let wanted = a.u64("wanted", 1)?;
        let end = Instant::now() + Duration::from_millis(a.u64("timeout_ms", 10_000)?);
        let mut events = Events::default();
        while (events.offsets.len() as u64) < wanted {
            let left = end.saturating_duration_since(Instant::now());
            match subscription.next(Some(left))? {
                Some(page) => events.add(&page),
                None if left.is_zero() => break,
                None => {}
            }
        }
        Ok(events.json())
    }

    fn query(&self, a: &Arguments<'_>) -> Result<Json> {
        let params: std::result::Result<Vec<_>, String> =
            a.list("params").iter().map(parameter).collect();
        let at = match (a.0.get("at_position"), a.0.get("at_timestamp_ns")) {
            (Some(position), _) => At::Position(a.number(position)?),
            (_, Some(time)) => At::TimestampNs(a.number(time)?),
            _ => At::Now,
        };
        let result = self.client(a)?.query(a.text("sql", ""), &params?, at, &a.options()?)?;
        let columns: Vec<&str> = result.columns().iter().map(|c| c.name.as_str()).collect();
        let mut rows = Vec::with_capacity(result.row_count());
        for row in result.rows() {
            let cells: std::result::Result<Vec<Json>, Error> =
                (0..columns.len()).map(|column| row.value(column).map(cell)).collect();
            rows.push(Json::Array(cells?));
        }
        Ok(json!({
            "rows": result.row_count(),
            "values": rows,
            "columns": columns,
            "position": integer(result.position()),
        }))
    }

    fn stream_info(&self, a: &Arguments<'_>) -> Result<Json> {
        let client = self.client(a)?;
        let info: StreamInfo = match a.0["name"].as_str() {
            Some(name) => client.stream_by_name(name, &a.options()?)?,
            None => client.stream_info(self.stream(a)?, &a.options()?)?,
        };
        let class = DataClass::from_number(info.data_class).map_or("unknown", DataClass::name);
        Ok(json!({
            "stream_id": integer(info.stream_id),
            "name": info.name,
            "data_class": class,
            "next_offset": integer(info.next_offset),
            "data_bytes": integer(info.data_bytes),
            "created_ns": integer(info.created_ns),
            "last_timestamp_ns": integer(info.last_timestamp_ns),
            "head": hex(&info.head),
        }))
    }
}

/// A step's arguments.
struct Arguments<'a>(&'a Json);

/// The operations and the arguments that each takes beside those of all.
const OPERATIONS: &[(&str, &[&str])] = &[
    ("connect", &["tenant", "token", "addresses", "options"]),
    ("close", &["subscription"]),
    ("create_stream", &["name", "data_class"]),
    ("append", &["stream", "events", "expected_offset"]),
    ("open_producer", &[]),
    ("append_with_key", &["stream", "events", "expected_offset", "producer_id", "sequence"]),
    ("read", &["stream", "from_offset", "max_events", "max_bytes", "min_position"]),
    ("read_all", &["stream", "from_offset", "page_events"]),
    ("subscribe", &["stream", "from_offset", "subscription"]),
    ("next", &["subscription", "wanted"]),
    ("query", &["sql", "params", "at_position", "at_timestamp_ns", "min_position"]),
    ("verify", &["stream"]),
    ("list_streams", &[]),
    ("stream_info", &["stream", "name"]),
    ("create_tenant", &["tenant"]),
    ("delete_tenant", &["tenant"]),
    ("list_tenants", &[]),
];

/// The arguments that every operation takes.
const COMMON: [&str; 2] = ["client", "timeout_ms"];

impl<'a> Arguments<'a> {
    /// Fails on an operation or an argument that nobody knows; what is expected and saved meets the
    /// result's fields later.
    fn check(&self, operation: &str) -> Result<()> {
        let (_, known) = OPERATIONS
            .iter()
            .find(|(name, _)| *name == operation)
            .ok_or_else(|| format!("there is no operation {operation}"))?;
        let keys = self.0.as_object().ok_or_else(|| "the arguments are no map".to_string())?;
        let unknown = keys.keys().map(String::as_str).find(|key| {
            let expected = key.starts_with("expected_") && *key != "expected_offset";
            !(expected || key.starts_with("save_") || known.contains(key) || COMMON.contains(key))
        });
        match unknown {
            Some(key) => Err(format!("{operation} takes no {key}").into()),
            None => Ok(()),
        }
    }

    fn text(&self, key: &str, default: &'a str) -> &'a str {
        self.0.get(key).and_then(Json::as_str).unwrap_or(default)
    }

    fn list(&self, key: &str) -> &'a [Json] {
        self.0.get(key).and_then(Json::as_array).map_or(&[], Vec::as_slice)
    }

    fn u64(&self, key: &str, default: u64) -> Result<u64> {
        self.0.get(key).map_or(Ok(default), |value| self.number(value))
    }

    fn number(&self, value: &Json) -> Result<u64> {
        let number = as_integer(value).and_then(|n| u64::try_from(n).ok());
        number.ok_or_else(|| format!("{value} is not a number from 0").into())
    }

    fn options(&self) -> Result<CallOptions> {
        let timeout_ms = self.0.get("timeout_ms").map(|value| self.number(value)).transpose()?;
        Ok(CallOptions { timeout_ms, min_position: self.u64("min_position", 0)?, stale: false })
    }
}

/// Events as results show them.
#[derive(Default)]
struct Events {
    offsets: Vec<Json>,
    events: Vec<Json>,
}

impl Events {
    fn add(&mut self, page: &Page) {
        self.offsets.extend((page.first_offset()..).take(page.count()).map(integer));
        self.events.extend(page.iter().map(hex));
    }

    fn json(self) -> Json {
        json!({ "count": self.events.len(), "offsets": self.offsets, "events": self.events })
    }
}
