//! Images of the local docker or podman, exported by their own tools, or by skopeo. Knows neither their stores nor hull's.

use std::fs::File;
use std::io;
use std::process::Command;
use std::time::Duration;

use thiserror::Error;

use crate::Digest;
use crate::program::{self, Ended};
use crate::reference::{Reference, Source};
use crate::registry::printable;

#[cfg(test)]
mod tests;

/// How long a tool may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to export an image.
const EXPORT: Duration = Duration::from_secs(3600);
/// Longest configuration that is read, in bytes.
const ANSWER_MAX: u64 = 4 << 20;

/// Why a local image cannot be exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// Not one of docker's or podman's.
    #[error("{0} is neither docker's nor podman's")]
    Foreign(String),
    /// None of the tools is installed.
    #[error("None of the tools that can export it is installed: {}", .0.join(", "))]
    NoTool(Vec<&'static str>),
    /// The tool cannot be run, or takes too long.
    #[error("Cannot run {tool}")]
    Run {
        /// The program.
        tool: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The tool says no.
    #[error("{tool} says: {complaint}")]
    Refused {
        /// The program.
        tool: &'static str,
        /// What it says, escaped and bounded.
        complaint: String,
    },
}

/// A program that can export images from one place.
struct Tool {
    program: &'static str,
    /// Prints the image's id, or its configuration.
    ask: Vec<String>,
    /// Prints an archive as `docker save` makes it.
    export: Vec<String>,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// The tools for a source, best first. A reference begins with a letter or figure: it cannot be taken for an option.
fn tools(source: &Source) -> Option<Vec<Tool>> {
    let (own, transport, reference) = match source {
        Source::DockerDaemon(reference) => ("docker", "docker-daemon:", reference),
        Source::ContainersStorage(reference) => ("podman", "containers-storage:", reference),
        _ => return None,
    };
    let name = Reference::to_string(reference);
    let there = format!("{transport}{name}");
    Some(vec![
        Tool {
            program: own,
            ask: words(&["image", "inspect", "--format", "{{.Id}}", &name]),
            export: words(&["image", "save", &name]),
        },
        Tool {
            program: "skopeo",
            ask: words(&["inspect", "--config", "--raw", &there]),
            export: words(&[
                // hull's own policy decides.
                "--insecure-policy",
                "copy",
                "--quiet",
                &there,
                "docker-archive:/proc/self/fd/1",
            ]),
        },
    ])
}

/// The id of the image, as far as the tool says what hull would call it.
///
/// # Errors
/// When no tool has the image.
pub(crate) fn id(source: &Source) -> Result<Option<Digest>, ExportError> {
    let (tool, ended) = first(source, |tool| {
        let mut command = Command::new(tool.program);
        program::run(command.args(&tool.ask), b"", ANSWER_MAX, PATIENCE)
    })?;
    if ended.answer.trim_ascii_start().starts_with(b"{") && tool == "skopeo" {
        return Ok(Some(Digest::of(&ended.answer)));
    }
    let text = String::from_utf8_lossy(&ended.answer);
    let hex = text.trim().trim_start_matches("sha256:");
    Ok(format!("sha256:{hex}").parse().ok())
}

/// Writes the image into `file`, which is empty, as a docker archive.
///
/// # Errors
/// When no tool has the image.
pub(crate) fn export(source: &Source, file: &File) -> Result<(), ExportError> {
    first(source, |tool| {
        let mut command = Command::new(tool.program);
        program::run_into(command.args(&tool.export), file.try_clone()?, EXPORT)
    })
    .map(|_| ())
}

/// What the first tool that is installed says.
fn first(
    source: &Source,
    run: impl Fn(&Tool) -> io::Result<Ended>,
) -> Result<(&'static str, Ended), ExportError> {
    let tools = tools(source).ok_or_else(|| ExportError::Foreign(source.to_string()))?;
    for tool in &tools {
        let ended = match run(tool) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|source| ExportError::Run {
                tool: tool.program,
                source,
            })?,
        };
        if !ended.status.success() {
            let complaint = String::from_utf8_lossy(&ended.complaint);
            return Err(ExportError::Refused {
                tool: tool.program,
                complaint: match complaint.trim() {
                    "" => ended.status.to_string(),
                    text => printable(text, 300),
                },
            });
        }
        return Ok((tool.program, ended));
    }
    Err(ExportError::NoTool(
        tools.iter().map(|tool| tool.program).collect(),
    ))
}
