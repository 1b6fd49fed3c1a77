//! Statements made of a script's choices.

use crate::input::Input;

/// Words of SQL, ours first: a script of bytes picks among them.
const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "orders",
    "notes",
    "patients",
    "secrets",
    "_streams",
    "_audit",
    "id",
    "timestamp",
    "timestamp_ns",
    "data",
    "text",
    "*",
    ",",
    "(",
    ")",
    "?",
    "?1",
    "?2",
    "=",
    "<",
    ">",
    "<=",
    ">=",
    "<>",
    "AND",
    "OR",
    "NOT",
    "IN",
    "BETWEEN",
    "IS",
    "NULL",
    "LIKE",
    "GLOB",
    "ORDER BY",
    "GROUP BY",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "DESC",
    "AS",
    "JOIN",
    "LEFT JOIN",
    "ON",
    "UNION",
    "UNION ALL",
    "EXCEPT",
    "INTERSECT",
    "WITH",
    "RECURSIVE",
    "x",
    "count(*)",
    "sum(id)",
    "max(id)",
    "json_extract(data, '$.n')",
    "json_each(data)",
    "json_tree(data)",
    "data ->> '$.kind'",
    "length(data)",
    "hex(data)",
    "typeof(data)",
    "cast(data AS TEXT)",
    "printf('%d', id)",
    "date(timestamp, 'unixepoch')",
    "row_number() OVER (ORDER BY id)",
    "group_concat(text)",
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "1.5",
    "1e300",
    "'text'",
    "x'00ff'",
    ";",
    "--",
    "/*",
    "*/",
    "\"Odd \"\"name\"\" ; --\"",
    "empty",
    "main.",
    ".",
    "INSERT INTO",
    "VALUES",
    "DELETE",
    "UPDATE",
    "SET",
    "CREATE TABLE",
    "DROP TABLE",
    "ATTACH",
    "PRAGMA",
    "VACUUM",
    "BEGIN",
    "EXPLAIN",
    "EXPLAIN QUERY PLAN",
    "sqlite_schema",
    "pragma_table_info('orders')",
    "randomblob(1000)",
    "zeroblob(100000)",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "EXISTS",
    "COLLATE NOCASE",
    "+",
    "-",
    "||",
    "%",
    "rowid",
    "name",
    "stream_id",
    "head",
    "o",
    "n",
    "MATERIALIZED",
    "CROSS JOIN",
    "NATURAL JOIN",
    "USING (id)",
    "WINDOW",
    "FILTER (WHERE id > 3)",
    "DISTINCT",
    "ALL",
    "INDEXED BY",
    "load_extension('x')",
    "writefile('x', 'y')",
    "fts5",
    "generate_series(1, 5)",
    "NULLS LAST",
];

/// Words one after the other; some come from the script itself.
pub(super) fn soup(input: &mut Input<'_>) -> String {
    let mut sql = String::new();
    for _ in 0..120 {
        if input.is_empty() {
            break;
        }
        match usize::from(input.u8()) {
            255 => sql.push_str(&input.text()),
            254 => sql.push_str(&(input.number() as i64).to_string()),
            choice => sql.push_str(WORDS[choice % WORDS.len()]),
        }
        sql.push(' ');
    }
    sql
}

const TABLES: [&str; 5] = ["orders", "notes", "empty", "\"Odd \"\"name\"\" ; --\"", "patients"];
const COLUMNS: [&str; 5] = ["id", "timestamp", "timestamp_ns", "data", "text"];
/// What a copy is made of: nothing is pushed down into a part that has a LIMIT.
const COPY: &str = "SELECT id, timestamp, timestamp_ns, data, text FROM ";

/// A statement straight over a stream, and the same over a copy of it.
pub(super) fn pair(input: &mut Input<'_>) -> (String, String) {
    let table = TABLES[input.below(TABLES.len())];
    let copy = format!("({COPY}{table} LIMIT -1)");
    let condition = condition(input, 3);
    let what = match input.below(6) {
        0 => "count(*), total(@id), min(@id), max(@timestamp_ns)".to_string(),
        1 => "count(*)".to_string(),
        2 => "@id, @data".to_string(),
        3 => "@id, @timestamp, @text".to_string(),
        4 => format!("@id, {}", value(input, 2)),
        _ => format!("@id, {}", expression(input, 2)),
    };
    let (joined, union) = (input.u8(), input.u8());
    let direction = if input.flag() { " DESC" } else { "" };
    let tail = match input.below(4) {
        0 => format!(" ORDER BY @id{direction}"),
        1 => format!(" ORDER BY @id{direction} LIMIT {}", input.number() as i64),
        2 => format!(" ORDER BY @id LIMIT {} OFFSET {}", input.u8(), input.u8()),
        _ => String::new(),
    };
    let make = |from: &str| {
        let mut sql = format!("SELECT {what} FROM {from} t");
        if joined >= 200 {
            sql += &format!(" JOIN {from} u ON u.id = @id + {}", joined % 3);
        }
        sql += &format!(" WHERE {condition}");
        if union >= 200 {
            sql = format!("SELECT * FROM ({sql}) UNION SELECT * FROM ({sql})");
        } else {
            sql += &tail;
        }
        sql.replace('@', "t.")
    };
    (make(table), make(&copy))
}

fn condition(input: &mut Input<'_>, depth: usize) -> String {
    if depth > 0 {
        match input.below(8) {
            choice @ 0..=1 => {
                let (left, right) = (condition(input, depth - 1), condition(input, depth - 1));
                return format!("({left} {} {right})", ["AND", "OR"][choice]);
            }
            2 => return format!("NOT ({})", condition(input, depth - 1)),
            3 => return expression(input, depth - 1),
            _ => {}
        }
    }
    let column = format!("@{}", COLUMNS[input.below(COLUMNS.len())]);
    match input.below(10) {
        0 => format!("{column} = {}", value(input, 1)),
        1 => format!("{column} < {}", value(input, 1)),
        2 => format!("{column} <= {}", value(input, 1)),
        3 => format!("{column} > {}", value(input, 1)),
        4 => format!("{column} >= {}", value(input, 1)),
        5 => format!("{column} BETWEEN {} AND {}", value(input, 1), value(input, 1)),
        6 => format!("{column} IN ({}, {}, {})", value(input, 1), value(input, 1), value(input, 1)),
        7 => format!("{column} IS {}", value(input, 1)),
        8 => format!("{} < {column}", value(input, 1)),
        _ => format!("{column} IS NOT NULL"),
    }
}

fn expression(input: &mut Input<'_>, depth: usize) -> String {
    let inner = |input: &mut Input<'_>| match depth {
        0 => format!("@{}", COLUMNS[input.below(5)]),
        _ => expression(input, depth - 1),
    };
    match input.below(8) {
        0 => format!("typeof({})", inner(input)),
        1 => format!("length({})", inner(input)),
        2 => format!("({} + {})", inner(input), value(input, 0)),
        3 => format!("coalesce({}, {})", inner(input), value(input, 0)),
        4 => "json_valid(@data)".to_string(),
        5 => format!("iif({}, {}, 0)", inner(input), value(input, 0)),
        6 => format!("cast({} AS INTEGER)", inner(input)),
        _ => format!("@{}", COLUMNS[input.below(5)]),
    }
}

/// A constant, or a parameter.
fn value(input: &mut Input<'_>, depth: usize) -> String {
    match input.below(14) {
        0..=3 => i64::from(input.u8()).to_string(),
        4 => format!("{}", input.number() as i64),
        5 => format!("{}.5", i64::from(input.u8()) - 100),
        6 => format!("'{}'", i64::from(input.u8()) - 50),
        7 => "NULL".to_string(),
        8 => format!("?{}", 1 + input.below(4)),
        9 => format!("x'{:02x}'", input.u8()),
        10 => "(SELECT max(timestamp) FROM orders)".to_string(),
        11 => "(SELECT min(timestamp_ns) FROM orders)".to_string(),
        12 if depth > 0 => format!("({} - {})", value(input, 0), value(input, 0)),
        _ => EDGES[input.below(EDGES.len())].to_string(),
    }
}

/// Values at the edges of their types.
const EDGES: [&str; 6] =
    ["1e19", "-1e19", "9223372036854775807", "-9223372036854775808", "1e999", "'x'"];
