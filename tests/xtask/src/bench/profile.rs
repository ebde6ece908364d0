//! One start by its phases, as a tree in the terminal and as a flame graph: what is within something stands above it, and is as
//! wide as it took long. Knows only that a row's name is a path with semicolons.

use std::fmt::Write as _;

use ::tests::bench::Row;

use super::plot::escaped;

#[cfg(test)]
mod tests;

/// Of the picture, in pixels.
const WIDTH: f64 = 1200.0;
/// Of a line of it.
const LINE: f64 = 20.0;
/// Of a letter, about.
const LETTER: f64 = 7.0;
/// Shorter parts are told together with their like.
const LEAST: f64 = 0.02;
/// The longest bar in the terminal, in letters.
const BAR: f64 = 40.0;

/// Something that took time, and what it consists of.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Part {
    name: String,
    took: f64,
    parts: Vec<Part>,
}

impl Part {
    /// All rows of a profile under one name.
    pub(crate) fn of(name: &str, rows: &[&Row]) -> Self {
        let mut whole = Self {
            name: name.to_owned(),
            ..Self::default()
        };
        for row in rows {
            whole.add(&mut row.name.split(';'), row.figure);
        }
        whole.arrange();
        whole
    }

    fn add<'a>(&mut self, path: &mut impl Iterator<Item = &'a str>, took: f64) {
        self.took += took;
        let Some(name) = path.next() else { return };
        let place = self.parts.iter().position(|part| part.name == name);
        let part = match place.and_then(|place| self.parts.get_mut(place)) {
            Some(part) => part,
            None => self.parts.push_mut(Self {
                name: name.to_owned(),
                ..Self::default()
            }),
        };
        part.add(path, took);
    }

    /// The longest first, and the shortest as one.
    fn arrange(&mut self) {
        let (mut short, long): (Vec<_>, Vec<_>) = std::mem::take(&mut self.parts)
            .into_iter()
            .partition(|part| part.took < LEAST);
        self.parts = long;
        self.parts
            .sort_by(|one, other| other.took.total_cmp(&one.took));
        if let [_, _, ..] = short[..] {
            short = vec![Self {
                name: format!("{} shorter ones", short.len()),
                took: short.iter().map(|part| part.took).sum(),
                parts: Vec::new(),
            }];
        }
        self.parts.append(&mut short);
        for part in &mut self.parts {
            part.arrange();
        }
    }

    /// As lines for the terminal.
    pub(crate) fn text(&self, unit: &str) -> String {
        let mut text = String::new();
        self.lines(0, self.took, unit, &mut text);
        text
    }

    fn lines(&self, depth: usize, whole: f64, unit: &str, text: &mut String) {
        let bar = "█".repeat(letters(self.took / whole * BAR));
        let indent = "  ".repeat(depth);
        let name = format!("{indent}{}", self.name);
        let _ = writeln!(text, "{name:<52} {:>8.3} {unit}  {bar}", self.took);
        for part in &self.parts {
            part.lines(depth + 1, whole, unit, text);
        }
    }

    /// As a picture.
    pub(crate) fn picture(&self, unit: &str) -> String {
        let height = LINE * (self.depth() as f64 + 1.0);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"monospace\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        self.boxes(0.0, height - LINE * 1.5, WIDTH / self.took, unit, &mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn depth(&self) -> usize {
        1 + self.parts.iter().map(Self::depth).max().unwrap_or(0)
    }

    fn boxes(&self, left: f64, top: f64, scale: f64, unit: &str, svg: &mut String) {
        let width = self.took * scale;
        let told = format!("{} {:.2} {unit}", self.name, self.took);
        let fits = told
            .chars()
            .take(letters(width / LETTER))
            .collect::<String>();
        // A colour for each name, the same in each picture.
        let hue = self
            .name
            .bytes()
            .fold(0_u32, |sum, byte| sum * 31 % 997 + u32::from(byte))
            % 50;
        let _ = writeln!(
            svg,
            "<g><title>{}</title><rect x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{}\" \
             fill=\"hsl({hue},80%,70%)\" stroke=\"white\"/><text x=\"{:.1}\" y=\"{}\">{}</text></g>",
            escaped(&told),
            LINE - 1.0,
            left + 3.0,
            top + 13.0,
            escaped(&fits)
        );
        let mut left = left;
        for part in &self.parts {
            part.boxes(left, top - LINE, scale, unit, svg);
            left += part.took * scale;
        }
    }
}

/// How many letters are no wider than this, in letters.
fn letters(width: f64) -> usize {
    (1..=200_u8)
        .take_while(|count| f64::from(*count) <= width)
        .count()
}
