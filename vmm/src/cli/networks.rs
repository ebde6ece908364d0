//! `hull network …`: networks in which containers see each other.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::names::{self, InspectArgs, LsArgs, RmArgs};
use super::{Mac, ask};
use crate::container::Containers;
use crate::failure::Failure;
use crate::listing::Column;
use crate::networks::{self, Named, NetworkError, Networks};
use crate::{human, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a network
    Create(CreateArgs),
    /// List the networks
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show everything that is known of networks
    Inspect(InspectArgs),
    /// Remove networks that no container is in
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove all networks that no container is in
    Prune(PruneArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Call the network by a label; without a value, an empty one
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Its name
    name: String,
}

#[derive(Debug, clap::Args)]
struct PruneArgs {
    /// Accepted for docker's sake: nothing is asked
    #[arg(short, long)]
    force: bool,
}

const COLUMNS: [Column; 3] = [("Name", "NAME"), ("Driver", "DRIVER"), ("Scope", "SCOPE")];

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let directory = store::directory(root.clone())?;
    // The directory is made, with its owner checked.
    image::Store::open(&directory)?;
    let networks = Networks::open(&directory)?;
    match &args.verb {
        Verb::Create(args) => create(args, &networks),
        Verb::Ls(args) => list(args, &networks),
        Verb::Inspect(args) => inspect(args, &networks, &ask::containers(root)?),
        Verb::Rm(args) => Ok(remove(args, &networks, &ask::containers(root)?)),
        Verb::Prune(_) => prune(&networks, &ask::containers(root)?),
    }
}

fn create(args: &CreateArgs, networks: &Networks) -> Result<ExitCode, Failure> {
    networks.create(&args.name, names::labels(&args.label))?;
    println!("{}", args.name);
    Ok(ExitCode::SUCCESS)
}

fn describe(network: &Named) -> Value {
    json!({
        "Created": human::rfc3339(network.about.created),
        "Driver": "hull",
        "Labels": network.about.labels,
        "Name": network.name,
        "Scope": "local",
    })
}

fn list(args: &LsArgs, networks: &Networks) -> Result<ExitCode, Failure> {
    let rows: Vec<_> = networks.list()?.iter().map(describe).collect();
    args.print(&COLUMNS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// The network with its subnet and those who are in it.
fn whole(network: &Named, containers: &Containers) -> Result<Value, NetworkError> {
    let (prefix, prefix6) = ::network::PREFIX;
    let gateway = ::network::GATEWAY.0;
    let [a, b, c, _] = gateway.octets();
    let address6 = |address| ::network::address_in(networks::subnet(&network.name), address);
    let members = networks::members(&network.name, containers)?;
    let members = members.into_iter().filter_map(|member| {
        let card = member.config.machine.network.as_ref()?;
        let about = json!({
            "Name": member.config.name,
            "MacAddress": Mac(card.mac).to_string(),
            "IPv4Address": format!("{}/{prefix}", card.address),
            "IPv6Address": format!("{}/{prefix6}", card.address6),
        });
        Some((member.config.id, about))
    });
    let members: Map<String, Value> = members.collect();
    let mut document = describe(network);
    if let Some(map) = document.as_object_mut() {
        let config = json!([{
            "Subnet": format!("{a}.{b}.{c}.0/{prefix}"),
            "Gateway": gateway.to_string(),
        }, {
            "Subnet": format!("{}/{prefix6}", address6(Ipv4Addr::UNSPECIFIED)),
            "Gateway": address6(gateway).to_string(),
        }]);
        map.insert("IPAM".to_owned(), json!({ "Config": config }));
        map.insert("Containers".to_owned(), Value::Object(members));
    }
    Ok(document)
}

fn inspect(
    args: &InspectArgs,
    networks: &Networks,
    containers: &Containers,
) -> Result<ExitCode, Failure> {
    args.print(|name| {
        let document = networks.get(name).and_then(|one| whole(&one, containers));
        document.map_err(Failure::new)
    })
}

fn remove(args: &RmArgs, networks: &Networks, containers: &Containers) -> ExitCode {
    args.remove(|name| match networks.remove(name, containers) {
        Ok(()) => Ok(true),
        Err(NetworkError::Unknown(_)) if args.force => Ok(false),
        Err(error) => Err(Failure::new(error)),
    })
}

fn prune(networks: &Networks, containers: &Containers) -> Result<ExitCode, Failure> {
    let used = Networks::used(containers)?;
    let all = networks.list()?;
    let names = all.iter().map(|network| network.name.as_str());
    let unused = names.filter(|name| !used.contains(*name));
    Ok(names::each(unused, |name| {
        match networks.remove(name, containers) {
            Ok(()) => Ok(true),
            // Joined or removed meanwhile.
            Err(NetworkError::InUse { .. } | NetworkError::Unknown(_)) => Ok(false),
            Err(error) => Err(Failure::new(error)),
        }
    }))
}
