//! `hull import`: a tar of a root file system becomes an image.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use image::Execution;
use image::reference::Reference;
use image::trust::Origin;

use crate::failure::Failure;
use crate::registry::admit;
use crate::store;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to run it, in a Dockerfile's words: CMD, ENTRYPOINT, ENV, USER, WORKDIR, LABEL, STOPSIGNAL,
    /// VOLUME
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<Change>,
    /// A note for its history
    #[arg(short, long, default_value = "")]
    message: String,
    /// The tar, plain, gzip or zstd; - is standard input
    file: PathBuf,
    /// Its name
    name: Option<String>,
}

/// One instruction of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    word: String,
    rest: String,
}

impl std::str::FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, rest) = text
            .trim()
            .split_once(char::is_whitespace)
            .ok_or("not WORD VALUE")?;
        let change = Self {
            word: word.to_ascii_uppercase(),
            rest: rest.trim().to_owned(),
        };
        change.apply(&mut Execution::default())?;
        Ok(change)
    }
}

impl Change {
    pub(super) fn apply(&self, execution: &mut Execution) -> Result<(), String> {
        let rest = || self.rest.clone();
        match self.word.as_str() {
            "CMD" => execution.cmd = self.command()?,
            "ENTRYPOINT" => execution.entrypoint = self.command()?,
            "ENV" => {
                let (key, value) = self.pair()?;
                execution.env.push(format!("{key}={value}"));
            }
            "LABEL" => {
                let (key, value) = self.pair()?;
                execution.labels.insert(key, value);
            }
            "USER" => execution.user = rest(),
            "WORKDIR" => execution.working_dir = rest(),
            "VOLUME" => {
                let paths = self.paths()?;
                let paths = paths.into_iter().map(|path| (path, Default::default()));
                execution.volumes.extend(paths);
            }
            "STOPSIGNAL" => execution.stop_signal = Some(rest()),
            other => return Err(format!("{other} cannot be changed")),
        }
        Ok(())
    }

    /// A JSON list as it is, anything else for the shell.
    fn command(&self) -> Result<Vec<String>, String> {
        if self.rest.starts_with('[') {
            return serde_json::from_str(&self.rest).map_err(|error| error.to_string());
        }
        Ok(vec![
            "/bin/sh".to_owned(),
            "-c".to_owned(),
            self.rest.clone(),
        ])
    }

    /// A JSON list as it is, or words.
    fn paths(&self) -> Result<Vec<String>, String> {
        match self.rest.starts_with('[') {
            true => serde_json::from_str(&self.rest).map_err(|error| error.to_string()),
            false => Ok(self.rest.split_whitespace().map(str::to_owned).collect()),
        }
    }

    fn pair(&self) -> Result<(String, String), String> {
        let pair = self
            .rest
            .split_once('=')
            .or_else(|| self.rest.split_once(' '));
        let (key, value) = pair.ok_or("not KEY=VALUE")?;
        let value = value.trim();
        let inner = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'));
        Ok((key.trim().to_owned(), inner.unwrap_or(value).to_owned()))
    }
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let name: Option<Reference> = args.name.as_deref().map(str::parse).transpose()?;
    let mut execution = Execution::default();
    for change in &args.change {
        change.apply(&mut execution).map_err(Failure::new)?;
    }
    let mut tar: Box<dyn Read> = match args.file.as_os_str().as_encoded_bytes() {
        b"-" => Box::new(std::io::stdin()),
        _ => Box::new(File::open(&args.file).map_err(|error| {
            Failure::new(format!("{} cannot be opened: {error}", args.file.display())).code(1)
        })?),
    };
    admit(&Origin::Tarball)?;
    let store = store::open(root)?;
    let label = args.file.display().to_string();
    let image = store.import(&label, &mut tar, name.as_ref(), |diff_id| {
        serde_json::json!({
            "architecture": "amd64",
            "os": "linux",
            "config": execution,
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
            "history": [{ "created_by": format!("hull import {label}"), "comment": args.message }],
        })
        .to_string()
        .into_bytes()
    });
    let image = image.map_err(|error| Failure::new(error).code(1))?;
    println!("{}", image.id);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
