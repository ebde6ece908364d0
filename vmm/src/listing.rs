//! Lists as docker prints them: a table, JSON line by line, or a template of the user's. Knows not what
//! the rows are about.

mod template;

use std::io::{self, Write};

use serde_json::Value;
use template::Template;
pub(crate) use template::TemplateError;

use crate::failure::escaped;

/// A column: the name templates and JSON use, and the head of the table.
pub(crate) type Column = (&'static str, &'static str);

/// How to print a list.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    /// The columns of the verb.
    Table,
    /// One object a line.
    Json,
    /// One rendering a line.
    Template(Template),
    /// The same, with heads and aligned.
    TableOf(Template),
}

impl std::str::FromStr for Format {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            text => match text.strip_prefix("table ") {
                Some(rest) => Ok(Self::TableOf(Template::parse(rest)?)),
                None => Ok(Self::Template(Template::parse(text)?)),
            },
        }
    }
}

/// Prints documents whole, as the verbs named `inspect` do: all fields, unless a template picks some.
pub(crate) fn documents(format: &Format, found: &[Value]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json | Format::Table => {
            serde_json::to_writer_pretty(&mut out, found)?;
            writeln!(out)
        }
        template => print(&mut out, template, &[], found),
    }
}

/// Prints `rows`, each an object with a value for every column.
pub(crate) fn print(
    out: &mut dyn Write,
    format: &Format,
    columns: &[Column],
    rows: &[Value],
) -> io::Result<()> {
    match format {
        Format::Table => {
            let heads = columns.iter().map(|(_, head)| (*head).to_owned()).collect();
            let cells = |row: &Value| columns.iter().map(|(name, _)| cell(row, name)).collect();
            table(
                out,
                std::iter::once(heads)
                    .chain(rows.iter().map(cells))
                    .collect(),
            )
        }
        Format::Json => rows.iter().try_for_each(|row| writeln!(out, "{row}")),
        Format::Template(template) => rows
            .iter()
            .try_for_each(|row| writeln!(out, "{}", escaped(&template.render(row)))),
        Format::TableOf(template) => {
            let heads: Value = columns
                .iter()
                .map(|(name, head)| ((*name).to_owned(), Value::from(*head)))
                .collect::<serde_json::Map<_, _>>()
                .into();
            let lines = std::iter::once(&heads)
                .chain(rows)
                .map(|row| template.render(row));
            let split = |line: String| line.split('\t').map(escaped).collect();
            table(out, lines.map(split).collect())
        }
    }
}

fn cell(row: &Value, name: &str) -> String {
    match row.get(name) {
        Some(Value::String(text)) => escaped(text),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// Narrowest column, with the spaces after it.
const NARROWEST: usize = 10;

/// docker's columns: as wide as their widest cell and three spaces, and at least [`NARROWEST`].
fn table(out: &mut dyn Write, lines: Vec<Vec<String>>) -> io::Result<()> {
    let mut widths: Vec<usize> = Vec::new();
    for line in &lines {
        for (column, text) in line.iter().enumerate() {
            match widths.get_mut(column) {
                Some(width) => *width = (*width).max(text.chars().count()),
                None => widths.push(text.chars().count()),
            }
        }
    }
    for line in lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(cell);
            let fill = (width + 3)
                .max(NARROWEST)
                .saturating_sub(cell.chars().count());
            text.extend(std::iter::repeat_n(' ', fill));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
