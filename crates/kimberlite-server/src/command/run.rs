//! Runs the server until a signal ends it.

use std::path::Path;
use std::time::{Duration, Instant};

use kimberlite_server::{Purpose, Server, ServerConfig, Tenants, TokenConfig, new_token};
use kimberlite_wire::{Error, ErrorCode, Role};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::args::Args;
use super::{logging, print};

/// A second signal this soon after the first is the same request: who stops a process and then its
/// group, as `timeout` does, sends two.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// A token that is not in the configuration file.
struct Development {
    entry: TokenConfig,
    /// Its text where the server chose it: that is printed.
    chosen: Option<String>,
}

/// Starts the server, says how to connect, and waits for the end.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let development = development(args);
    let config = configuration(args, development.as_ref(), Purpose::Start)?;
    let development = development?;
    logging::start(&config.log)?;
    allow_more_files();
    let server = Server::start(config.clone())?;
    announce(&server, &config, development.as_ref())?;
    if let Some(file) = &args.port_file {
        write_port(file, server.local_addr().port())?;
    }
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| {
        Error::new(ErrorCode::Internal, format!("signals cannot be waited for: {e}"))
    })?;
    runtime.block_on(serve(server, args, &config, &development))
}

/// Lets the process have as many files open as its user may allow it: what is allowed at first is
/// often little, for the sake of old programs.
fn allow_more_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            warn!(%error, "the limit of open files could not be raised");
        }
    }
}

/// The file's configuration, or the defaults, with the flags and the development token over it.
fn configuration(
    args: &Args,
    development: Result<&Option<Development>, &Error>,
    purpose: Purpose,
) -> Result<ServerConfig, Error> {
    ServerConfig::assemble(args.config.as_deref(), purpose, |config| {
        args.apply(config);
        let mut wrong = Vec::new();
        match development {
            Ok(token) => config.tokens.extend(token.as_ref().map(|token| token.entry.clone())),
            Err(error) => wrong.push(error.clone()),
        }
        wrong.extend(logging::check(&config.log).err());
        wrong
    })
}

/// The token of `--dev-token`, or without a configuration file a new one.
fn development(args: &Args) -> Result<Option<Development>, Error> {
    let (token, chosen) = match (&args.dev_token, &args.config) {
        (Some(token), _) => (token.clone(), None),
        (None, Some(_)) => return Ok(None),
        (None, None) => {
            let token = new_token()?;
            (token.clone(), Some(token))
        }
    };
    let entry = TokenConfig::new("development", Role::Admin, Tenants::All, &token)
        .map_err(|e| Error::invalid(format!("--dev-token: {}", e.detail)))?;
    Ok(Some(Development { entry, chosen }))
}

/// Says on standard output where the server listens and how to connect.
fn announce(
    server: &Server,
    config: &ServerConfig,
    development: Option<&Development>,
) -> Result<(), Error> {
    let addresses: Vec<String> = server.local_addrs().iter().map(ToString::to_string).collect();
    let addresses = addresses.join(" and ");
    info!(addresses, tls = config.tls.is_some(), memory = config.memory, "serving");
    let scheme = if config.tls.is_some() { "tls://" } else { "" };
    let place = if config.memory {
        "in memory; it is gone when the server stops".to_string()
    } else {
        config.data_dir.display().to_string()
    };
    let tenants: Vec<String> = config
        .tenants_from_start()
        .into_iter()
        // One that was deleted is not made again.
        .filter(|tenant_id| server.engine().tenant_exists(*tenant_id))
        .map(|tenant_id| tenant_id.to_string())
        .collect();
    let mut text = format!(
        "Kimberlite {} listens on {addresses}\n  database  {place}\n  tenants   {}\n",
        env!("CARGO_PKG_VERSION"),
        tenants.join(", "),
    );
    if let Some(development) = development {
        let token = development.chosen.as_deref().unwrap_or("the one of --dev-token");
        text += &format!("  token     {token}\n");
        text +=
            "            (admin of every tenant; for development: configure tokens otherwise)\n";
        let exposed = server.local_addrs().iter().any(|at| !at.ip().is_loopback());
        if exposed {
            warn!("the development token opens every tenant to whoever reaches this server");
        }
    }
    let tenant = config.tenants.first().map_or(String::new(), |id| format!(" as tenant {id}"));
    for address in server.admin_addrs() {
        text += &format!("  admin     http://{address}/metrics, /healthz, /readyz\n");
    }
    text += &format!("Connect to {scheme}{}{tenant} with the token.\n", server.local_addr());
    print(&text)
}

/// Written beside and renamed, so that who waits for the file never reads half of it.
fn write_port(file: &Path, port: u16) -> Result<(), Error> {
    let failed = |e| Error::invalid(format!("--port-file {}: {e}", file.display()));
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, format!("{port}\n")).map_err(failed)?;
    std::fs::rename(&partial, file).map_err(failed)
}

/// Waits for signals: the first to end ends in order, the second at once unless it belongs to the
/// first; SIGHUP reloads.
async fn serve(
    server: Server,
    args: &Args,
    config: &ServerConfig,
    development: &Option<Development>,
) -> Result<(), Error> {
    let mut signals = Signals::new()?;
    loop {
        match signals.next().await {
            Signal::Reload => reload(&server, args, development),
            Signal::End(name) => {
                info!(signal = name, "shutting down");
                break;
            }
        }
    }
    let asked = Instant::now();
    let grace = Duration::from_millis(config.shutdown_grace_ms);
    let (done, mut finished) = oneshot::channel();
    // A thread of its own: the shutdown blocks, and a second signal must be heard meanwhile.
    std::thread::spawn(move || {
        let _ = done.send(server.shutdown(grace));
    });
    loop {
        tokio::select! {
            result = &mut finished => {
                info!("shut down");
                return result.unwrap_or_else(|_| {
                    Err(Error::new(ErrorCode::Internal, "the shutdown met a defect"))
                });
            }
            signal = signals.next() => if let Signal::End(name) = signal {
                if asked.elapsed() < SAME_REQUEST {
                    info!(signal = name, "shutting down already; a later signal exits at once");
                    continue;
                }
                warn!(signal = name, "exiting at once");
                std::process::exit(1);
            }
        }
    }
}

/// Where it fails, the server goes on with what it had.
fn reload(server: &Server, args: &Args, development: &Option<Development>) {
    let config = configuration(args, Ok(development), Purpose::Reload);
    let config = config.inspect_err(|_| server.note_failed_reload());
    match config.and_then(|config| server.reload(&config)) {
        Ok(()) => info!("tokens and certificates were read again"),
        Err(e) => error!(detail = e.detail, "nothing was reloaded"),
    }
}

enum Signal {
    End(&'static str),
    Reload,
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Signals, Error> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| {
            signal(kind).map_err(|e| {
                Error::new(ErrorCode::Internal, format!("signals cannot be waited for: {e}"))
            })
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End("SIGTERM"),
            _ = self.interrupt.recv() => Signal::End("SIGINT"),
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Signals, Error> {
        Ok(Signals)
    }

    async fn next(&mut self) -> Signal {
        // Where it cannot be listened for, nothing but the system ends the program.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::End("Ctrl-C")
    }
}
