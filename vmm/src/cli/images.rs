//! `hull images`: what is in the store, in docker's columns.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use image::reference::Reference;
use image::{Digest, Image, Listed, Store, Tagged};
use serde_json::{Value, json};

use super::rmi::refused;
use crate::failure::Failure;
use crate::listing::{self, Column, Format};
use crate::{human, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Accepted for docker's sake: every image is shown
    #[arg(short, long)]
    all: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show digests too
    #[arg(long)]
    digests: bool,
    /// Show only what fits: dangling=BOOL, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE,
    /// until=TIME or AGE
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// How to print: table, json, or a template such as '{{.ID}} {{.Repository}}'
    #[arg(long, default_value = "table")]
    format: Format,
    /// Only images of this repository, or with this name
    name: Option<String>,
}

/// What an image has to be.
#[derive(Debug, Clone)]
pub(super) enum Filter {
    Dangling(bool),
    Reference(String),
    Label(String, Option<String>),
    Before(String),
    Since(String),
    /// Made before this time, in seconds since 1970.
    Until(u64),
}

impl std::str::FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("not of the form KEY=VALUE")?;
        let value = value.to_owned();
        match key {
            "dangling" => match value.as_str() {
                "true" | "1" => Ok(Self::Dangling(true)),
                "false" | "0" => Ok(Self::Dangling(false)),
                _ => Err("dangling is true or false".to_owned()),
            },
            "reference" => Ok(Self::Reference(value)),
            "label" => Ok(match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(value, None),
            }),
            "before" => Ok(Self::Before(value)),
            "since" => Ok(Self::Since(value)),
            "until" => human::seconds(&value)
                .and_then(|seconds| u64::try_from(seconds).ok())
                .or_else(|| human::now().checked_sub(human::duration(&value)?))
                .map(Self::Until)
                .ok_or_else(|| "until is a time (2026-11-25T00:00:00Z) or an age (36h)".to_owned()),
            other => Err(format!("{other} is no filter for images")),
        }
    }
}

const COLUMNS: [Column; 6] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
];

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let store = store::open(root)?;
    let mut rows = Vec::new();
    for listed in store.list()? {
        let created = created(&store, &listed.image);
        if !args.filter.iter().try_fold(true, |fits, filter| {
            Ok::<_, Failure>(fits && filter.fits(&store, &listed)?)
        })? {
            continue;
        }
        let names: Vec<Option<&Tagged>> = match &listed.names[..] {
            [] => vec![None],
            names => names.iter().map(Some).collect(),
        };
        for name in names {
            let row = row(&listed, name, created, args.no_trunc);
            if wanted(args, name) {
                rows.push(row);
            }
        }
    }
    let mut out = std::io::stdout().lock();
    if args.quiet {
        let mut ids: Vec<&str> = rows
            .iter()
            .filter_map(|row| row.get("ID")?.as_str())
            .collect();
        ids.dedup();
        ids.iter().try_for_each(|id| writeln!(out, "{id}"))?;
    } else {
        let columns: Vec<Column> = COLUMNS
            .into_iter()
            .filter(|(name, _)| *name != "Digest" || args.digests)
            .collect();
        listing::print(&mut out, &args.format, &columns, &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// When the image was made, in seconds since 1970; when it came here, if it does not say.
fn created(store: &Store, image: &Image) -> u64 {
    let config = store.config(&image.id).ok();
    let created = config.and_then(|config| human::seconds(&config.created?));
    created.map_or(image.at, |seconds| u64::try_from(seconds).unwrap_or(0))
}

/// The first twelve figures of an id, or all with the algorithm.
pub(super) fn shown_id(id: &Digest, whole: bool) -> String {
    if whole {
        id.to_string()
    } else {
        id.hex().chars().take(12).collect()
    }
}

fn row(listed: &Listed, name: Option<&Tagged>, created: u64, whole: bool) -> Value {
    let none = || "<none>".to_owned();
    let reference: Option<Reference> = name.and_then(|name| name.name.parse().ok());
    let (mut repository, mut tag) = (none(), none());
    if let Some(reference) = &reference {
        let familiar = reference.familiar();
        let end = familiar.find('@').unwrap_or(familiar.len());
        let familiar = familiar.get(..end).unwrap_or(&familiar);
        let suffix = reference
            .tag()
            .map(|tag| format!(":{tag}"))
            .unwrap_or_default();
        repository = familiar
            .strip_suffix(&suffix)
            .unwrap_or(familiar)
            .to_owned();
        tag = reference.tag().map_or_else(none, str::to_owned);
    }
    let digest = name.and_then(|name| name.manifest);
    json!({
        "ID": shown_id(&listed.image.id, whole),
        "Repository": repository,
        "Tag": tag,
        "Digest": digest.map_or_else(none, |digest| digest.to_string()),
        "CreatedSince": human::ago(human::now().saturating_sub(created)),
        "CreatedAt": human::date(created),
        "Size": human::size(listed.bytes),
        "Containers": if listed.is_used { "1+" } else { "0" },
    })
}

/// Whether the name is the one asked for.
fn wanted(args: &Args, name: Option<&Tagged>) -> bool {
    let Some(wanted) = &args.name else {
        return true;
    };
    let Some(reference) = name.and_then(|name| name.name.parse::<Reference>().ok()) else {
        return false;
    };
    let Ok(wanted_name) = wanted.parse::<Reference>() else {
        return false;
    };
    let has_tag = wanted
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains(':'));
    wanted_name.repository() == reference.repository()
        && (!has_tag || wanted_name.tag() == reference.tag())
}

impl Filter {
    /// Whether an image of the store is that.
    pub(super) fn fits(&self, store: &Store, listed: &Listed) -> Result<bool, Failure> {
        Ok(match self {
            Self::Dangling(wanted) => listed.names.is_empty() == *wanted,
            Self::Reference(pattern) => listed.names.iter().any(|name| {
                let Ok(reference) = name.name.parse::<Reference>() else {
                    return false;
                };
                let familiar = reference.familiar();
                let untagged = familiar
                    .rsplit_once(':')
                    .map_or(&*familiar, |(name, _)| name);
                [&*familiar, untagged]
                    .iter()
                    .any(|text| glob(pattern, text))
            }),
            Self::Label(key, value) => {
                let config = store.config(&listed.image.id)?;
                let label = config.config.labels.get(key);
                label.is_some_and(|label| value.as_ref().is_none_or(|value| value == label))
            }
            Self::Until(time) => created(store, &listed.image) < *time,
            Self::Before(other) => {
                created(store, &listed.image)
                    < created(store, &store.resolve(other).map_err(refused)?)
            }
            Self::Since(other) => {
                created(store, &listed.image)
                    > created(store, &store.resolve(other).map_err(refused)?)
            }
        })
    }
}

/// `*` is anything within a component, `?` one character of it.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last star has to take one more.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() || p < pattern.len() {
        match (pattern.get(p), text.get(t)) {
            (Some('*'), _) => {
                retry = Some((p, t + 1));
                p += 1;
                continue;
            }
            (Some('?'), Some(c)) if *c != '/' => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            (Some(wanted), Some(c)) if wanted == c => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            _ => {}
        }
        match retry {
            Some((star, next)) if next <= text.len() && text.get(next - 1) != Some(&'/') => {
                (p, t) = (star, next);
                retry = None;
            }
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests;
