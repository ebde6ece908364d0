//! What the administrator lets whom run: `/etc/hull/policy.toml`. A guard rail for
//! those who use this hull, not a wall: whoever may open `/dev/kvm` can bring a
//! launcher of their own. Knows images by name and digest only.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use image::Digest;
use nix::unistd::{Gid, Group, User};
use serde::Deserialize;

use crate::cli::{Size, SizeError};
use crate::config::VmConfig;
use crate::publish::{self, Publish};

const FILE: &str = "/etc/hull/policy.toml";
/// A policy is written by hand.
const LARGEST: u64 = 1 << 20;

/// Why a run is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("Cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{} must belong to root and be writable by nobody else", .0.display())]
    Loose(PathBuf),
    #[error("{} is larger than a policy can be", .0.display())]
    Large(PathBuf),
    #[error("{} is not a policy", .0.display())]
    Syntax(PathBuf, #[source] toml::de::Error),
    #[error("Rule {rule:?} of {FILE}: memory {text:?} is {source}")]
    Memory {
        rule: String,
        text: String,
        source: SizeError,
    },
    #[error("Rule {rule:?} of {FILE} names {name:?}, which the system cannot look up")]
    Lookup {
        rule: String,
        name: String,
        #[source]
        source: nix::Error,
    },
    #[error("Rule {rule:?} of {FILE} does not allow the image {image}")]
    Image { rule: String, image: String },
    #[error("Rule {rule:?} of {FILE} allows {most} of memory, not {asked} MiB")]
    TooMuchMemory {
        rule: String,
        most: String,
        asked: u64,
    },
    #[error("Rule {rule:?} of {FILE} allows {most} processors, not {asked}")]
    TooManyCpus { rule: String, most: u8, asked: u8 },
    #[error("Rule {rule:?} of {FILE} does not allow the network {network}")]
    Network { rule: String, network: String },
    #[error("Rule {rule:?} of {FILE} does not allow host-gateway")]
    HostGateway { rule: String },
    #[error("Rule {rule:?} of {FILE} does not allow to publish {port}")]
    Publish { rule: String, port: String },
    #[error("Rule {rule:?} of {FILE}: {text:?} is no port and no range of ports")]
    Port { rule: String, text: String },
    #[error("Rule {rule:?} of {FILE} does not allow {} in a container{how}", .path.display())]
    Volume {
        rule: String,
        path: PathBuf,
        how: &'static str,
    },
}

/// The file. A key that is not here is refused: it would restrict nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    rule: Vec<Rule>,
}

/// One restriction, for some or (when none are named) for all.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// What a refusal calls it.
    name: String,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    /// Prefixes of complete names, and digests. Absent: any image.
    images: Option<Vec<String>>,
    memory: Option<String>,
    cpus: Option<u8>,
    /// Networks: `default`, `none`, and names of users' own. Absent: any.
    networks: Option<Vec<String>>,
    /// Ports of the host and ranges of them that `-p` may take. Absent: any.
    publish: Option<Vec<String>>,
    /// Whether `host-gateway` may lead to the host's own ports. Absent: it may.
    #[serde(rename = "host-gateway")]
    host_gateway: Option<bool>,
    /// Directories of the host that may be seen in containers, with what is beneath. Absent: any. Volumes are always allowed: they
    /// are hull's own.
    volumes: Option<Vec<PathBuf>>,
    /// Those that may be seen but not changed.
    volumes_read_only: Option<Vec<PathBuf>>,
}

/// The rules that hold for who is asking. Each of them must allow a run.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
}

/// Who is asking.
#[derive(Debug)]
struct Caller {
    user: u32,
    groups: Vec<u32>,
}

impl Policy {
    /// The system's policy, as far as it concerns this process's user. Without a file everything is allowed.
    pub(crate) fn of_system() -> Result<Self, PolicyError> {
        let Some(text) = read(Path::new(FILE))? else {
            return Ok(Self::default());
        };
        let mut groups: Vec<u32> = nix::unistd::getgroups()
            .unwrap_or_default()
            .into_iter()
            .map(Gid::as_raw)
            .collect();
        groups.push(Gid::current().as_raw());
        let user = nix::unistd::Uid::current().as_raw();
        Self::parse(&text, &Caller { user, groups })
    }

    fn parse(text: &str, caller: &Caller) -> Result<Self, PolicyError> {
        let document: Document =
            toml::from_str(text).map_err(|error| PolicyError::Syntax(FILE.into(), error))?;
        let mut rules = Vec::new();
        for rule in document.rule {
            if rule.concerns(caller)? {
                rules.push(rule);
            }
        }
        Ok(Self { rules })
    }

    /// Whether the machine may have this shape, and be in this network of the user's own.
    pub(crate) fn permits_shape(
        &self,
        shape: &VmConfig,
        own: Option<&str>,
    ) -> Result<(), PolicyError> {
        for rule in &self.rules {
            if let Some(text) = &rule.memory {
                let most: Size = text.parse().map_err(|source| PolicyError::Memory {
                    rule: rule.name.clone(),
                    text: text.clone(),
                    source,
                })?;
                if shape.memory.bytes() > most.0 {
                    return Err(PolicyError::TooMuchMemory {
                        rule: rule.name.clone(),
                        most: text.clone(),
                        asked: shape.memory.bytes() >> 20,
                    });
                }
            }
            let asked = shape.cpus.count();
            if let Some(most) = rule.cpus.filter(|most| asked > *most) {
                let rule = rule.name.clone();
                return Err(PolicyError::TooManyCpus { rule, most, asked });
            }
            rule.permits_network(shape, own)?;
        }
        Ok(())
    }

    /// Whether these ports may be published.
    pub(crate) fn permits_ports(&self, ports: &[Publish]) -> Result<(), PolicyError> {
        for rule in &self.rules {
            let Some(texts) = &rule.publish else {
                continue;
            };
            let allowed = texts.iter().map(|text| {
                publish::range(text).map_err(|_| PolicyError::Port {
                    rule: rule.name.clone(),
                    text: text.clone(),
                })
            });
            let allowed: Vec<(u16, u16)> = allowed.collect::<Result<_, _>>()?;
            let within = |port: u16| allowed.iter().any(|(a, b)| (*a..=*b).contains(&port));
            if let Some(port) = ports.iter().find(|port| !within(port.host)) {
                return Err(PolicyError::Publish {
                    rule: rule.name.clone(),
                    port: match port.host {
                        0 => "any free port".to_owned(),
                        some => format!("port {some}"),
                    },
                });
            }
        }
        Ok(())
    }

    /// Whether a container may see this directory or file of the host, whose path has no links.
    pub(crate) fn permits_volume(&self, path: &Path, read_only: bool) -> Result<(), PolicyError> {
        let among = |list: &Option<Vec<PathBuf>>| {
            let mut list = list.iter().flatten();
            list.any(|allowed| path.starts_with(allowed))
        };
        for rule in &self.rules {
            let free = rule.volumes.is_none() && rule.volumes_read_only.is_none();
            let reads = among(&rule.volumes_read_only);
            if free || among(&rule.volumes) || reads && read_only {
                continue;
            }
            return Err(PolicyError::Volume {
                rule: rule.name.clone(),
                path: path.to_owned(),
                how: if reads { " unless it is read-only" } else { "" },
            });
        }
        Ok(())
    }

    /// Whether this directory may be a container's root: where images are restricted, it counts as the image `rootfs:` makes of it,
    /// and it is a directory of the host that a container sees.
    pub(crate) fn permits_rootfs(&self, path: &Path, read_only: bool) -> Result<(), PolicyError> {
        self.permits_image(&[format!("rootfs:{}", path.display())], &[])?;
        self.permits_volume(path, read_only)
    }

    /// Whether an image may be fetched from here, written as [`image::trust::Origin`] is: by that, or by a digest that will
    /// only be known then.
    pub(crate) fn permits_fetch(&self, origin: &str) -> Result<(), PolicyError> {
        self.check(origin, |wanted| {
            wanted.starts_with("sha256:") || begins(origin, wanted)
        })
    }

    /// Whether an image may run: because of where it came from, or because its id or its manifest's digest is named. What
    /// it is called now says nothing: `hull tag` calls it anything.
    pub(crate) fn permits_image(
        &self,
        origins: &[String],
        digests: &[&Digest],
    ) -> Result<(), PolicyError> {
        let shown = match origins {
            [] => digests.iter().map(ToString::to_string).collect(),
            origins => origins.to_vec(),
        };
        self.check(&shown.join(", "), |wanted| {
            digests.iter().any(|digest| digest.to_string() == wanted)
                || origins.iter().any(|origin| begins(origin, wanted))
        })
    }

    fn check(&self, image: &str, allowed: impl Fn(&str) -> bool) -> Result<(), PolicyError> {
        let refuses = |rule: &&Rule| {
            let images = rule.images.as_ref();
            images.is_some_and(|images| !images.iter().any(|wanted| allowed(wanted)))
        };
        match self.rules.iter().find(refuses) {
            None => Ok(()),
            Some(rule) => Err(PolicyError::Image {
                rule: rule.name.clone(),
                image: image.to_owned(),
            }),
        }
    }
}

impl Rule {
    fn permits_network(&self, shape: &VmConfig, own: Option<&str>) -> Result<(), PolicyError> {
        let rule = || self.name.clone();
        let usual = shape.network.as_ref().map_or("none", |_| "default");
        let network = own.unwrap_or(usual);
        let allowed = self.networks.as_ref();
        if allowed.is_some_and(|allowed| !allowed.iter().any(|name| name == network)) {
            return Err(PolicyError::Network {
                rule: rule(),
                network: network.to_owned(),
            });
        }
        let host = shape.network.as_ref().is_some_and(|card| card.host);
        if host && self.host_gateway == Some(false) {
            return Err(PolicyError::HostGateway { rule: rule() });
        }
        Ok(())
    }

    fn concerns(&self, caller: &Caller) -> Result<bool, PolicyError> {
        if self.users.is_empty() && self.groups.is_empty() {
            return Ok(true);
        }
        for name in &self.users {
            let known = User::from_name(name).map_err(|error| self.lookup(name, error))?;
            let uid = name.parse().ok().or(known.map(|user| user.uid.as_raw()));
            if uid == Some(caller.user) {
                return Ok(true);
            }
        }
        for name in &self.groups {
            let known = Group::from_name(name).map_err(|error| self.lookup(name, error))?;
            let gid = name.parse().ok().or(known.map(|group| group.gid.as_raw()));
            if gid.is_some_and(|gid| caller.groups.contains(&gid)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn lookup(&self, name: &str, source: nix::Error) -> PolicyError {
        PolicyError::Lookup {
            rule: self.name.clone(),
            name: name.to_owned(),
            source,
        }
    }
}

/// Whether `image` begins with `prefix` and the prefix ends where a part of the name does.
fn begins(image: &str, prefix: &str) -> bool {
    image.strip_prefix(prefix).is_some_and(|rest| {
        rest.is_empty() || prefix.ends_with(['/', ':']) || rest.starts_with(['/', ':', '@'])
    })
}

fn read(path: &Path) -> Result<Option<String>, PolicyError> {
    let failed = |error| PolicyError::Read(path.to_owned(), error);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 || !metadata.is_file() {
        return Err(PolicyError::Loose(path.to_owned()));
    }
    let mut text = String::new();
    file.take(LARGEST + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > LARGEST {
        return Err(PolicyError::Large(path.to_owned()));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests;
