//! What the flags for the inside of a container mean together, as docker understands them.

use std::fmt::Write as _;
use std::net::IpAddr;

use image::Execution;
use network::{GATEWAY, Settings};
use protocol::{Bytes, Container, Limit, Privileges, Sysctl, Tmpfs};

use super::{PlanError, is_hostname, seccomp};
use crate::cli::{Capabilities, Inside, Mount, Security, Volume};
use crate::config::VmConfig;
use crate::resolving::{self, Resolving};
use crate::uplink::{Card, UNKNOWN, Uplink};

/// The container, as guest init is to furnish it.
pub(super) fn container(
    flags: &Inside,
    volumes: &[Volume],
    machine: &VmConfig,
    uplink: Option<&Uplink>,
    hostname: String,
) -> Result<Container, PlanError> {
    let network = machine.network.as_ref();
    let own = match (uplink, network) {
        (Some(Uplink::Tap { card, .. }), _) => card.addresses.first().map(|own| own.address),
        // What it is to be, it is when it is known.
        (Some(Uplink::Cni { .. }), _) => None,
        (None, network) => network.map(|card| card.address.into()),
    };
    let domain = flags.domainname.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = domain
        && !is_hostname(name)
    {
        return Err(PlanError::Domainname(name.to_owned()));
    }
    let domainname = domain.map(|name| Sysctl {
        name: "kernel.domainname".into(),
        value: name.into(),
    });
    let given = flags.sysctl.iter().map(|parameter| parameter.0.clone());
    Ok(Container {
        hosts: Some(hosts(flags, own, &hostname, domain).into()),
        resolv_conf: Some(resolv_conf(flags, network, uplink.is_some())?.into()),
        hostname: hostname.into(),
        sysctls: domainname.into_iter().chain(given).collect(),
        // As docker: no size is the default one.
        shm_size: flags.shm_size.map(|size| size.0).filter(|bytes| *bytes > 0),
        tmpfs: tmpfs(flags, volumes)?,
        volumes: numbered(volumes, machine.root.shares()),
        confined: !flags.privileged,
        read_only: flags.read_only,
        pids: flags.pids_limit.and_then(pids),
        network: network.map(|settings| match uplink {
            Some(Uplink::Tap { card, .. }) => card.network(settings.mac, 0),
            Some(Uplink::Cni { .. }) => Card::default().network(settings.mac, 0),
            None => super::network::setup(settings),
        }),
    })
}

/// A number of processes as it is typed; nothing for no limit.
pub(crate) fn pids(typed: i64) -> Option<u64> {
    u64::try_from(typed).ok().filter(|most| *most > 0)
}

/// What the container's processes may do at most. As docker, but for one thing: what is dropped is dropped even from
/// a privileged container.
pub(super) fn privileges(flags: &Inside) -> Privileges {
    let bits = |list: &[Capabilities]| list.iter().fold(0, |bits, one| bits | one.0);
    let (added, dropped) = (bits(&flags.cap_add), bits(&flags.cap_drop));
    let capabilities = if flags.privileged || added == u64::MAX {
        Privileges::FULL.capabilities & !dropped
    } else {
        // Whoever drops everything and adds some has those.
        Privileges::DOCKER.capabilities & !dropped | added
    };
    let no_new = flags
        .security_opt
        .iter()
        .rev()
        .find_map(|option| match option {
            Security::NoNewPrivileges(on) => Some(*on),
            Security::Seccomp(_) | Security::AlwaysSo => None,
        });
    Privileges {
        capabilities,
        no_new: no_new.unwrap_or_default(),
    }
}

/// The filters of the last seccomp profile that was named.
pub(super) fn filters(flags: &Inside, privileges: Privileges) -> Result<Vec<Bytes>, PlanError> {
    let last = flags
        .security_opt
        .iter()
        .rev()
        .find_map(|option| match option {
            Security::Seccomp(profile) => Some(profile.as_deref()),
            Security::NoNewPrivileges(_) | Security::AlwaysSo => None,
        });
    match last.flatten() {
        Some(file) => seccomp::filters(file, privileges)
            .map_err(|error| PlanError::Seccomp(file.to_owned(), error)),
        None => Ok(Vec::new()),
    }
}

/// Resource limits; of two for one resource the later counts.
pub(super) fn limits(flags: &Inside) -> Vec<Limit> {
    flags.ulimit.iter().map(|limit| limit.0).collect()
}

/// Groups besides the user's.
pub(super) fn groups(flags: &Inside) -> Vec<protocol::Bytes> {
    let groups = flags.group_add.iter();
    groups.map(|group| group.as_str().into()).collect()
}

/// All volumes that were asked for, in the order of their numbers: last those of the image, as docker has it where no flag has
/// something else on their places.
pub(crate) fn volumes(flags: &Inside, image: &Execution) -> Result<Vec<Volume>, PlanError> {
    let mounts = flags.mount.iter().filter_map(|mount| match mount {
        Mount::Volume(volume) => Some(volume),
        Mount::Tmpfs(_) => None,
    });
    let mut all: Vec<_> = flags.volume.iter().chain(mounts).cloned().collect();
    for path in image.volumes.keys() {
        let wanted = Volume::of_image(path).ok_or_else(|| PlanError::Volume(path.clone()))?;
        let target = wanted.target.as_bytes();
        let taken = all.iter().any(|volume| volume.target == wanted.target)
            || all_tmpfs(flags).any(|tmpfs| *tmpfs.path == *target);
        if !taken {
            all.push(wanted);
        }
    }
    Ok(all)
}

fn all_tmpfs(flags: &Inside) -> impl Iterator<Item = &Tmpfs> {
    let mounts = flags.mount.iter().filter_map(|mount| match mount {
        Mount::Tmpfs(tmpfs) => Some(&tmpfs.0),
        Mount::Volume(_) => None,
    });
    flags.tmpfs.iter().map(|tmpfs| &tmpfs.0).chain(mounts)
}

/// With their numbers, of which those before `first` are taken.
fn numbered(volumes: &[Volume], first: u16) -> Vec<protocol::Volume> {
    let number = |(number, volume): (u16, &Volume)| protocol::Volume {
        path: volume.target.as_str().into(),
        number,
        read_only: volume.read_only,
        fill: volume.fill,
    };
    (first..).zip(volumes).map(number).collect()
}

/// In the order in which they can be mounted, none on the place of another or of a volume.
fn tmpfs(flags: &Inside, volumes: &[Volume]) -> Result<Vec<Tmpfs>, PlanError> {
    let mut all: Vec<Tmpfs> = all_tmpfs(flags).cloned().collect();
    all.sort_by(|one, other| one.path.cmp(&other.path));
    let places = all.iter().map(|one| String::from_utf8_lossy(&one.path));
    let volumes = volumes.iter().map(|volume| volume.target.as_str().into());
    let mut places: Vec<_> = places.chain(volumes).collect();
    places.sort_unstable();
    let twice = places.windows(2).find(|pair| match pair {
        [one, other] => one == other,
        _ => false,
    });
    match twice.and_then(<[_]>::first) {
        Some(place) => Err(PlanError::MountedTwice(place.clone().into_owned())),
        None => Ok(all),
    }
}

fn hosts(flags: &Inside, own: Option<IpAddr>, hostname: &str, domain: Option<&str>) -> String {
    let own = own.map_or(UNKNOWN.to_owned(), |address| address.to_string());
    let full = domain.map_or(String::new(), |domain| format!("{hostname}.{domain} "));
    let mut text = format!(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n\
         {own}\t{full}{hostname}\n"
    );
    for host in &flags.add_host {
        let _ = writeln!(text, "{}\t{}", host.address, host.name);
    }
    text
}

/// Domains to search and options, the host's where nothing is said.
fn as_on_host<'a>(
    search: &'a Vec<String>,
    options: &'a Vec<String>,
    host: &'a Resolving,
) -> (&'a Vec<String>, &'a Vec<String>) {
    let or = |said: &'a Vec<String>, host| if said.is_empty() { host } else { said };
    (or(search, &host.search), or(options, &host.options))
}

/// docker's order. A search list of one dot is none. What no flag says is as on the host.
fn resolv_conf(
    flags: &Inside,
    network: Option<&Settings>,
    uplink: bool,
) -> Result<String, PlanError> {
    let mut text = String::new();
    let (mut search, mut options) = (&flags.dns_search, &flags.dns_option);
    let host = network.map(|_| resolving::of_host()).unwrap_or_default();
    match network {
        // Without a network device there is nobody to ask.
        None if flags.dns.is_empty() => text.push_str("# This container has no network.\n"),
        // Whom the host asks elsewhere can be asked from elsewhere.
        Some(_) if flags.dns.is_empty() && uplink => {
            let others = host.servers.iter().filter(|server| !server.is_loopback());
            for server in others {
                let _ = writeln!(text, "nameserver {server}");
            }
            (search, options) = as_on_host(search, options, &host);
        }
        // Where names decide, and where it knows some itself, the gateway hears them.
        Some(card) if flags.dns.is_empty() || card.egress.is_some() || card.neighbours => {
            let _ = writeln!(text, "nameserver {}", GATEWAY.0);
            (search, options) = as_on_host(search, options, &host);
        }
        _ => {
            for server in &flags.dns {
                let _ = writeln!(text, "nameserver {server}");
            }
        }
    }
    for (keyword, what, words) in [
        ("search", "domain to search", search),
        ("options", "resolver option", options),
    ] {
        let bad = |word: &&String| word.is_empty() || word.contains(char::is_whitespace);
        if let Some(text) = words.iter().find(bad).cloned() {
            return Err(PlanError::Word { what, text });
        }
        if !words.is_empty() && *words != ["."] {
            let _ = writeln!(text, "{keyword} {}", words.join(" "));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
