//! The sections of a program as lld's map tells them, and a linker script that puts those together that were used. Knows no lab.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use anyhow::{Result, ensure};

/// An address of the program, and which of its processes was there.
pub(super) struct Use {
    pub(super) address: u64,
    pub(super) process: usize,
}

/// A section of code: where it is, and a pattern for it, which fits others too whose names differ in hashes alone.
struct Section {
    length: u64,
    name: String,
    pattern: String,
}

/// What was used of one line of the script.
struct Found {
    /// The processes that used it, a bit each.
    processes: usize,
    /// The number of its first use.
    first: usize,
}

/// Sets of processes in an order that leaves little between what each of three uses: the first alone, with the second, the second …
const SETS: [usize; 7] = [0b001, 0b011, 0b010, 0b111, 0b101, 0b110, 0b100];
/// Where less than this part of what a pattern fits was used, its sections are named one by one, though their hashes are one compiler's.
const DENSE: u64 = 3;

const HEAD: &str = "/* Made by `cargo xtask order`: what a start runs, together, so that it takes few pages of the program: what only the launcher
   runs, what the supervisor does, what all do, what only the VMM does. A name that is not there any more does no harm. */
SECTIONS
{
  .text.start :
  {
";

/// The script that lets the functions that were used stand before all others.
pub(super) fn script(map: &str, uses: &[Use]) -> Result<String> {
    let sections = sections(map);
    let mut used: BTreeMap<u64, Found> = BTreeMap::new();
    for (first, Use { address, process }) in uses.iter().enumerate() {
        if let Some((start, section)) = sections.range(..=address).next_back()
            && address - start < section.length
        {
            let processes = 0;
            let found = used.entry(*start).or_insert(Found { processes, first });
            found.processes |= 1 << process;
        }
    }
    ensure!(!used.is_empty(), "Nothing of hull was used");
    let mut bytes: HashMap<&str, (u64, u64)> = HashMap::new();
    for (start, section) in &sections {
        let (all, part) = bytes.entry(&section.pattern).or_default();
        *all += section.length;
        *part += section.length * u64::from(used.contains_key(start));
    }
    let mut lines: HashMap<&str, Found> = HashMap::new();
    for (start, found) in used {
        let Section { name, pattern, .. } = &sections[&start];
        let (all, part) = bytes[pattern.as_str()];
        let line = if part * DENSE < all { name } else { pattern };
        let (processes, first) = (0, found.first);
        let known = lines.entry(line).or_insert(Found { processes, first });
        known.processes |= found.processes;
        known.first = known.first.min(found.first);
    }
    let mut lines: Vec<_> = lines.into_iter().collect();
    let set = |processes| SETS.iter().position(|set| *set == processes);
    lines.sort_unstable_by_key(|(line, found)| (set(found.processes), found.first, *line));
    let mut script = HEAD.to_owned();
    for (line, _) in lines {
        writeln!(script, "    {line}")?;
    }
    script.push_str("  }\n}\nINSERT BEFORE .text;\n");
    Ok(script)
}

/// The sections of code by where they begin.
fn sections(map: &str) -> BTreeMap<u64, Section> {
    map.lines().filter_map(section).collect()
}

/// A line such as `9e480 9e480 2297 16 /usr/lib/libc.a(libc-start.o):(.text)`: address, address to load at, length, alignment, section.
fn section(line: &str) -> Option<(u64, Section)> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let length = u64::from_str_radix(words.nth(1)?, 16).ok()?;
    let (file, name) = words.nth(1)?.strip_suffix(')')?.rsplit_once(":(")?;
    let code = name.starts_with(".text") && words.next().is_none() && length > 0;
    let section = || Section {
        length,
        name: format!("*({name})"),
        pattern: pattern(file, name),
    };
    code.then(|| (address, section()))
}

/// A pattern for a section, good for other versions of the compiler too.
fn pattern(file: &str, name: &str) -> String {
    // `.text.`, and in front of what is rarely run `.text.unlikely.`
    if let Some((path, _)) = name.rsplit_once("17h").filter(|_| name.contains("._ZN")) {
        return format!("*({path}17h*E*)");
    }
    if let Some((kind, function)) = name.split_once("._R") {
        return format!("*({kind}._R{})", without_crates(function));
    }
    // Assembler and C have one section for each file.
    let file = file.rsplit_once('/').map_or(file, |(_, file)| file);
    match file.strip_suffix(')').and_then(|file| file.split_once('(')) {
        Some((archive, member)) => {
            let archive = archive
                .split_once('-')
                .map_or(archive, |(crate_, _)| crate_);
            let hashed = |hash: &str| hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            match member.split_once('-').filter(|(hash, _)| hashed(hash)) {
                Some((_, member)) => format!("*{archive}*:*-{member}({name})"),
                None => format!("*{archive}*:{member}({name})"),
            }
        }
        None if name == ".text" => format!("*{file}({name})"),
        None => format!("*({name})"),
    }
}

/// A name as Rust mangles it now, with `*` for what tells versions of crates apart (`Cs`, digits of base 62, `_`), and for LLVM's `.NUMBER`.
fn without_crates(name: &str) -> String {
    let (name, number) = match name.split_once('.') {
        Some((name, _)) => (name, "*"),
        None => (name, ""),
    };
    let mut parts = name.split("Cs");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|byte: char| !byte.is_ascii_alphanumeric());
        match digits {
            Some(end) if part[end..].starts_with('_') => {
                let _ = write!(out, "Cs*{}", &part[end..]);
            }
            _ => {
                let _ = write!(out, "Cs{part}");
            }
        }
    }
    out + number
}

#[cfg(test)]
mod tests;
