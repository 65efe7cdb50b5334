//! `sheaf-agent`: reads arguments, starts the matching part of the library, prints its error.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use sheaf_agent::paths::Paths;
use sheaf_agent::runtime;
use std::path::{Path, PathBuf};

/// The daemon of a Sheaf node.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory that stands for `/`.
    #[arg(long, default_value = "/", global = true)]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the daemon.
    Run,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("SHEAF_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // The journal adds the time itself.
    tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stderr).init();
    let paths = Paths::under(&arguments.root);
    match arguments.command {
        Command::Run => {
            let config = load(&paths.node_toml)?;
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(runtime::run(paths, config))
        }
    }
}

fn load(path: &Path) -> anyhow::Result<sheaf_config::node::NodeConfig> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("{}: can not be read", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{}: is refused", path.display()))
}
