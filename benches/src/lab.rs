//! Where experiments work: folders, programs, how often and how much.

use std::path::PathBuf;

use kimberlite_client::{Config, blocking};

use crate::server::Server;
use crate::{Arguments, Failure, stats};

/// The token of every server that is measured.
pub const TOKEN: &str = "bench-token";

/// What all experiments share.
pub struct Lab {
    /// What the command line says.
    pub arguments: Arguments,
    /// The machine's load when the experiment began.
    pub load_before: String,
}

impl Lab {
    /// Notes the load.
    pub fn new(arguments: Arguments) -> Lab {
        Lab { arguments, load_before: stats::load() }
    }

    /// `usual`, or `little` where it is only to be seen that things work.
    pub fn amount<T>(&self, usual: T, little: T) -> T {
        if self.arguments.quick { little } else { usual }
    }

    /// The numbers of the rounds, each told to who watches.
    pub fn rounds(&self) -> impl Iterator<Item = usize> {
        let rounds = self.arguments.rounds;
        (0..rounds).inspect(move |round| {
            eprintln!("  round {} of {rounds}, load {}", round + 1, stats::load());
        })
    }

    /// A path of this experiment's own in the measured folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.arguments.folder.join(name)
    }

    /// A server with an empty database.
    pub fn server(&self) -> Result<Server, Failure> {
        self.server_in("server", true)
    }

    /// A server on a folder, emptied before if `fresh`.
    pub fn server_in(&self, name: &str, fresh: bool) -> Result<Server, Failure> {
        let folder = self.path(name);
        if fresh {
            remove(&folder)?;
        }
        Server::start(&self.arguments.built, &folder, &[])
    }

    /// A client of a server.
    pub fn client(&self, server: &Server) -> Result<blocking::Client, Failure> {
        Ok(blocking::Client::connect(config(server))?)
    }
}

/// How a server is reached.
pub fn config(server: &Server) -> Config {
    Config::new([&server.address]).tenant(1).token(TOKEN)
}

/// Removes a folder, which need not be there.
pub fn remove(folder: &std::path::Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", folder.display()).into())
        }
        _ => Ok(()),
    }
}
