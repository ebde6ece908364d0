//! `hull events`: what happens to containers, and what has.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Value, json};

use super::ask;
use super::logs::Moment;
use crate::container::events::{self, Event};
use crate::container::log;
use crate::failure::{Failure, escaped};
use crate::human;
use crate::listing::{self, Format};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also what came after this: a time (RFC 3339), seconds since 1970, or how long ago, as 10m
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// End when this time has come
    #[arg(long, value_name = "WHEN")]
    until: Option<Moment>,
    /// Only what fits: container=, event=, image=, label=KEY[=VALUE], type=container
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// How to print: json, or a template such as '{{.Action}} {{.Actor.Attributes.name}}'
    #[arg(long, default_value = "table", hide_default_value = true)]
    format: Format,
}

/// What an event must be to be shown. Several values of one key are alternatives.
#[derive(Debug, Clone)]
struct Filter {
    key: String,
    value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
        match key {
            "container" | "event" | "image" | "label" | "type" => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            other => Err(format!("{other} is no filter for events")),
        }
    }
}

impl Filter {
    fn fits(&self, event: &Event) -> bool {
        let value = self.value.as_str();
        match self.key.as_str() {
            "container" => {
                event
                    .attributes
                    .get("name")
                    .is_some_and(|name| name == value)
                    || !value.is_empty() && event.id.starts_with(value)
            }
            // `health_status` is one word of several.
            "event" => event.action.split(':').next() == Some(value) || event.action == value,
            "image" => event.image == value,
            "label" => match value.split_once('=') {
                Some((key, value)) => event.attributes.get(key).is_some_and(|v| v == value),
                None => event.attributes.contains_key(value),
            },
            _ => value == "container",
        }
    }
}

/// A file that is followed, and how much of it has been read.
struct Followed {
    file: File,
    position: u64,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let containers = ask::containers(root)?;
    let [older, newer] = events::files(containers.path());
    let mut print = |event: Event| args.print(&event);
    let mut followed = open(&newer)?;
    if args.since.is_some() {
        if let Some(Followed { file, .. }) = open(&older)? {
            log::read(&file, &mut print)?;
        }
    } else if let Some(followed) = &mut followed {
        followed.position = followed.file.metadata()?.len();
    }
    loop {
        let late = |Moment(until): Moment| i64::try_from(human::now()).unwrap_or(i64::MAX) > until;
        // Before the look, so that nothing is written between the two unseen.
        let over = args.until.is_some_and(late);
        if let Some(now) = open(&newer)? {
            followed = Some(read(followed, now, &mut print)?);
        }
        if over {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(LOOK);
    }
}

/// Reads what is new, of the file that was put away meanwhile too.
fn read(
    followed: Option<Followed>,
    mut now: Followed,
    print: &mut dyn FnMut(Event) -> io::Result<()>,
) -> io::Result<Followed> {
    if let Some(mut before) = followed {
        if before.file.metadata()?.ino() == now.file.metadata()?.ino() {
            now.position = before.position;
        } else {
            before.file.seek(SeekFrom::Start(before.position))?;
            log::read(&before.file, &mut *print)?;
        }
    }
    now.file.seek(SeekFrom::Start(now.position))?;
    now.position += log::read(&now.file, print)?;
    Ok(now)
}

fn open(path: &Path) -> io::Result<Option<Followed>> {
    match File::open(path) {
        Ok(file) => Ok(Some(Followed { file, position: 0 })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Args {
    fn print(&self, event: &Event) -> io::Result<()> {
        let seconds = i64::try_from(event.time / 1_000_000_000).unwrap_or(i64::MAX);
        let in_time = self.since.is_none_or(|Moment(since)| seconds >= since)
            && self.until.is_none_or(|Moment(until)| seconds <= until);
        let fits = self.filter.iter().all(|filter| {
            let mut same = self.filter.iter().filter(|other| other.key == filter.key);
            same.any(|filter| filter.fits(event))
        });
        if !in_time || !fits {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match &self.format {
            Format::Table => {
                let attributes = event.attributes.iter();
                let attributes: Vec<_> = attributes
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                let (time, list) = (human::rfc3339(event.time), attributes.join(", "));
                let line = format!("{time} container {} {} ({list})", event.action, event.id);
                writeln!(out, "{}", escaped(&line))
            }
            format => listing::print(&mut out, format, &[], &[document(event)]),
        }
    }
}

/// docker's.
fn document(event: &Event) -> Value {
    json!({
        "status": event.action,
        "id": event.id,
        "from": event.image,
        "Type": "container",
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": event.time / 1_000_000_000,
        "timeNano": event.time,
    })
}
