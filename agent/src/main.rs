//! `sheaf-agent`: reads arguments, starts the matching part of the library, prints its error.

mod command_line;

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    let arguments = command_line::Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("SHEAF_LOG")
        // A failed request is reported by its caller, with what to do; the client would log it three times a second.
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube_client=off"));
    // The journal adds the time itself.
    tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stderr).init();
    command_line::start(arguments)
}
