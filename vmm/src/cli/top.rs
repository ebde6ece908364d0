//! `hull top`: the processes of a container, as ps lists them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use protocol::{Item, Work};

use super::ask;
use super::job::{ItemsError, Job};
use crate::failure::{Failure, escaped};
use crate::human;

/// Linux's USER_HZ.
const TICKS: u64 = 100;
/// Bytes of a page.
const PAGE: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Container: a name, an id, or the beginning of one
    container: String,
    /// How ps is asked: -ef (the default), aux, or -o with a list of columns
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PS-OPTIONS"
    )]
    options: Vec<OsString>,
}

/// One process.
struct Process {
    uid: u32,
    id: u64,
    /// One letter, as in R for running.
    state: String,
    parent: u64,
    terminal: u64,
    nice: i64,
    threads: u64,
    /// Seconds since the machine's start.
    started: u64,
    /// Seconds of processor time.
    used: u64,
    /// Bytes of its address space, and of those that are in memory.
    size: u64,
    resident: u64,
    name: String,
    command: String,
}

/// What a column is relative to.
struct Machine {
    /// Seconds since its start.
    uptime: u64,
    /// Bytes.
    memory: u64,
}

/// A column: what `-o` calls it, its head, and what is in it.
struct Column(
    &'static [&'static str],
    &'static str,
    fn(&Process, &Machine) -> String,
);

/// Those of ps's columns that there are.
const COLUMNS: [Column; 19] = [
    // Users by number, for their names are the image's.
    Column(&["user", "euser"], "USER", |process, _| process.user()),
    Column(&["uid", "euid"], "UID", |process, _| process.user()),
    Column(&["pid"], "PID", |process, _| process.id.to_string()),
    Column(&["ppid"], "PPID", |process, _| process.parent.to_string()),
    Column(&["c"], "C", |process, machine| {
        (process.share(machine) / 10).to_string()
    }),
    Column(&["%cpu", "pcpu"], "%CPU", |process, machine| {
        tenths(process.share(machine))
    }),
    Column(&["%mem", "pmem"], "%MEM", |process, machine| {
        tenths(per_mille(process.resident, machine.memory))
    }),
    Column(&["vsz", "vsize"], "VSZ", |process, _| {
        (process.size / 1024).to_string()
    }),
    Column(&["rss", "rssize", "rsz"], "RSS", |process, _| {
        (process.resident / 1024).to_string()
    }),
    Column(&["tty", "tt", "tname"], "TTY", |process, _| {
        process.terminal()
    }),
    Column(&["stat", "state", "s"], "STAT", |process, _| {
        process.state.clone()
    }),
    Column(&["ni", "nice"], "NI", |process, _| process.nice.to_string()),
    Column(&["nlwp", "thcount"], "NLWP", |process, _| {
        process.threads.to_string()
    }),
    Column(
        &["stime", "start_time", "start"],
        "STIME",
        |process, machine| process.began(machine),
    ),
    Column(&["etimes"], "ELAPSED", |process, machine| {
        process.age(machine).to_string()
    }),
    Column(&["time", "cputime"], "TIME", |process, _| {
        clock(process.used)
    }),
    Column(&["comm", "ucmd", "ucomm"], "COMMAND", |process, _| {
        process.name.clone()
    }),
    Column(&["cmd"], "CMD", |process, _| process.command.clone()),
    Column(&["args", "command"], "COMMAND", |process, _| {
        process.command.clone()
    }),
];

/// docker's, which asks ps for `-ef`.
const FULL: &str = "uid,pid,ppid,c,stime,tty,time,cmd";
/// Those of BSD's ps.
const AUX: &str = "user,pid,%cpu,%mem,vsz,rss,tty,stat,start,time,command";

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let columns = columns(&args.options)?;
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
    let memory = container.config.machine.memory.bytes();
    let machine = Machine { uptime, memory };
    let heads = columns.iter().map(|column| column.1.to_owned()).collect();
    println!("{}", line(heads));
    for process in processes {
        let fields = columns.iter().map(|column| column.2(&process, &machine));
        println!("{}", line(fields.collect()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The columns that are asked for as ps would be.
fn columns(options: &[OsString]) -> Result<Vec<&'static Column>, Failure> {
    let words: Vec<_> = options.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let list = match &words[..] {
        [] | ["-e" | "-A" | "-f" | "-ef" | "-fe" | "-Af"] | ["-e", "-f"] => FULL.to_owned(),
        ["aux" | "-aux" | "ax" | "u" | "au"] => AUX.to_owned(),
        ["-o" | "-eo" | "-Ao", list] | ["-e" | "-A", "-o", list] => (*list).to_owned(),
        ["-o", lists @ ..] if !lists.is_empty() => lists.join(","),
        [list] if list.starts_with("-o") => list.trim_start_matches("-o").to_owned(),
        _ => {
            let text = format!("`ps {}` cannot be asked for", escaped(&words.join(" ")));
            return Err(Failure::new(text).hint("There are -ef, aux and -o COLUMN,COLUMN…"));
        }
    };
    let column = |name: &str| {
        let is_called = |column: &&Column| column.0.contains(&name.to_lowercase().as_str());
        COLUMNS.iter().find(is_called).ok_or_else(|| {
            let all: Vec<_> = COLUMNS
                .iter()
                .filter_map(|column| column.0.first())
                .collect();
            let all: Vec<&str> = all.into_iter().copied().collect();
            Failure::new(format!("There is no column {:?}", name))
                .hint(format!("There are {}.", all.join(", ")))
        })
    };
    list.split(',').map(column).collect()
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
        let fields: Vec<&str> = after.split_whitespace().collect();
        let text = |number: usize| fields.get(number - 3).copied().unwrap_or_default();
        let field = |number: usize| text(number).parse::<u64>().unwrap_or(0);
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
            state: escaped(text(3)).chars().take(1).collect(),
            parent: field(4),
            terminal: field(7),
            used: field(14).saturating_add(field(15)) / TICKS,
            nice: text(19).parse().unwrap_or(0),
            threads: field(20),
            started: field(22) / TICKS,
            size: field(23),
            resident: field(24).saturating_mul(PAGE),
            name: escaped(name),
            command: escaped(&command),
        })
    }

    fn user(&self) -> String {
        match self.uid {
            0 => "root".to_owned(),
            uid => uid.to_string(),
        }
    }

    /// Seconds since it started.
    fn age(&self, machine: &Machine) -> u64 {
        machine.uptime.saturating_sub(self.started)
    }

    /// Per mille of one processor that it used in its life.
    fn share(&self, machine: &Machine) -> u64 {
        per_mille(self.used, self.age(machine))
    }

    /// The time of the day at which it started.
    fn began(&self, machine: &Machine) -> String {
        let began = human::now().saturating_sub(self.age(machine));
        let began = human::rfc3339(began.saturating_mul(1_000_000_000));
        began.get(11..16).unwrap_or_default().to_owned()
    }

    fn terminal(&self) -> String {
        match self.terminal {
            0 => "?".to_owned(),
            // A pseudo terminal's major number is 136.
            number => format!("pts/{}", number & 0xff | number >> 12 & 0xfff00),
        }
    }
}

fn per_mille(part: u64, whole: u64) -> u64 {
    part.saturating_mul(1000).checked_div(whole).unwrap_or(0)
}

fn tenths(number: u64) -> String {
    format!("{}.{}", number / 10, number % 10)
}

fn clock(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

/// In docker's widths; the last column is as wide as it is.
fn line(mut fields: Vec<String>) -> String {
    let last = fields.pop().unwrap_or_default();
    let padded = fields.iter().map(|field| format!("{field:<20}"));
    padded.chain([last]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(options: &[&str]) -> Result<Vec<&'static str>, String> {
        let options: Vec<OsString> = options.iter().map(OsString::from).collect();
        let columns = columns(&options).map_err(|failure| failure.line())?;
        Ok(columns.into_iter().map(|column| column.1).collect())
    }

    #[test]
    fn ps_is_asked_in_its_words() {
        let full = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
        assert_eq!(heads(&[]).unwrap(), full);
        assert_eq!(heads(&["-ef"]).unwrap(), full);
        assert_eq!(heads(&["aux"]).unwrap().len(), 11);
        for options in [
            &["-o", "pid,Comm"][..],
            &["-eo", "pid,comm"],
            &["-opid,comm"],
            &["-o", "pid", "comm"],
        ] {
            assert_eq!(heads(options).unwrap(), ["PID", "COMMAND"], "{options:?}");
        }
        assert!(heads(&["--forest"]).unwrap_err().contains("--forest"));
        assert!(heads(&["-o", "pid,wchan"]).unwrap_err().contains("wchan"));
    }

    #[test]
    fn a_process_is_told_as_the_kernel_tells_it() {
        let stat = b"42 (a ) b) S 1 42 42 34816 42 4194304 9 0 0 0 250 50 0 0 20 -5 3 0 1000 8192000 500 0";
        let process = Process::parse(stat, 7, b"a\0-x\0").unwrap();
        let machine = Machine {
            uptime: 40,
            memory: 20_480_000,
        };
        let all: Vec<String> = COLUMNS
            .iter()
            .map(|column| column.2(&process, &machine))
            .collect();
        assert_eq!(
            all[..13],
            [
                "7", "7", "42", "1", "10", "10.0", "10.0", "8000", "2000", "pts/0", "S", "-5", "3"
            ]
        );
        assert_eq!(all[14..], ["30", "00:00:03", "a ) b", "a -x", "a -x"]);
    }
}
