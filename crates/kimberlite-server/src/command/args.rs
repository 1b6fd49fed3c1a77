//! The flags and subcommands.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use kimberlite_server::{LogFormat, ServerConfig, TlsConfig};

/// The Kimberlite server.
///
/// Without a configuration file it serves tenant 1 from ./kimberlite-data on localhost and prints
/// a development token. Flags override the file.
#[derive(Debug, Parser)]
#[command(name = "kimberlite-server", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// The configuration file; `kimberlite-server config` prints one.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// An address to listen on, host:port; may be repeated. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<String>,

    /// The database's folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Keeps the database in memory: it is gone when the server stops.
    #[arg(long, conflicts_with = "data_dir")]
    pub(crate) memory: bool,

    /// A tenant that exists from the start; may be repeated.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) tenant: Vec<u64>,

    /// A token for development: admin of every tenant. Everybody on this machine can read it in
    /// the list of processes.
    #[arg(long, value_name = "TOKEN")]
    pub(crate) dev_token: Option<String>,

    /// Writes the port that was bound to this file, once the server serves.
    #[arg(long, value_name = "FILE")]
    pub(crate) port_file: Option<PathBuf>,

    /// The server's certificate chain, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Authorities whose certificates clients must show, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,

    /// With TLS: takes connections without it too.
    #[arg(long)]
    pub(crate) allow_plaintext: bool,

    /// Listens beyond loopback even without TLS.
    #[arg(long)]
    pub(crate) insecure_listen: bool,

    /// An address of the admin port (metrics and health checks over HTTP), host:port; may be
    /// repeated. Without one there is no admin port.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin_listen: Vec<String>,

    /// Lets the admin port listen beyond loopback.
    #[arg(long)]
    pub(crate) admin_exposed: bool,

    /// error, warn, info, debug, trace, or a filter.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,

    /// text or json.
    #[arg(long, value_name = "FORMAT", value_parser = log_format)]
    pub(crate) log_format: Option<LogFormat>,

    /// Prints a configuration file with every option explained, and ends.
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a token and prints it once, with the lines for the configuration file.
    Token(TokenArgs),
    /// Prints a configuration file with every option explained.
    Config {
        /// Checks this file instead.
        #[arg(long, value_name = "FILE")]
        check: Option<PathBuf>,
    },
}

/// What a token is to grant.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// The principal: what the log and `_audit` call the token's holder.
    #[arg(long)]
    pub(crate) name: String,

    /// reader, writer or admin.
    #[arg(long)]
    pub(crate) role: String,

    /// Numbers with commas between, or * for every tenant.
    #[arg(long)]
    pub(crate) tenants: String,

    /// Reads the token from standard input instead of making one.
    #[arg(long)]
    pub(crate) token_stdin: bool,

    /// The configuration file that --add appends to.
    #[arg(short, long, value_name = "FILE", requires = "add")]
    pub(crate) config: Option<PathBuf>,

    /// Appends the lines to the file that --config names, and makes it where it does not exist.
    #[arg(long, requires = "config")]
    pub(crate) add: bool,

    /// Adds a further token to a name that is in the file already, as for replacing the old one.
    #[arg(long, requires = "add")]
    pub(crate) again: bool,
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("use text or json".to_string()),
    }
}

impl Args {
    /// Puts the flags over a configuration. The development token is not among them.
    pub(crate) fn apply(&self, config: &mut ServerConfig) {
        if !self.listen.is_empty() {
            config.listen = self.listen.clone();
        }
        if let Some(data_dir) = &self.data_dir {
            config.data_dir = data_dir.clone();
            config.memory = false;
        }
        config.memory |= self.memory;
        if !self.tenant.is_empty() {
            config.tenants = self.tenant.clone();
        }
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            config.tls = Some(TlsConfig {
                certificate_file: certificate.clone(),
                key_file: key.clone(),
                client_ca_file: self.tls_client_ca.clone(),
            });
        }
        config.allow_plaintext |= self.allow_plaintext;
        config.insecure_listen |= self.insecure_listen;
        if !self.admin_listen.is_empty() {
            config.admin.listen = self.admin_listen.clone();
        }
        config.admin.exposed |= self.admin_exposed;
        if let Some(level) = &self.log_level {
            config.log.level = level.clone();
        }
        if let Some(format) = self.log_format {
            config.log.format = format;
        }
    }
}
