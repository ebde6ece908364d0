//! `hull top`: the processes of a container, as ps lists them.

use std::path::PathBuf;
use std::process::ExitCode;

use protocol::{Item, Work};

use super::ask;
use super::job::{ItemsError, Job};
use crate::failure::{Failure, escaped};
use crate::human;

/// Linux's USER_HZ.
const TICKS: u64 = 100;

const HEADS: [&str; 7] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME"];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Container: a name, an id, or the beginning of one
    container: String,
}

/// One process.
struct Process {
    uid: u32,
    id: u64,
    parent: u64,
    /// Seconds since the machine's start.
    started: u64,
    /// Seconds of processor time.
    used: u64,
    terminal: u64,
    command: String,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let container = ask::find(&ask::containers(root.clone())?, &args.container)?;
    ask::awake(&container)?;
    let mut job = Job::start(&container, root, Work::Processes)?;
    let listed = list(&mut job);
    let (uptime, processes) = match listed {
        Ok(listed) => {
            job.finish(Ok(()))?;
            listed
        }
        Err(error) => {
            job.finish(Err(Failure::new(error)))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    println!("{}", columns(&HEADS.map(str::to_owned), "CMD"));
    for process in processes {
        println!("{}", process.line(uptime));
    }
    Ok(ExitCode::SUCCESS)
}

fn list(job: &mut Job) -> Result<(u64, Vec<Process>), ItemsError> {
    let (mut uptime, mut processes) = (0, Vec::new());
    while let Some(item) = job.next()? {
        match item {
            Item::Uptime(seconds) => uptime = seconds,
            Item::Process { stat, uid, command } => {
                processes.extend(Process::parse(&stat, uid, &command));
            }
            _ => return Err(ItemsError::Unexpected),
        }
    }
    Ok((uptime, processes))
}

impl Process {
    fn parse(stat: &[u8], uid: u32, command: &[u8]) -> Option<Self> {
        let stat = String::from_utf8_lossy(stat);
        // The name may have blanks and parentheses in it.
        let (before, after) = stat.rsplit_once(')')?;
        let (id, name) = before.split_once(" (")?;
        let fields: Vec<u64> = after
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        let words: Vec<_> = command
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(String::from_utf8_lossy)
            .collect();
        let command = match words.is_empty() {
            true => format!("[{name}]"),
            false => words.join(" "),
        };
        Some(Self {
            uid,
            id: id.trim().parse().ok()?,
            parent: field(4),
            started: field(22) / TICKS,
            used: field(14).saturating_add(field(15)) / TICKS,
            terminal: field(7),
            command: escaped(&command),
        })
    }

    /// In the columns of docker's `ps -ef`; users by number, for their names are the image's.
    fn line(&self, uptime: u64) -> String {
        let age = uptime.saturating_sub(self.started);
        let share = (100 * self.used).checked_div(age).unwrap_or(0);
        let began = human::rfc3339(
            human::now()
                .saturating_sub(age)
                .saturating_mul(1_000_000_000),
        );
        let terminal = match self.terminal {
            0 => "?".to_owned(),
            // A pseudo terminal's major number is 136.
            number => format!("pts/{}", number & 0xff | number >> 12 & 0xfff00),
        };
        let (hours, minutes, seconds) = (self.used / 3600, self.used / 60 % 60, self.used % 60);
        let fields = [
            match self.uid {
                0 => "root".to_owned(),
                uid => uid.to_string(),
            },
            self.id.to_string(),
            self.parent.to_string(),
            share.to_string(),
            began.get(11..16).unwrap_or_default().to_owned(),
            terminal,
            format!("{hours:02}:{minutes:02}:{seconds:02}"),
        ];
        columns(&fields, &self.command)
    }
}

/// docker's widths.
fn columns(fields: &[String; 7], command: &str) -> String {
    let padded = fields.iter().map(|field| format!("{field:<20}"));
    padded.chain([command.to_owned()]).collect()
}
