//! CNI networks, as the specification (1.0) says: the list of plugins of that name is read, and each plugin is run with what the ones
//! before it gave. Refuses to know what plugins do, and machines.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Card;
use crate::child;
use crate::publish::{self, Publish};

mod answer;

pub(super) use answer::Dns;
use answer::{Answer, complaint};

/// Where lists are, and where plugins, unless the environment says otherwise: CNI's own place, and where distributions put them.
const LISTS: &str = "/etc/cni/net.d";
const PLUGINS: &str = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni:/usr/local/lib/cni";
/// Versions of the specification whose results have one form.
const VERSIONS: [&str; 6] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "1.1.1"];
/// What the container's device is called.
pub(super) const DEVICE: &str = "eth0";
/// A plugin that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// Bytes of the longest list and answer that are read.
const LONGEST: u64 = 1 << 20;

/// Why a container has no place in a CNI network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CniError {
    #[error("There is no CNI network {name:?} in {}", .directory.display())]
    Unknown { name: String, directory: PathBuf },
    #[error("Reading {} failed", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("The CNI network {0:?} is of version {1}, of which nothing is known here")]
    Version(String, String),
    #[error("The CNI network {0:?} has no plugins")]
    Empty(String),
    #[error(
        "No plugin of the CNI network {network:?} has the capability {capability}, which {flag} needs"
    )]
    Capability {
        network: String,
        capability: &'static str,
        flag: &'static str,
    },
    #[error("There is no CNI plugin {0:?} in {1}")]
    NoPlugin(String, String),
    #[error("Running the CNI plugin {0} failed")]
    Run(String, #[source] io::Error),
    #[error("The CNI plugin {0} took longer than {limit} seconds", limit = LIMIT.as_secs())]
    Slow(String),
    #[error("The CNI plugin {plugin} says: {text}")]
    Plugin { plugin: String, text: String },
    #[error("What the CNI plugins say is no result")]
    Result(#[source] serde_json::Error),
    #[error("The CNI plugins did not give the address {0}, which was asked for")]
    Address(IpAddr),
}

/// What a container asks of its network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wishes {
    pub(crate) addresses: Vec<IpAddr>,
    /// As it is typed.
    pub(crate) mac: Option<String>,
}

/// A container's place in a network: all that it takes to give it up again, whoever does that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    container: String,
    network: String,
    version: String,
    plugins: Vec<Map<String, Value>>,
    /// Where plugins are, directories with colons between them.
    path: String,
    /// What each may be told beside its configuration, by the capability that it must have for that.
    runtime: Map<String, Value>,
    arguments: String,
    /// What the plugins gave.
    result: Option<Value>,
}

/// A variable of the environment, or what is so without it.
fn variable(name: &str, otherwise: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => otherwise.to_owned(),
    }
}

/// The network of this name: its version and its plugins' configurations.
fn find(name: &str, directory: &Path) -> Result<(String, Vec<Map<String, Value>>), CniError> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let path = directory.to_owned();
            return Err(CniError::Read {
                path,
                source: error,
            });
        }
        entries => entries.into_iter().flatten().flatten(),
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let is_list = |path: &&PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("conflist" | "conf" | "json"))
    };
    for path in paths.iter().filter(is_list) {
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
        read.map_err(|source| CniError::Read {
            path: path.clone(),
            source,
        })?;
        // Others' lists may be broken; nobody asked for them.
        let Ok(Value::Object(mut list)) = serde_json::from_slice(&text) else {
            continue;
        };
        if list.get("name").and_then(Value::as_str) != Some(name) {
            continue;
        }
        let version = list
            .get("cniVersion")
            .and_then(Value::as_str)
            .unwrap_or("0.1.0")
            .to_owned();
        if !VERSIONS.contains(&version.as_str()) {
            return Err(CniError::Version(name.to_owned(), version));
        }
        let plugins = match list.remove("plugins") {
            Some(Value::Array(all)) => all
                .into_iter()
                .filter_map(|one| match one {
                    Value::Object(plugin) => Some(plugin),
                    _ => None,
                })
                .collect(),
            // A file with a single plugin's configuration.
            None if list.contains_key("type") => vec![list],
            _ => Vec::new(),
        };
        return match plugins.is_empty() {
            true => Err(CniError::Empty(name.to_owned())),
            false => Ok((version, plugins)),
        };
    }
    Err(CniError::Unknown {
        name: name.to_owned(),
        directory: directory.to_owned(),
    })
}

impl Place {
    /// The place of a container in a network that there is, with all that it asks for; no plugin has run yet.
    pub(super) fn new(
        container: &str,
        network: &str,
        wishes: &Wishes,
        ports: &[Publish],
    ) -> Result<Self, CniError> {
        let directory = PathBuf::from(variable("NETCONFPATH", LISTS));
        let found = find(network, &directory)?;
        let path = variable("CNI_PATH", PLUGINS);
        Self::of(container, network, found, path, wishes, ports)
    }

    fn of(
        container: &str,
        network: &str,
        (version, plugins): (String, Vec<Map<String, Value>>),
        path: String,
        wishes: &Wishes,
        ports: &[Publish],
    ) -> Result<Self, CniError> {
        let has = |capability: &str| {
            let mut all = plugins
                .iter()
                .filter_map(|plugin| plugin.get("capabilities"));
            all.any(|own| own.get(capability) == Some(&Value::Bool(true)))
        };
        let mut runtime = Map::new();
        let mappings: Vec<Value> = ports.iter().map(mapping).collect();
        let wanted = [
            (!ports.is_empty(), "portMappings", "-p", json!(mappings)),
            (
                wishes.mac.is_some(),
                "mac",
                "--mac-address",
                json!(wishes.mac),
            ),
        ];
        for (wanted, capability, flag, value) in wanted {
            if wanted && !has(capability) {
                let network = network.to_owned();
                return Err(CniError::Capability {
                    network,
                    capability,
                    flag,
                });
            }
            if wanted {
                runtime.insert(capability.to_owned(), value);
            }
        }
        // Of the two ways to ask for an address a plugin knows either or both.
        let mut arguments = "IgnoreUnknown=true".to_owned();
        if let [first, ..] = wishes.addresses.as_slice() {
            runtime.insert("ips".to_owned(), json!(wishes.addresses));
            arguments.push_str(&format!(";IP={first}"));
        }
        Ok(Self {
            container: container.to_owned(),
            network: network.to_owned(),
            version,
            plugins,
            path,
            runtime,
            arguments,
            result: None,
        })
    }

    /// Has each plugin add the container, whose network namespace this path leads to.
    pub(super) fn add(
        &mut self,
        namespace: &str,
        wishes: &Wishes,
    ) -> Result<(Card, Dns), CniError> {
        for plugin in &self.plugins {
            let answer = self.call("ADD", plugin, Some(namespace))?;
            self.result = Some(serde_json::from_slice(&answer).map_err(CniError::Result)?);
        }
        let answer: Answer = match &self.result {
            Some(result) => Answer::deserialize(result).map_err(CniError::Result)?,
            None => Answer::default(),
        };
        let (card, dns) = answer.card()?;
        let given = |wanted: &IpAddr| card.addresses.iter().any(|own| own.address == *wanted);
        match wishes.addresses.iter().find(|wanted| !given(wanted)) {
            Some(missing) => Err(CniError::Address(*missing)),
            None => Ok((card, dns)),
        }
    }

    /// Has each plugin, the last one first, forget the container; its namespace, if there still is one, is where this path leads to.
    /// All are asked, whatever one says.
    pub(super) fn delete(&self, namespace: Option<&str>) -> Result<(), CniError> {
        let all = self.plugins.iter().rev();
        let done: Vec<_> = all
            .map(|plugin| self.call("DEL", plugin, namespace))
            .collect();
        done.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
    }

    /// The configuration with which a plugin is run.
    fn configuration(&self, plugin: &Map<String, Value>) -> Value {
        let mut own = plugin.clone();
        let capabilities = own.remove("capabilities").unwrap_or_default();
        let told = self.runtime.iter().filter(|(capability, _)| {
            capabilities.get(capability.as_str()) == Some(&Value::Bool(true))
        });
        let told: Map<String, Value> = told
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !told.is_empty() {
            own.insert("runtimeConfig".to_owned(), Value::Object(told));
        }
        own.insert("name".to_owned(), json!(self.network));
        own.insert("cniVersion".to_owned(), json!(self.version));
        if let Some(result) = &self.result {
            own.insert("prevResult".to_owned(), result.clone());
        }
        Value::Object(own)
    }

    /// Runs a plugin; what it answers.
    fn call(
        &self,
        command: &str,
        plugin: &Map<String, Value>,
        namespace: Option<&str>,
    ) -> Result<Vec<u8>, CniError> {
        let kind = plugin
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let program = self.program(kind)?;
        let failed = |error| CniError::Run(kind.to_owned(), error);
        let text = self.configuration(plugin).to_string();
        // Files, so that nobody waits for a pipe that is full.
        let (mut input, mut output) = (memory().map_err(failed)?, memory().map_err(failed)?);
        input
            .write_all(text.as_bytes())
            .and_then(|()| input.rewind())
            .map_err(failed)?;
        let mut child = Command::new(program)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &self.container)
            .env("CNI_NETNS", namespace.unwrap_or_default())
            .env("CNI_IFNAME", DEVICE)
            .env("CNI_ARGS", &self.arguments)
            .env("CNI_PATH", &self.path)
            .stdin(input)
            .stdout(output.try_clone().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        if !child::ends_within(Pid::from_child(&child), LIMIT).map_err(failed)? {
            let _ = child.kill();
            let _ = child.wait();
            return Err(CniError::Slow(kind.to_owned()));
        }
        let status = child.wait().map_err(failed)?;
        let mut answer = Vec::new();
        output.rewind().map_err(failed)?;
        output
            .take(LONGEST)
            .read_to_end(&mut answer)
            .map_err(failed)?;
        match status.success() {
            true => Ok(answer),
            false => Err(CniError::Plugin {
                plugin: kind.to_owned(),
                text: complaint(&answer, status),
            }),
        }
    }

    fn program(&self, kind: &str) -> Result<PathBuf, CniError> {
        let missing = || CniError::NoPlugin(kind.to_owned(), self.path.clone());
        if kind.is_empty() || kind.contains('/') {
            return Err(missing());
        }
        let mut all = self
            .path
            .split(':')
            .map(|directory| Path::new(directory).join(kind));
        let runs = |path: &PathBuf| {
            let data = path.metadata();
            data.is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        };
        all.find(runs).ok_or_else(missing)
    }
}

/// A port as the capability `portMappings` has it.
fn mapping(port: &Publish) -> Value {
    let mut mapping = json!({
        "hostPort": port.host,
        "containerPort": port.guest,
        "protocol": publish::name(port.transport),
    });
    if let (Some(map), Some(address)) = (mapping.as_object_mut(), port.address) {
        map.insert("hostIP".to_owned(), json!(address));
    }
    mapping
}

fn memory() -> io::Result<File> {
    Ok(memfd_create("cni", MemfdFlags::CLOEXEC)?.into())
}

#[cfg(test)]
mod tests;
