//! `hull logs`: what a container has printed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::ask;
use crate::container::log::{self, Entry};
use crate::container::{Container, LogDriver};
use crate::failure::{Failure, escaped};
use crate::human;

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only what came after this: a time (RFC 3339), seconds since 1970, or
    /// how long ago, as 10m or 1h30m
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// Only what came before this
    #[arg(long, value_name = "WHEN")]
    until: Option<Moment>,
    /// Only so many lines at the end
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    tail: Tail,
    /// Print the time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Where the network did not let the container go, instead of what it printed: connections, datagrams
    /// and names, since it was last started
    #[arg(long, conflicts_with_all = ["follow", "since", "until", "timestamps"])]
    network: bool,
    /// Container: a name, an id, or the beginning of one
    container: String,
}

/// A moment in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(pub(super) i64);

impl std::str::FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let now = i64::try_from(human::now()).unwrap_or(i64::MAX);
        let seconds = human::seconds(text).or_else(|| text.parse().ok());
        let seconds = seconds.or_else(|| Some(now.saturating_sub(duration(text)?)));
        seconds
            .map(Self)
            .ok_or("no time: write 2026-11-25T12:00:00Z, seconds since 1970, or 10m")
    }
}

/// Seconds of `1h30m`, `10m`, `42s`.
fn duration(text: &str) -> Option<i64> {
    let (mut total, mut number) = (0_i64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return None,
        };
        let count: i64 = std::mem::take(&mut number).parse().ok()?;
        total = total.checked_add(count.checked_mul(unit)?)?;
    }
    number
        .is_empty()
        .then_some(total)
        .filter(|_| !text.is_empty())
}

/// How many lines at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tail(usize);

impl std::str::FromStr for Tail {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "all" => Ok(Self(usize::MAX)),
            number => number
                .parse()
                .map(Self)
                .map_err(|_| "a number of lines, or all"),
        }
    }
}

/// Prints the last lines of the network's log.
fn network(container: &Container, tail: Tail) -> Result<ExitCode, Failure> {
    let log = container.network_log()?;
    let lines: Vec<&str> = log.lines().collect();
    let mut out = io::stdout().lock();
    for line in lines.iter().skip(lines.len().saturating_sub(tail.0)) {
        let (seconds, place) = line.split_once(' ').unwrap_or(("", line));
        let seconds: u64 = seconds.parse().unwrap_or(0);
        let time = human::rfc3339(seconds.saturating_mul(1_000_000_000));
        writeln!(out, "{time} denied {}", escaped(place))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let container = ask::find(&ask::containers(root)?, &args.container)?;
    if args.network {
        return network(&container, args.tail);
    }
    if container.config.log == LogDriver::None {
        let text = format!("Container {} keeps no log", container.config.name);
        return Err(Failure::new(text).code(1).hint(
            "A run that stays in the foreground and is removed at its end keeps none, nor does --log-driver none.",
        ));
    }
    let path = container.log_path();
    let mut last = VecDeque::new();
    let mut position = 0;
    let mut keep = |entry: Entry| {
        if args.wants(&entry) {
            last.push_back(entry);
            if last.len() > args.tail.0 {
                last.pop_front();
            }
        }
        Ok(())
    };
    for older in log::older(&path, container.config.log_limits).rev() {
        if let Some(file) = open(&older)? {
            log::read(&file, &mut keep)?;
        }
    }
    let mut file = open(&path)?;
    if let Some(file) = &file {
        position = log::read(file, &mut keep)?;
    }
    for entry in last {
        args.print(&entry)?;
    }
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        // Before the look, so that nothing is written between the two unseen.
        let runs = container.is_supervised();
        file = again(&container, file, &mut position, args)?;
        if !runs {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(LOOK);
    }
}

/// Prints what has come since `position`; goes over to a new file once the old one was rotated away.
fn again(
    container: &Container,
    file: Option<File>,
    position: &mut u64,
    args: &Args,
) -> Result<Option<File>, Failure> {
    use std::os::unix::fs::MetadataExt;
    let print = |entry: Entry| {
        if args.wants(&entry) {
            args.print(&entry)
        } else {
            Ok(())
        }
    };
    let now = open(&container.log_path())?;
    let Some(mut now) = now else { return Ok(file) };
    if let Some(mut old) = file
        && old.metadata()?.ino() != now.metadata()?.ino()
    {
        old.seek(SeekFrom::Start(*position))?;
        log::read(&old, print)?;
        *position = 0;
    }
    now.seek(SeekFrom::Start(*position))?;
    *position += log::read(&now, print)?;
    Ok(Some(now))
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

impl Args {
    fn wants(&self, entry: &Entry) -> bool {
        let time = human::seconds(&entry.time).unwrap_or(0);
        self.since.is_none_or(|Moment(since)| time >= since)
            && self.until.is_none_or(|Moment(until)| time <= until)
    }

    /// To the stream that it came from.
    fn print(&self, entry: &Entry) -> io::Result<()> {
        let time = match self.timestamps {
            true => format!("{} ", entry.time),
            false => String::new(),
        };
        let text = format!("{time}{}", entry.log);
        match entry.stream.as_str() {
            "stderr" => io::stderr().write_all(text.as_bytes()),
            _ => io::stdout().write_all(text.as_bytes()),
        }
    }
}
