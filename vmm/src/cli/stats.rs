//! `hull stats`: what containers take of the host, as the host's kernel counts it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ask;
use crate::container::{Container, Status, short};
use crate::failure::Failure;
use crate::human;
use crate::listing::{self, Column, Format};

/// Linux's USER_HZ: the clock ticks in a second that it counts processor time in.
const TICKS: u64 = 100;
/// Bytes of a page on x86-64.
const PAGE: u64 = 4096;
/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also containers that do not run
    #[arg(short, long)]
    all: bool,
    /// Print once, and end
    #[arg(long)]
    no_stream: bool,
    /// How to print: table, json, or a template such as '{{.Name}} {{.MemUsage}}'
    #[arg(long, default_value = "table")]
    format: Format,
    /// Containers: names, ids, or beginnings of ids [default: all that run]
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const COLUMNS: [Column; 7] = [
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("MemParts", "PRIVATE / SHARED"),
    ("NetIO", "NET I/O"),
];

/// What a VMM's process has taken so far.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    /// Processor time.
    time: Duration,
    /// Bytes of memory that are the process's own or mapped by it.
    memory: u64,
    /// Those of them that are files', which others may map too: what a copy has not written of its template or snapshot.
    shared: u64,
    /// Its share of all, each page divided by those who map it; known to those who may look into the process.
    share: Option<u64>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let containers = ask::containers(root)?;
    loop {
        let shown = match args.containers.is_empty() {
            true => containers.list()?,
            false => args
                .containers
                .iter()
                .map(|name| ask::find(&containers, name))
                .collect::<Result<_, _>>()?,
        };
        let named = !args.containers.is_empty();
        let shown = shown
            .into_iter()
            .map(|container| (container.state(), container));
        let shown: Vec<_> = shown
            .filter(|(state, _)| {
                args.all || named || matches!(state.status, Status::Running | Status::Paused)
            })
            .collect();
        let before: Vec<Taken> = shown.iter().map(|(state, _)| taken(state.vmm)).collect();
        let start = Instant::now();
        std::thread::sleep(INTERVAL);
        let passed = start.elapsed();
        let rows: Vec<Value> = shown
            .iter()
            .zip(before)
            .map(|((state, container), before)| row(container, before, taken(state.vmm), passed))
            .collect();
        let mut out = std::io::stdout().lock();
        listing::print(&mut out, &args.format, &COLUMNS, &rows)?;
        out.flush()?;
        if args.no_stream {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn row(container: &Container, before: Taken, now: Taken, passed: Duration) -> Value {
    let limit = container.config.machine.memory.bytes();
    let used = now.time.saturating_sub(before.time);
    let cpu = 100.0 * used.as_secs_f64() / passed.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    let memory = 100.0 * now.memory as f64 / limit as f64;
    let network = container.network_counts();
    json!({
        "ID": short(&container.config.id),
        "Name": container.config.name,
        "CPUPerc": format!("{cpu:.2}%"),
        "MemUsage": format!("{} / {}", human::size(now.memory), human::size(limit)),
        "MemPerc": format!("{memory:.2}%"),
        "MemParts": format!("{} / {}", human::size(now.memory - now.shared), human::size(now.shared)),
        "MemPrivate": now.memory - now.shared,
        "MemShared": now.shared,
        "MemPss": now.share,
        "NetIO": format!("{} / {}", human::size(network.received), human::size(network.sent)),
        "NetFlows": network.flows,
        "NetDenied": network.denied,
    })
}

/// What a process has taken; nothing when there is none.
fn taken(process: u32) -> Taken {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}"));
    let number = |text: &str, index: usize| -> u64 {
        text.split_whitespace()
            .nth(index)
            .and_then(|word| word.parse().ok())
            .unwrap_or(0)
    };
    let Ok(stat) = read("stat") else {
        return Taken::default();
    };
    // The name in parentheses may have blanks in it; what follows it starts with field 3.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = number(fields, 11) + number(fields, 12);
    let pages = read("statm").unwrap_or_default();
    let resident = number(&pages, 1);
    let share = read("smaps_rollup").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("Pss:"))?;
        Some(number(line, 1) << 10)
    });
    Taken {
        time: Duration::from_millis(ticks * 1000 / TICKS),
        memory: resident * PAGE,
        shared: number(&pages, 2).min(resident) * PAGE,
        share,
    }
}
