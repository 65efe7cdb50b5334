//! Chromium on the pages of a real console: started here, driven by a file of `console/web/test/real`.
//!
//! Why here: a case on a node in QEMU and one on a control plane of processes start npm in the same way. Route in: where the console is,
//! what the file needs to know. Route out: what npm said, or its failure; a picture of the page that failed.

use anyhow::{Context as _, Result, ensure};
use sheaf_host::run::{Command, Run as _, System};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files below `console/web/test/real`, and how they are started.
pub struct Pages {
    web: PathBuf,
    console: String,
    picture: PathBuf,
    given: Vec<(String, OsString)>,
    namespace: Option<String>,
}

impl Pages {
    /// Of the checkout `root`, against the console at `console`; the page that failed is shown in `artefacts`.
    pub fn of(root: &Path, console: &str, artefacts: &Path) -> Result<Self> {
        let web = root.join("console/web");
        if !web.join("node_modules").exists() {
            System.run(&npm(&web, &["ci", "--ignore-scripts"]))?;
        }
        std::fs::create_dir_all(artefacts).with_context(|| artefacts.display().to_string())?;
        let picture = artefacts.join("page.png");
        Ok(Self { web, console: console.to_owned(), picture, given: Vec::new(), namespace: None })
    }

    /// Files are told `value` under this name.
    #[must_use]
    pub fn given(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.given.push((name.to_owned(), value.into()));
        self
    }

    /// The browser lives in this network namespace. Chromium gives up all that it loads when a link of its machine comes or goes, as those of
    /// other cases do (`net::ERR_NETWORK_CHANGED`).
    #[must_use]
    pub fn inside(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Runs one file, and no other.
    pub fn run(&self, file: &str, deadline: Duration) -> Result<()> {
        let file = format!("test/real/{file}");
        ensure!(self.web.join(&file).exists(), "{file}: is not a file of {}", self.web.display());
        let words = ["exec", "--", "vitest", "run", "--config", "test/real/vitest.config.ts", &file];
        let command = match &self.namespace {
            None => npm(&self.web, &words),
            Some(namespace) => {
                Command::new("ip").args(["netns", "exec", namespace, "npm"]).args(words).dir(&self.web)
            }
        };
        let mut command = command
            .env("SHEAF_CONSOLE", &self.console)
            .env("SHEAF_SCREENSHOT", &self.picture)
            .deadline(deadline);
        for (name, value) in &self.given {
            command = command.env(name, value);
        }
        println!("{}", System.run(&command)?.text());
        Ok(())
    }
}

fn npm(web: &Path, words: &[&str]) -> Command {
    Command::new("npm").args(words.iter().copied()).dir(web)
}
