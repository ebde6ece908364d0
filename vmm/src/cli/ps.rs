//! `hull ps`: the containers, in docker's columns.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use serde_json::{Value, json};

use super::ask;
use crate::container::{Container, State, Status, Verdict, short};
use crate::failure::Failure;
use crate::human;
use crate::listing::{self, Column, Format};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Print whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only the newest, whether it runs or not
    #[arg(short, long)]
    latest: bool,
    /// Only so many of the newest, whether they run or not
    #[arg(short = 'n', long, value_name = "NUMBER")]
    last: Option<usize>,
    /// Show only what fits: id=, name=, status=, exited=CODE, health=, ancestor=IMAGE, label=KEY[=VALUE]
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// How to print: table, json, or a template such as '{{.ID}} {{.Names}}'
    #[arg(long, default_value = "table")]
    format: Format,
}

/// What a container must be to be shown. Several values of one key are alternatives, as docker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    key: Key,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Id,
    Name,
    Status,
    Exited,
    Health,
    Ancestor,
    Label,
}

const COLUMNS: [Column; 7] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
];

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
        let key = match key {
            "id" => Key::Id,
            "name" => Key::Name,
            "status" => Key::Status,
            "exited" => Key::Exited,
            "health" => Key::Health,
            "ancestor" => Key::Ancestor,
            "label" => Key::Label,
            other => return Err(format!("{other} is no filter for containers")),
        };
        let value = value.to_owned();
        Ok(Self { key, value })
    }
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let shows_status = args
        .filter
        .iter()
        .any(|f| matches!(f.key, Key::Status | Key::Exited));
    let last = if args.latest { Some(1) } else { args.last };
    let all = args.all || last.is_some() || shows_status;
    let mut rows = Vec::new();
    for container in ask::containers(root)?.list()? {
        let state = container.state();
        let runs = !matches!(state.status, Status::Created | Status::Exited);
        if (all || runs) && fits(&args.filter, &container, &state) {
            rows.push(row(&container, &state, args.no_trunc));
        }
    }
    rows.truncate(last.unwrap_or(usize::MAX));
    let mut out = std::io::stdout().lock();
    if args.quiet {
        let ids = rows.iter().filter_map(|row| row.get("ID")?.as_str());
        ids.into_iter().try_for_each(|id| writeln!(out, "{id}"))?;
    } else {
        listing::print(&mut out, &args.format, &COLUMNS, &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a container is one of those asked for: for each key, one of its values fits.
pub(super) fn fits(filters: &[Filter], container: &Container, state: &State) -> bool {
    filters.iter().all(|filter| {
        let same = filters.iter().filter(|other| other.key == filter.key);
        let mut alternatives = same.into_iter();
        // Labels must all be there.
        match filter.key {
            Key::Label => fits_one(filter, container, state),
            _ => alternatives.any(|filter| fits_one(filter, container, state)),
        }
    })
}

fn fits_one(filter: &Filter, container: &Container, state: &State) -> bool {
    let (config, value) = (&container.config, filter.value.as_str());
    match filter.key {
        Key::Id => config.id.starts_with(value),
        Key::Name => config.name.contains(value),
        Key::Status => state.status.to_string() == value,
        Key::Health => match state.health {
            Some(health) => health.verdict.to_string() == value,
            None => value == "none",
        },
        Key::Exited => state.status == Status::Exited && value.parse() == Ok(state.exit_code),
        Key::Ancestor => {
            let id = config.image_id.strip_prefix("sha256:");
            config.image == value || id.is_some_and(|id| value.len() >= 12 && id.starts_with(value))
        }
        Key::Label => {
            let (key, wanted) = match value.split_once('=') {
                Some((key, wanted)) => (key, Some(wanted)),
                None => (value, None),
            };
            let label = config.labels.get(key);
            label.is_some_and(|label| wanted.is_none_or(|wanted| wanted == label))
        }
    }
}

fn row(container: &Container, state: &State, whole: bool) -> Value {
    let config = &container.config;
    let mut command = config.command.join(" ");
    if !whole && command.chars().count() > 20 {
        command = command.chars().take(19).collect::<String>() + "…";
    }
    let labels = config
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let ports: Vec<String> = state.bound().iter().map(ToString::to_string).collect();
    json!({
        "ID": if whole { &config.id } else { short(&config.id) },
        "Image": config.image,
        "Command": format!("\"{command}\""),
        "CreatedAt": human::rfc3339(config.created),
        "RunningFor": human::ago(since(config.created)),
        "Status": status(state),
        "State": state.status.to_string(),
        "Names": config.name,
        "Labels": labels.collect::<Vec<_>>().join(","),
        "Ports": ports.join(", "),
        "Mounts": "",
        "Networks": if config.machine.network.is_some() { "default" } else { "none" },
    })
}

/// docker's words: `Up 3 minutes`, `Exited (0) 2 hours ago`.
fn status(state: &State) -> String {
    let finished = || human::ago(since(state.finished));
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running if state.started == 0 => "Starting".to_owned(),
        Status::Running => {
            let health = match state.health.map(|health| health.verdict) {
                None => String::new(),
                Some(Verdict::Starting) => " (health: starting)".to_owned(),
                Some(verdict) => format!(" ({verdict})"),
            };
            format!("Up {}{health}", human::span(since(state.started)))
        }
        Status::Paused => format!("Up {} (Paused)", human::span(since(state.started))),
        Status::Restarting => format!("Restarting ({}) {}", state.exit_code, finished()),
        // Nobody saw the end of a container whose supervisor was killed.
        Status::Exited if state.finished < state.started => format!("Exited ({})", state.exit_code),
        Status::Exited => format!("Exited ({}) {}", state.exit_code, finished()),
    }
}

/// Seconds since a moment in nanoseconds since 1970.
fn since(nanoseconds: u64) -> u64 {
    human::now().saturating_sub(nanoseconds / 1_000_000_000)
}
