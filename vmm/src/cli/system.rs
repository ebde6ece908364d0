//! `hull system …`: what the store takes on the disk, and whether it is what its digests say.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::failure::{self, Failure, escaped};
use crate::listing::{self, Column, Format};
use crate::snapshot::named::Snapshots;
use crate::template::Templates;
use crate::{human, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// Show what the store takes on the disk
    Df(DfArgs),
    /// Compare everything in the store with its digest, and snapshots with their sums
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct DfArgs {
    /// How to print: table, json, or a template such as '{{.Type}} {{.Size}}'
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Remove what is damaged, and images that cannot be run without it
    #[arg(long)]
    repair: bool,
}

const COLUMNS: [Column; 5] = [
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    match &args.verb {
        Verb::Df(args) => df(args, root),
        Verb::Check(args) => check(args, root),
    }
}

fn df(args: &DfArgs, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let usage = store::open(root.clone())?.usage()?;
    let templates = Templates::of(&store::directory(root.clone())?).usage();
    let snapshots = Snapshots::of(&store::directory(root)?).list();
    let kept = snapshots
        .iter()
        .flatten()
        .map(|snapshot| snapshot.bytes)
        .sum();
    let all = usage.roots + usage.blobs;
    let percent = (usage.reclaimable * 100).checked_div(all).unwrap_or(0);
    let row = |kind: &str, total: String, active: String, bytes: u64, reclaimable: String| {
        json!({
            "Type": kind, "TotalCount": total, "Active": active,
            "Size": human::size(bytes), "Reclaimable": reclaimable,
        })
    };
    let reclaimable = format!("{} ({percent}%)", human::size(usage.reclaimable));
    let (images, used) = (usage.images.to_string(), usage.used.to_string());
    let none = String::new;
    let rows = [
        row("Images", images, used, all, reclaimable),
        row("  file systems", none(), none(), usage.roots, none()),
        row("  kept blobs", none(), none(), usage.blobs, none()),
        row(
            "Templates",
            templates.count.to_string(),
            none(),
            templates.bytes,
            human::size(templates.bytes),
        ),
        row(
            "Snapshots",
            snapshots.len().to_string(),
            none(),
            kept,
            human::size(kept),
        ),
        row("Being written", none(), none(), usage.temporary, none()),
    ];
    listing::print(&mut std::io::stdout().lock(), &args.format, &COLUMNS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn check(args: &CheckArgs, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let problems = store::open(root.clone())?.check(args.repair)?;
    for problem in &problems {
        let repaired = if problem.is_repaired {
            " (repaired)"
        } else {
            ""
        };
        let line = format!("{}: {}{repaired}", problem.path.display(), problem.kind);
        println!("{}", escaped(&line));
    }
    let snapshots = Snapshots::of(&store::directory(root)?).list();
    let verified = snapshots.into_iter().map(|found| found?.verify());
    let damaged = verified.filter_map(Result::err);
    // Nothing brings one back, so removing it is for its user to say.
    let damaged = damaged.map(|error| println!("{}", failure::line(&error)));
    let left = problems.iter().filter(|problem| !problem.is_repaired);
    match left.count() + damaged.count() {
        0 => Ok(ExitCode::SUCCESS),
        count => Err(Failure::new(format!("The store has {count} problems"))
            .hint(
                "hull system check --repair removes what is damaged, to be pulled or loaded again then; hull snapshot rm removes a snapshot.",
            )
            .code(1)),
    }
}
