//! How every command reaches its database.

use std::path::{Path, PathBuf};

use clap::Args;
use kimberlite::{Client, Config, StreamInfo};

use crate::failure::{Failure, Outcome, exit};
use crate::signals::Signals;

/// Where the database is where nothing says so.
const DEFAULT_ADDRESS: &str = "localhost:5432";
/// Addresses, with commas between.
const ADDRESS_VARIABLE: &str = "KIMBERLITE_ADDRESS";
const TENANT_VARIABLE: &str = "KIMBERLITE_TENANT";
const TOKEN_VARIABLE: &str = "KIMBERLITE_TOKEN";
/// What the database notes about who did what, in each tenant.
pub(crate) const AUDIT_STREAM: &str = "_audit";
/// The longest deadline that a client takes.
const MAX_TIMEOUT_MS: u64 = 86_400_000;

/// How to reach a database, and as whom.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Where the database is: host:port, tls://host:port, or embedded:FOLDER for one without a
    /// server; may be repeated for the members of one database [env: KIMBERLITE_ADDRESS, with
    /// commas between] [default: localhost:5432]
    #[arg(short, long, value_name = "ADDRESS")]
    pub(crate) address: Vec<String>,

    /// The tenant's number [env: KIMBERLITE_TENANT] [default: 1]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) tenant: Option<u64>,

    /// A file that holds the token. An embedded database needs none
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,

    /// The token itself; everybody on this machine can read it in the list of processes, so prefer
    /// --token-file [env: KIMBERLITE_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,

    /// A PEM file of certificate authorities for tls:// addresses, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// A PEM file with this client's certificate, for servers that ask for one
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// A PEM file with the key of --tls-cert
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// The name that the server's certificate must carry, instead of the address's host
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,

    /// How long each call may take, connecting included, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000,
          value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT_MS))]
    pub(crate) timeout_ms: u64,
}

/// Whether a command may make an embedded database that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    /// It writes, so that a new folder is what it asks for.
    MayBeNew,
    /// It only reads: a folder that is not there is a typing error.
    MustExist,
}

impl Connection {
    /// Connects, runs the work and closes, also after a failure: an embedded database is left in
    /// good order.
    pub(crate) async fn with_client<T>(
        &self,
        database: Database,
        signals: &Signals,
        work: impl AsyncFnOnce(Client) -> Outcome<T>,
    ) -> Outcome<T> {
        let client = signals.or(self.connect(database)).await?;
        let outcome = work(client.clone()).await;
        let closed = client.close().await;
        let value = outcome?;
        closed.map_err(|e| Failure::from(e).during("closing"))?;
        Ok(value)
    }

    async fn connect(&self, database: Database) -> Outcome<Client> {
        let config = self.config()?;
        if database == Database::MustExist {
            must_exist(&config.addresses)?;
        }
        let with_token = config.auth_token.is_some();
        Client::connect(config).await.map_err(|e| {
            let refused = e.code == kimberlite::ErrorCode::AuthFailed;
            let failure = Failure::from(e).during("connecting");
            if refused && with_token {
                failure.cure("check the token: the server does not know this one")
            } else {
                failure
            }
        })
    }

    /// Everything that the options and the environment say.
    pub(crate) fn config(&self) -> Outcome<Config> {
        let mut config = Config::new(self.addresses()?)
            .tenant(self.tenant()?)
            .timeout_ms(self.timeout_ms)
            .connect_timeout_ms(self.timeout_ms);
        if let Some(token) = self.token()? {
            config = config.token(token);
        }
        if let Some(file) = &self.tls_ca {
            config = config.tls_ca_file(path_text("--tls-ca", file)?);
        }
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            config = config
                .tls_client_cert(path_text("--tls-cert", cert)?, path_text("--tls-key", key)?);
        }
        if let Some(name) = &self.tls_server_name {
            config = config.tls_server_name(name);
        }
        config.options.client_name = "kimberlite-cli".to_string();
        Ok(config)
    }

    fn addresses(&self) -> Outcome<Vec<String>> {
        if !self.address.is_empty() {
            return Ok(self.address.clone());
        }
        Ok(match variable(ADDRESS_VARIABLE)? {
            None => vec![DEFAULT_ADDRESS.to_string()],
            // A folder's name may hold commas.
            Some(text) if text.starts_with("embedded:") => vec![text],
            Some(text) => text.split(',').map(|part| part.trim().to_string()).collect(),
        })
    }

    /// The tenant that the commands work for.
    pub(crate) fn tenant(&self) -> Outcome<u64> {
        if let Some(tenant) = self.tenant {
            return Ok(tenant);
        }
        let Some(text) = variable(TENANT_VARIABLE)? else { return Ok(1) };
        text.parse().ok().filter(|tenant| *tenant > 0).ok_or_else(|| {
            Failure::usage(format!("{TENANT_VARIABLE} is {text:?}; it must be a number from 1 on"))
        })
    }

    fn token(&self) -> Outcome<Option<String>> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.clone())),
            (None, Some(file)) => token_of(file).map(Some),
            (None, None) => variable(TOKEN_VARIABLE),
        }
    }
}

/// A token from a file: its first line. A line end behind it is an editor's, not the token's.
pub(crate) fn token_of(file: &Path) -> Outcome<String> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::file(file, &e).during("--token-file"))?;
    match text.trim() {
        "" => Err(Failure::usage(format!("--token-file {}: it is empty", file.display()))),
        token => Ok(token.to_string()),
    }
}

/// A variable of the environment; an empty one counts as absent.
fn variable(name: &str) -> Outcome<Option<String>> {
    match std::env::var(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("{name} is not valid UTF-8")))
        }
    }
}

fn path_text(option: &str, path: &Path) -> Outcome<String> {
    path.to_str().map(str::to_string).ok_or_else(|| {
        Failure::usage(format!("{option} {}: the path is not valid UTF-8", path.display()))
    })
}

/// Where the folder of an embedded database is not there, opening it would make an empty one.
fn must_exist(addresses: &[String]) -> Outcome<()> {
    let folders = addresses.iter().filter_map(|address| address.strip_prefix("embedded:"));
    match folders.into_iter().find(|folder| !folder.is_empty() && !holds_database(folder)) {
        None => Ok(()),
        Some(folder) => {
            let message = format!("there is no database in {folder:?}");
            Err(Failure::new(exit::NOT_FOUND, message)
                .cure("check --address; `kimberlite streams create` makes a new database"))
        }
    }
}

/// Whether a folder is there and holds anything of a database. An empty one may be the place where
/// a disk should have been mounted. What cannot be listed is left to whoever opens it.
fn holds_database(folder: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return Path::new(folder).is_dir() };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    names.any(|name| {
        let name = name.to_string_lossy();
        ["segment-", "state-", "footer-"].iter().any(|kind| name.starts_with(kind))
    })
}

/// Refuses an empty name, such as a variable that was not set gives.
pub(crate) fn has_name(name: &str) -> Outcome<()> {
    match name {
        "" => Err(Failure::usage("the stream's name is empty").cure("name a stream")),
        _ => Ok(()),
    }
}

/// The stream of a name.
pub(crate) async fn stream(client: &Client, name: &str) -> Outcome<StreamInfo> {
    has_name(name)?;
    if name == AUDIT_STREAM {
        let message = format!("{AUDIT_STREAM} is read by SQL alone, and written by the database");
        return Err(Failure::usage(message).cure(format!(
            "`kimberlite query 'SELECT text FROM {AUDIT_STREAM}'` shows it to an admin"
        )));
    }
    client.stream_by_name(name).await.map_err(|e| {
        let named = e.detail.contains(name);
        let failure = Failure::from(e);
        if named { failure } else { failure.during(format!("stream {name:?}")) }
    })
}
