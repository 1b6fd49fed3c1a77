//! `kimberlite dev`: a server to develop against.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kimberlite::Role;
use kimberlite_server::{Server, ServerConfig, Tenants, TokenConfig, new_token};

use crate::failure::{Failure, Outcome};
use crate::output::{Output, note};
use crate::signals::Signals;

/// How long requests under way may take at the end.
const GRACE: Duration = Duration::from_secs(5);

/// Runs a server to develop against
///
/// It says how to connect from each language and runs until Ctrl-C. Without --data-dir its
/// database lies in a temporary folder that goes with it. For production there is
/// `kimberlite-server`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kimberlite dev
  kimberlite dev --data-dir ./clinic --listen 127.0.0.1:7000
  kimberlite dev --token-file token.txt")]
pub(crate) struct Args {
    /// Keeps the database in this folder, which is made where it is not there
    #[arg(short, long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,

    /// Where to listen, host:port; port 0 takes a free one
    #[arg(short, long, value_name = "ADDRESS", default_value = "localhost:5432")]
    listen: String,

    /// The tenant that exists from the start
    #[arg(long, value_name = "NUMBER", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    tenant: u64,

    /// A file that holds the token to accept, instead of a new one at every start
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Serves until a signal comes.
pub(crate) async fn run(args: &Args, signals: &Signals) -> Outcome<()> {
    let token = match &args.token_file {
        Some(file) => crate::connect::token_of(file)?,
        None => new_token()?,
    };
    let folder = Folder::new(args.data_dir.as_deref())?;
    let server = Server::start(config(args, &folder, &token)?).map_err(|e| {
        if e.detail.contains("reaches beyond this machine") {
            return beyond_loopback(&args.listen);
        }
        let port_taken = e.detail.contains("in use");
        let failure = Failure::from(e);
        if port_taken {
            failure.cure("stop what listens there, or use --listen 127.0.0.1:0 for a free port")
        } else {
            failure
        }
    })?;
    let mut out = Output::stdout();
    // Whoever started it may have closed the pipe; the server is there all the same.
    let _ = out.text(&greeting(args, &folder, &server, &token)).and_then(|()| out.flush());
    signals.wait().await;
    note("shutting down");
    let stopped = tokio::task::spawn_blocking(move || server.shutdown(GRACE)).await;
    stopped.map_err(|e| Failure::failed(format!("the shutdown met a defect: {e}")))??;
    folder.remove()?;
    note("stopped");
    Ok(())
}

/// The server's own words name options that this command does not have.
fn beyond_loopback(listen: &str) -> Failure {
    let detail = format!(
        "--listen {listen:?} reaches beyond this machine, where tokens and data would cross the \
         network for everybody to read: `kimberlite dev` has no TLS"
    );
    Failure::from(kimberlite::Error::invalid(detail))
        .cure("use --listen localhost:5432, or `kimberlite-server`, which has TLS")
}

fn config(args: &Args, folder: &Folder, token: &str) -> Outcome<ServerConfig> {
    let token = TokenConfig::new("development", Role::Admin, Tenants::All, token)?;
    Ok(ServerConfig {
        listen: vec![args.listen.clone()],
        data_dir: folder.path().to_path_buf(),
        tenants: vec![args.tenant],
        tokens: vec![token],
        ..ServerConfig::default()
    })
}

/// Where the database lies.
enum Folder {
    Named(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Folder {
    fn new(named: Option<&Path>) -> Outcome<Folder> {
        if let Some(path) = named {
            return Ok(Folder::Named(path.to_path_buf()));
        }
        let made = tempfile::Builder::new().prefix("kimberlite-dev-").tempdir();
        made.map(Folder::Temporary)
            .map_err(|e| Failure::failed(format!("no temporary folder can be made: {e}")))
    }

    fn path(&self) -> &Path {
        match self {
            Folder::Named(path) => path,
            Folder::Temporary(folder) => folder.path(),
        }
    }

    fn about(&self) -> String {
        let path = self.path().display();
        match self {
            Folder::Named(_) => path.to_string(),
            Folder::Temporary(_) => format!("{path} (removed at the end; --data-dir keeps one)"),
        }
    }

    /// Removes a temporary folder.
    fn remove(self) -> Outcome<()> {
        let Folder::Temporary(folder) = self else { return Ok(()) };
        let path = folder.path().to_path_buf();
        folder.close().map_err(|e| Failure::file(&path, &e))
    }
}

/// How to connect from each language that there is.
fn greeting(args: &Args, folder: &Folder, server: &Server, token: &str) -> String {
    let (address, tenant) = (server.local_addr(), args.tenant);
    format!(
        "Kimberlite {version} is ready.

  address   {address}
  tenant    {tenant}
  token     {token}   (admin of every tenant, for development)
  database  {database}

Shell
  export KIMBERLITE_ADDRESS={address} KIMBERLITE_TENANT={tenant} KIMBERLITE_TOKEN={token}
  echo 'hello' | kimberlite append greetings --create non-phi
  kimberlite query 'SELECT id, text FROM greetings'

Rust      kimberlite::Client::connect(
            Config::new([\"{address}\"]).tenant({tenant}).token(\"{token}\")).await?
Python    kimberlite.Client.connect(
            [\"{address}\"], tenant_id={tenant}, auth_token=\"{token}\")
C         kmb_client_connect(
            (const char *[]){{\"{address}\"}}, 1, {tenant}, \"{token}\", &error)

Ctrl-C stops it.
",
        version = env!("CARGO_PKG_VERSION"),
        database = folder.about(),
    )
}
