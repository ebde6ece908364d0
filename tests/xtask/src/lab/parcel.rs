//! What the launcher hands to the agent inside the lab: the command, its environment and where it runs. Bytes only, for
//! neither arguments nor environment need be UTF-8.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use anyhow::{Context, Result};

/// One command to run inside the lab.
#[derive(Debug, PartialEq)]
pub(crate) struct Parcel {
    /// Whether it gets a terminal or three pipes.
    pub(crate) terminal: bool,
    /// The directory that it starts in.
    pub(crate) directory: PathBuf,
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Its whole environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

impl Parcel {
    /// As bytes: fields that each end with a zero byte, which none of them can contain.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut fields: Vec<Vec<u8>> = Vec::new();
        fields.push(if self.terminal {
            b"terminal".to_vec()
        } else {
            b"pipes".to_vec()
        });
        fields.push(self.directory.as_os_str().as_bytes().to_vec());
        fields.push(self.command.len().to_string().into_bytes());
        fields.extend(self.command.iter().map(|word| word.as_bytes().to_vec()));
        for (name, value) in &self.environment {
            fields.push(name.as_bytes().to_vec());
            fields.push(value.as_bytes().to_vec());
        }
        fields
            .into_iter()
            .flat_map(|field| [field, vec![0]].concat())
            .collect()
    }

    /// The reverse of [`Parcel::encode`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut fields = bytes
            .strip_suffix(b"\0")
            .unwrap_or(bytes)
            .split(|byte| *byte == 0);
        let mut next = move || {
            fields
                .next()
                .map(|field| OsString::from_vec(field.to_vec()))
        };
        let terminal = next().context("The parcel is empty")? == "terminal";
        let directory = PathBuf::from(next().context("The parcel ends before the directory")?);
        let count = next().context("The parcel ends before the command")?;
        let count: usize = count
            .to_string_lossy()
            .parse()
            .context("The parcel's number of words is no number")?;
        let command = (0..count)
            .map(|_| next().context("The parcel ends within the command"))
            .collect::<Result<Vec<OsString>>>()?;
        let mut environment = Vec::new();
        while let Some(name) = next() {
            environment.push((
                name,
                next().context("The parcel ends within the environment")?,
            ));
        }
        Ok(Self {
            terminal,
            directory,
            command,
            environment,
        })
    }
}

#[cfg(test)]
mod tests;
