//! `hull history`: the steps an image was made in, newest first.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::images::shown_id;
use super::rmi::refused;
use crate::failure::Failure;
use crate::listing::{self, Column, Format};
use crate::{human, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print nothing but ids
    #[arg(short, long)]
    quiet: bool,
    /// Print whole commands and ids
    #[arg(long)]
    no_trunc: bool,
    /// How to print: table, json, or a template such as '{{.CreatedBy}}'
    #[arg(long, default_value = "table")]
    format: Format,
    /// The image: a name, an id, or the beginning of an id
    image: String,
}

/// Longest command in a table, in characters.
const COMMAND: usize = 45;

const COLUMNS: [Column; 5] = [
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let store = store::open(root)?;
    let image = store.resolve(&args.image).map_err(refused)?;
    let config = store.config(&image.id)?;
    let mut layers = store.layers(&image)?.into_iter();
    let mut rows = Vec::new();
    for step in &config.history {
        let bytes = match step.empty_layer {
            true => 0,
            false => layers.next().map_or(0, |layer| layer.unpacked),
        };
        let created = step.created.as_deref().and_then(human::seconds);
        let since = created.map(|at| human::now().saturating_sub(u64::try_from(at).unwrap_or(0)));
        let mut by = step.created_by.replace(['\n', '\t'], " ");
        if !args.no_trunc && by.chars().count() > COMMAND {
            by = by.chars().take(COMMAND - 1).chain(['…']).collect();
        }
        rows.push(json!({
            "ID": "<missing>",
            "CreatedSince": since.map_or_else(|| "N/A".to_owned(), human::ago),
            "CreatedAt": step.created.clone().unwrap_or_default(),
            "CreatedBy": by,
            "Size": human::size(bytes),
            "Comment": step.comment,
        }));
    }
    // Layers that the history does not speak of.
    rows.extend(layers.map(|layer| {
        json!({
            "ID": "<missing>", "CreatedSince": "N/A", "CreatedAt": "", "CreatedBy": "",
            "Size": human::size(layer.unpacked), "Comment": "",
        })
    }));
    rows.reverse();
    if let Some(first) = rows.first_mut().and_then(Value::as_object_mut) {
        first.insert(
            "ID".to_owned(),
            Value::from(shown_id(&image.id, args.no_trunc)),
        );
    }
    let mut out = std::io::stdout().lock();
    if args.quiet {
        let template = "{{.ID}}".parse()?;
        listing::print(&mut out, &template, &COLUMNS, &rows)?;
    } else {
        listing::print(&mut out, &args.format, &COLUMNS, &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}
