//! `hull inspect`: everything that is known of containers, or of images, in docker's documents.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Mac, ask, image};
use crate::container::{Container, ContainerError, Restart, State, Status, Volume};
use crate::failure::Failure;
use crate::listing::{self, Format};
use crate::uplink::{Card, Uplink};
use crate::{human, plan, publish, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to print: json, or a template such as '{{.State.Status}}'
    #[arg(short, long, default_value = "json")]
    format: Format,
    /// Containers or images: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let containers = ask::containers(root.clone())?;
    let store = store::open(root)?;
    let mut code = ExitCode::SUCCESS;
    let mut found = Vec::new();
    for name in &args.names {
        let document = match containers.find(name) {
            Ok(container) => Ok(describe(&container)?),
            Err(ContainerError::Unknown(_)) => image::describe(&store, name).map_err(|_| {
                let text = format!("There is no container and no image {name:?}");
                Failure::new(text).code(1)
            }),
            Err(error) => Err(Failure::new(error).code(1)),
        };
        match document {
            Ok(document) => found.push(document),
            Err(failure) => code = failure.report(),
        }
    }
    listing::documents(&args.format, &found)?;
    Ok(code)
}

/// A moment as docker writes it; the year 1 is never.
fn moment(nanoseconds: u64) -> String {
    match nanoseconds {
        0 => "0001-01-01T00:00:00Z".to_owned(),
        some => human::rfc3339(some),
    }
}

/// docker's document about a container, with what hull knows.
fn describe(container: &Container) -> Result<Value, Failure> {
    let (config, state, task) = (&container.config, container.state(), container.task()?);
    let process = &task.process;
    let text = |bytes: &protocol::Bytes| String::from_utf8_lossy(bytes).into_owned();
    let (program, arguments) = match config.command.split_first() {
        Some((program, arguments)) => (program.as_str(), arguments),
        None => ("", &[][..]),
    };
    let (restart, retries) = match config.restart {
        Restart::No => ("no", 0),
        Restart::OnFailure(most) => ("on-failure", most.unwrap_or(0)),
        Restart::Always => ("always", 0),
        Restart::UnlessStopped => ("unless-stopped", 0),
    };
    let card = config.machine.network.as_ref();
    let membership = config.network.as_ref();
    let led = config.uplink.as_ref().map(Uplink::name);
    let network = match (membership, card) {
        (Some(membership), _) => membership.name.as_str(),
        (None, Some(_)) => led.as_deref().unwrap_or("default"),
        (None, None) => "none",
    };
    let own = addresses(&config.uplink, &state, card);
    let first = |v4: bool| own.addresses.iter().find(|own| own.address.is_ipv4() == v4);
    let address = |v4| first(v4).map_or(String::new(), |own| own.address.to_string());
    let bits = |v4| first(v4).map_or(0, |own| own.bits);
    let gateway = |v4: bool| {
        let mut routers = own
            .ways
            .iter()
            .filter(|way| way.to.bits == 0)
            .filter_map(|way| way.by);
        let router = routers.find(|router| router.is_ipv4() == v4);
        router.map_or(String::new(), |router| router.to_string())
    };
    let mut ports = serde_json::Map::new();
    for bound in state.bound() {
        let key = format!("{}/{}", bound.guest, publish::name(bound.transport));
        let list = ports.entry(key).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!({
                "HostIp": bound.host.ip().to_string(),
                "HostPort": bound.host.port().to_string(),
            }));
        }
    }
    let health = state.health.map(
        |health| json!({ "Status": health.verdict.to_string(), "FailingStreak": health.streak }),
    );
    let runs = !matches!(state.status, Status::Created | Status::Exited);
    Ok(json!({
        "Id": config.id,
        "Created": human::rfc3339(config.created),
        "Path": program,
        "Args": arguments,
        "State": {
            "Status": state.status.to_string(),
            "Running": runs,
            "Paused": state.status == Status::Paused,
            "Restarting": state.status == Status::Restarting,
            "OOMKilled": state.oom_killed,
            "Dead": false,
            "Pid": state.vmm,
            "SupervisorPid": state.pid,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": moment(state.started),
            "FinishedAt": moment(state.finished),
            "Health": health,
        },
        "Image": config.image_id,
        "Rootfs": config.rootfs.as_ref().map_or("".into(), |root| root.path.to_string_lossy()),
        "Name": format!("/{}", config.name),
        "RestartCount": state.restarts,
        "Mounts": config.volumes.iter().map(mount).collect::<Vec<_>>(),
        "LogPath": container.log_path(),
        "HostConfig": {
            "AutoRemove": config.remove,
            "LogConfig": { "Type": match config.log {
                crate::container::LogDriver::JsonFile => "json-file",
                crate::container::LogDriver::None => "none",
            }, "Config": {
                "max-size": config.log_limits.size.to_string(),
                "max-file": config.log_limits.files.to_string(),
            } },
            "RestartPolicy": { "Name": restart, "MaximumRetryCount": retries },
            "Memory": config.machine.memory.bytes(),
            "NanoCpus": u64::from(config.machine.cpus.count()) * 1_000_000_000,
            "ShmSize": task.container.shm_size.unwrap_or(64 << 20),
            "StorageOpt": { "size": config.storage.to_string() },
            "ReadonlyRootfs": task.container.read_only,
            "NetworkMode": network,
        },
        "NetworkSettings": match card {
            None => json!({ "Networks": { "none": {} }, "Ports": {} }),
            Some(card) => json!({
                "IPAddress": address(true),
                "IPPrefixLen": bits(true),
                "Gateway": gateway(true),
                "GlobalIPv6Address": address(false),
                "GlobalIPv6PrefixLen": bits(false),
                "IPv6Gateway": gateway(false),
                "MacAddress": Mac(card.mac).to_string(),
                "Egress": card.egress.as_ref().map(|rules| {
                    rules.iter().map(ToString::to_string).collect::<Vec<_>>()
                }),
                "Rate": { "In": card.rates.inward, "Out": card.rates.outward },
                "Ports": ports,
                "Networks": { network: {
                    "IPAddress": address(true),
                    "Aliases": membership.map_or(&[][..], |membership| &membership.aliases),
                } },
            }),
        },
        "Config": {
            "Hostname": text(&task.container.hostname),
            "User": text(&process.user),
            "Tty": config.tty,
            "OpenStdin": config.interactive,
            "Env": process.env.iter().map(text).collect::<Vec<_>>(),
            "Cmd": config.command,
            "Image": config.image,
            "WorkingDir": text(&process.cwd),
            "Labels": config.labels,
            "StopSignal": config.stop_signal.to_string(),
            "StopTimeout": config.stop_timeout,
        },
    }))
}

/// The addresses of a container's card.
fn addresses(uplink: &Option<Uplink>, state: &State, settings: Option<&network::Settings>) -> Card {
    match (uplink, settings) {
        (Some(Uplink::Tap { card, .. }), _) => card.clone(),
        (Some(Uplink::Cni { .. }), _) => state.card.clone().unwrap_or_default(),
        (None, Some(settings)) => plan::card(settings),
        (None, None) => Card::default(),
    }
}

/// docker's words about a volume.
fn mount(volume: &Volume) -> Value {
    json!({
        "Type": if volume.name.is_some() { "volume" } else { "bind" },
        "Name": volume.name.as_deref().unwrap_or_default(),
        "Source": volume.path,
        "Destination": volume.target,
        "RW": !volume.read_only,
    })
}
