//! Where the images of a registry are really fetched: mirrors, other locations, plain http, blocks. Reads
//! containers-registries.conf(5), version 2; short-name aliases and search lists are not its business, as names are
//! completed as docker does it. Knows no network.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;
use thiserror::Error;

use crate::reference::Reference;

#[cfg(test)]
mod tests;

/// Largest configuration file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The configuration of registries.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    tables: Vec<Table>,
}

/// One place to look for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    /// `host[:port]`, as in names; docker hub is still `docker.io`.
    pub(crate) domain: String,
    /// The repository there.
    pub(crate) path: String,
    /// Plain http and unverified certificates will do.
    pub(crate) insecure: bool,
    /// Hosts that may be sent this registry's credentials in exchange for a token.
    pub(crate) realms: Vec<String>,
}

/// Why the configuration of registries cannot be used.
#[derive(Debug, Error)]
pub enum RegistriesError {
    /// A file cannot be read.
    #[error("Cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not TOML in the form of registries.conf.
    #[error("{path} is no valid registries.conf: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// The administrator blocked the registry or repository.
    #[error("{name} is blocked by the registries.conf entry {prefix:?}")]
    Blocked {
        /// What was asked for.
        name: String,
        /// The entry.
        prefix: String,
    },
}

#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default, rename = "registry")]
    registries: Vec<Table>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Table {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default, rename = "mirror")]
    mirrors: Vec<Mirror>,
    /// hull's own: see [`Location::realms`].
    #[serde(default)]
    token_realms: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: When,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum When {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

impl Registries {
    /// Reads the user's file, or else the system's: `hull/registries.conf` before `containers/registries.conf`,
    /// `$XDG_CONFIG_HOME` before `/etc`; then the drop-ins beside it (`registries.conf.d/*.conf`).
    ///
    /// # Errors
    /// When a file is there and cannot be used.
    pub fn from_environment(
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, RegistriesError> {
        let home = variable("HOME").map(|home| PathBuf::from(home).join(".config"));
        let config = variable("XDG_CONFIG_HOME").map(PathBuf::from).or(home);
        let explicit = variable("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from);
        let candidates = config.into_iter().chain([PathBuf::from("/etc")]);
        let file = explicit.or_else(|| {
            candidates
                .flat_map(|directory| ["hull", "containers"].map(|name| directory.join(name)))
                .map(|directory| directory.join("registries.conf"))
                .find(|path| path.exists())
        });
        let Some(file) = file else {
            return Ok(Self::default());
        };
        let mut tables = BTreeMap::new();
        let mut drop_in = file.clone().into_os_string();
        drop_in.push(".d");
        let mut files: Vec<PathBuf> = fs::read_dir(drop_in)
            .into_iter()
            .flatten()
            .take(256)
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "conf")
            })
            .collect();
        files.sort();
        for path in std::iter::once(file).chain(files) {
            for table in read(&path)? {
                // A later file replaces the table of the same prefix.
                tables.insert(table.prefix.clone(), table);
            }
        }
        Ok(Self {
            tables: tables.into_values().collect(),
        })
    }

    /// Where to look for `reference`, best first.
    pub(crate) fn locations(
        &self,
        reference: &Reference,
    ) -> Result<Vec<Location>, RegistriesError> {
        let name = reference.repository();
        let itself = Location {
            domain: reference.domain().to_owned(),
            path: reference.path().to_owned(),
            insecure: false,
            realms: Vec::new(),
        };
        let Some(table) = self.table(reference) else {
            return Ok(vec![itself]);
        };
        if table.blocked {
            return Err(RegistriesError::Blocked {
                name,
                prefix: table.prefix.clone(),
            });
        }
        let by_digest = reference.digest().is_some();
        let mirrors = table
            .mirrors
            .iter()
            .filter(|mirror| match mirror.pull_from_mirror {
                When::All => by_digest || !table.mirror_by_digest_only,
                When::DigestOnly => by_digest,
                When::TagOnly => !by_digest,
            });
        let mut found: Vec<Location> = mirrors
            .filter_map(|mirror| {
                // A mirror is another host with other credentials.
                moved(&name, &table.prefix, &mirror.location, mirror.insecure, &[])
            })
            .collect();
        let own = moved(
            &name,
            &table.prefix,
            &table.location,
            table.insecure,
            &table.token_realms,
        );
        found.push(own.unwrap_or(Location {
            insecure: table.insecure,
            realms: table.token_realms.clone(),
            ..itself
        }));
        Ok(found)
    }

    /// The location for pushing: never a mirror.
    pub(crate) fn primary(
        &self,
        reference: &Reference,
    ) -> Result<Option<Location>, RegistriesError> {
        Ok(self.locations(reference)?.pop())
    }

    fn table(&self, reference: &Reference) -> Option<&Table> {
        self.tables
            .iter()
            .filter(|table| covers(&table.prefix, reference))
            .max_by_key(|table| table.prefix.len())
    }
}

/// Whether a prefix of registries.conf covers `reference`.
fn covers(prefix: &str, reference: &Reference) -> bool {
    if let Some(domain) = prefix.strip_prefix("*.") {
        return reference
            .domain()
            .strip_suffix(domain)
            .is_some_and(|rest| rest.ends_with('.'));
    }
    reference
        .to_string()
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
        // `host` must not cover `host:5000/x`.
        && (prefix.contains('/') || prefix == reference.domain())
}

/// `name` with `prefix` replaced by `location`.
fn moved(
    name: &str,
    prefix: &str,
    location: &str,
    insecure: bool,
    realms: &[String],
) -> Option<Location> {
    let rest = if prefix.starts_with("*.") {
        name.split_once('/').map(|(_, path)| format!("/{path}"))?
    } else {
        // A prefix with a tag or digest moves the repository as a whole.
        name.strip_prefix(prefix).unwrap_or_default().to_owned()
    };
    let whole = format!("{location}{rest}");
    let (domain, path) = whole.split_once('/')?;
    (!domain.is_empty()).then(|| Location {
        domain: domain.to_ascii_lowercase(),
        path: path.to_owned(),
        insecure,
        realms: realms.to_vec(),
    })
}

/// What a file, and after a zero one beside it, make of some names, for the fuzz target.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(text: &str) {
    let scratch = crate::fuzz::Scratch::new();
    let (first, second) = text.split_once('\0').unwrap_or((text, ""));
    let files = [
        ("registries.conf", first),
        ("registries.conf.d/b.conf", second),
    ];
    let written = files.map(|(name, text)| {
        scratch
            .write(&format!("hull/{name}"), text.as_bytes())
            .is_ok()
    });
    let variable = |name: &str| (name == "XDG_CONFIG_HOME").then(|| scratch.0.clone().into());
    let (true, Ok(registries)) = (
        written == [true; 2],
        Registries::from_environment(&variable),
    ) else {
        return;
    };
    let pinned = format!("a.io/b@{}", crate::Digest::of(b""));
    for name in ["a.io/b:1", "x.a.io:5000/b/c", "b", &pinned] {
        let Ok(reference) = name.parse() else {
            continue;
        };
        if let Ok(Some(location)) = registries.primary(&reference) {
            assert!(!location.domain.is_empty(), "{name}: {location:?}");
        }
    }
}

fn read(path: &Path) -> Result<Vec<Table>, RegistriesError> {
    let attempt = || {
        let mut text = String::new();
        let file = fs::File::open(path)?;
        io::Read::read_to_string(&mut io::Read::take(file, FILE_MAX), &mut text)?;
        Ok(text)
    };
    let text = attempt().map_err(|source| RegistriesError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|reason| RegistriesError::Form {
        path: path.to_owned(),
        reason,
    })
}

/// The tables of one file, or what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<Table>, String> {
    let document: Document = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut tables = document.registries;
    for table in &mut tables {
        if table.prefix.is_empty() {
            table.prefix.clone_from(&table.location);
        }
        if table.prefix.is_empty() {
            return Err("A registry has neither prefix nor location".to_owned());
        }
    }
    Ok(tables)
}
