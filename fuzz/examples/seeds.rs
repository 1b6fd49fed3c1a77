//! Writes the seeds that are made from what the repository knows: golden bytes, the shared
//! scenarios' statements, the server's template; and for the targets that run scripts, scripts.
//!
//! `cargo run --example seeds --no-default-features` writes into `seeds/<target>/`; what the fuzzer
//! found stays there. `cargo xtask fuzz --minimise` then keeps what adds coverage.

use std::path::{Path, PathBuf};

use kimberlite_wire::Operation;

/// Scripts that are made by chance, for each target that runs them.
const SCRIPTS: u64 = 24;

type Done = Result<(), Box<dyn std::error::Error>>;

fn main() -> Done {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seeds = Seeds { folder: Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds") };
    golden(&mut seeds, &root)?;
    statements(&mut seeds, &root)?;
    configuration(&mut seeds)?;
    calls(&mut seeds)?;
    sessions(&mut seeds)?;
    scripts(&mut seeds)
}

struct Seeds {
    folder: PathBuf,
}

impl Seeds {
    fn put(&mut self, target: &str, name: &str, parts: &[&[u8]]) -> Done {
        let folder = self.folder.join(target);
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(folder.join(name), parts.concat())?)
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// What each release wrote, with each target's own bytes before it.
fn golden(seeds: &mut Seeds, root: &Path) -> Done {
    for release in std::fs::read_dir(root.join("test-fixtures/golden"))? {
        let text = std::fs::read_to_string(release?.path().join("wire.txt"))?;
        for (name, hex) in text.lines().filter_map(|line| line.split_once([' ', '='])) {
            let (name, bytes) = (name.trim(), unhex(hex.trim_start_matches('=').trim()));
            let name = name.replace(['/', ' ', ':'], "-");
            golden_item(seeds, &name, &bytes)?;
        }
    }
    Ok(())
}

fn golden_item(seeds: &mut Seeds, name: &str, bytes: &[u8]) -> Done {
    if bytes.starts_with(b"KMB\x01") {
        seeds.put("frames", name, &[&[0, 3, 2, 7, 40], bytes])?;
    } else if bytes.starts_with(b"KMBK") {
        seeds.put("blocks", name, &[&[0, 0], bytes])?;
    } else if name.contains("row") {
        seeds.put("blocks", name, &[&[2, 0], bytes])?;
    }
    for (number, operation) in (0..).zip(Operation::ALL) {
        let (kind, known) = match name.split_once(['.', '-', '_']) {
            Some(("request", rest)) => (0, rest),
            Some(("response", rest)) => (1, rest),
            _ => continue,
        };
        if known == operation.name() {
            seeds.put("messages", name, &[&[kind, number], bytes])?;
        }
    }
    let alone = [("error", 2), ("credit", 3), ("goaway", 4)];
    for (part, kind) in alone.into_iter().filter(|(part, _)| name.contains(part)) {
        seeds.put("messages", &format!("{part}-body"), &[&[kind, 0], bytes])?;
    }
    Ok(())
}

/// The statements of the shared scenarios, and a few that reach further.
fn statements(seeds: &mut Seeds, root: &Path) -> Done {
    let text = std::fs::read_to_string(root.join("test-fixtures/scenarios.yaml"))?;
    let mut found: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once("sql:").map(|(_, sql)| sql))
        .map(|sql| sql.trim().trim_matches(['"', '\'', '{', '}', ',']))
        .collect();
    found.extend([
        "SELECT id, json_extract(data, '$.n') FROM orders WHERE id > 3 ORDER BY id DESC",
        "SELECT o.id, j.key, j.value FROM orders o, json_each(o.data) j LIMIT 20",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 9) SELECT * FROM n",
        "SELECT kind, count(*) FROM (SELECT data->>'kind' AS kind FROM orders) GROUP BY 1",
        "SELECT * FROM _streams",
        "SELECT * FROM _audit",
        "SELECT text FROM notes WHERE timestamp > 1704067200 AND typeof(data) = 'blob'",
        "ATTACH 'x' AS y",
        "EXPLAIN QUERY PLAN SELECT * FROM orders WHERE id = 5",
    ]);
    found.sort_unstable();
    found.dedup();
    for (number, sql) in found.iter().enumerate() {
        // Text, asked by a reader, now, with one parameter.
        seeds.put("sql", &format!("scenario-{number}"), &[&[0, 0, 0, 1, 1, 7], sql.as_bytes()])?;
    }
    Ok(())
}

fn configuration(seeds: &mut Seeds) -> Done {
    let template = kimberlite_server::TEMPLATE;
    seeds.put("config", "template", &[&[0], template.as_bytes()])?;
    let uncommented = template.replace("\n# ", "\n");
    for (number, section) in uncommented.split("\n\n").enumerate() {
        let lines = section.lines().filter(|l| l.contains(" = ") || l.starts_with('['));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        if !text.is_empty() {
            seeds.put("config", &format!("section-{number}"), &[&[0], text.as_bytes()])?;
        }
    }
    let token = format!("sha256:{}:{}", "00".repeat(16), "11".repeat(32));
    let secret = kimberlite_fuzz::config::SECRET;
    for (name, text) in [
        (
            "token",
            format!(
                "[[token]]\nname = \"a\"\nrole = \"admin\"\ntenants = \"*\"\nhash = \"{token}\"\n"
            ),
        ),
        ("secret", format!("token = \"{secret}\"\n")),
        (
            "misplaced",
            format!(
                "[[token]]\nname = \"a\"\nrole = \"writer\"\ntenants = [1]\nhash = \"{secret}\"\n"
            ),
        ),
    ] {
        seeds.put("config", name, &[&[0], text.as_bytes()])?;
    }
    seeds.put("config", "patch", &[&[1, 10, 0, 3], b"x=1", &[5]])?;
    let flags = "--listen\n127.0.0.1:0\n--memory\n--tenant\n7\n--dev-token\nsecret\n\
                 --tls-cert\na\n--tls-key\nb";
    seeds.put("config", "flags", &[&[2], flags.as_bytes()])?;
    seeds.put("config", "flags-token", &[&[2], b"token\n--name\na\n--role\nreader\n--tenants\n1,2"])
}

/// One call of the C ABI each, with arguments that are mostly right: zeros choose what is known.
fn calls(seeds: &mut Seeds) -> Done {
    for choice in 0..40u8 {
        for part in 0..6u8 {
            let call = [choice, 0, part, 0, part, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let then = [30 + part, 0, 0, 20, 0, 0, 0, 0, 0, 0];
            seeds.put("ffi", &format!("call-{choice}-{part}"), &[&call, &then])?;
        }
    }
    Ok(())
}

/// Sessions that go well: a connection, its welcome, a few calls and their answers.
fn sessions(seeds: &mut Seeds) -> Done {
    let options = [1, 100, 100, 3, 100, 100, 7];
    let open = [7, 0, 0, 0, 0];
    let answer = [10, 0, 0, 0, 1, 0];
    let append = [0, 0, 5, 0, 1, 0, 199];
    seeds.put(
        "session",
        "append",
        &[&options, &append, &open, &answer, &answer, &append, &answer],
    )?;
    for request in 0..5 {
        let call = [0, 0, request, 1, 150];
        seeds.put("session", &format!("call-{request}"), &[&options, &call, &open, &answer])?;
    }
    let cut = [9, 0, 3, 0];
    seeds.put(
        "session",
        "cut",
        &[&options, &append, &open, &answer, &cut, &[5, 199], &open, &answer],
    )
}

/// Scripts by chance: what they do is found by the fuzzer, that they do something is enough.
fn scripts(seeds: &mut Seeds) -> Done {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for target in ["frames", "blocks", "session", "log", "sql", "ffi"] {
        for number in 0..SCRIPTS {
            let len = 16 + random() % (16 * (number + 1));
            let mut bytes: Vec<u8> = (0..len)
                .map(|_| if random() % 3 == 0 { (random() % 4) as u8 } else { random() as u8 })
                .collect();
            match target {
                "frames" => bytes[0] = 1,
                "blocks" => bytes[0] = 1,
                "log" => bytes[0] = 1,
                "sql" => bytes[0] = 1 + (number % 2) as u8,
                _ => {}
            }
            seeds.put(target, &format!("script-{number}"), &[&bytes])?;
        }
    }
    Ok(())
}
