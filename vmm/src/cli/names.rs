//! What verbs have in common that are about things that have names: `hull volume`, `hull network`, `hull snapshot`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::Value;

use crate::failure::Failure;
use crate::listing::{self, Column, Format};

#[derive(Debug, clap::Args)]
pub(super) struct LsArgs {
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// How to print: table, json, or a template such as '{{.Name}}'
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    /// How to print: json, or a template such as '{{.Name}}'
    #[arg(short, long, default_value = "json")]
    format: Format,
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RmArgs {
    /// Take it well when there is none of a name
    #[arg(short, long)]
    pub(super) force: bool,
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl LsArgs {
    /// Prints `rows`, which have a `Name` and a value for every column.
    pub(super) fn print(&self, columns: &[Column], rows: &[Value]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if !self.quiet {
            return listing::print(&mut out, &self.format, columns, rows);
        }
        let mut names = rows.iter().filter_map(|row| row.get("Name")?.as_str());
        names.try_for_each(|name| writeln!(out, "{name}"))
    }
}

impl InspectArgs {
    /// Prints what is known of each; one that is not there does not keep the others.
    pub(super) fn print(
        &self,
        mut describe: impl FnMut(&str) -> Result<Value, Failure>,
    ) -> Result<ExitCode, Failure> {
        let mut code = ExitCode::SUCCESS;
        let mut found = Vec::new();
        for name in &self.names {
            match describe(name) {
                Ok(document) => found.push(document),
                Err(failure) => code = failure.code(1).report(),
            }
        }
        listing::documents(&self.format, &found)?;
        Ok(code)
    }
}

impl RmArgs {
    /// Removes [`each`].
    pub(super) fn remove(&self, remove: impl FnMut(&str) -> Result<bool, Failure>) -> ExitCode {
        each(self.names.iter().map(String::as_str), remove)
    }
}

/// Does something to each of these and prints the names of those to which it was done; one that fails does not keep the others.
pub(super) fn each<'a>(
    names: impl IntoIterator<Item = &'a str>,
    mut act: impl FnMut(&str) -> Result<bool, Failure>,
) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match act(name) {
            Ok(true) => println!("{name}"),
            Ok(false) => {}
            Err(failure) => code = failure.code(1).report(),
        }
    }
    code
}

/// What is called by labels, `KEY=VALUE` or a key alone.
pub(super) fn labels(texts: &[String]) -> BTreeMap<String, String> {
    let label = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    texts.iter().map(label).collect()
}
