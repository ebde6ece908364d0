//! `hull network …`: networks in which containers see each other.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::{Mac, ask};
use crate::container::Containers;
use crate::failure::Failure;
use crate::listing::{self, Column, Format};
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
struct LsArgs {
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// How to print: table, json, or a template such as '{{.Name}}'
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct InspectArgs {
    /// How to print: json, or a template such as '{{.Created}}'
    #[arg(short, long, default_value = "json")]
    format: Format,
    /// Names of networks
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct RmArgs {
    /// Take it well when there is no such network
    #[arg(short, long)]
    force: bool,
    /// Names of networks
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
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
        Verb::Rm(args) => remove(args, &networks, &ask::containers(root)?),
        Verb::Prune(_) => prune(&networks, &ask::containers(root)?),
    }
}

fn create(args: &CreateArgs, networks: &Networks) -> Result<ExitCode, Failure> {
    let labels = args.label.iter().map(|text| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    });
    let labels: BTreeMap<String, String> = labels.collect();
    networks.create(&args.name, labels)?;
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
    let all = networks.list()?;
    let mut out = std::io::stdout().lock();
    if args.quiet {
        all.iter()
            .try_for_each(|network| writeln!(out, "{}", network.name))?;
    } else {
        let rows: Vec<_> = all.iter().map(describe).collect();
        listing::print(&mut out, &args.format, &COLUMNS, &rows)?;
    }
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
    let mut code = ExitCode::SUCCESS;
    let mut found = Vec::new();
    for name in &args.names {
        match networks.get(name).and_then(|one| whole(&one, containers)) {
            Ok(document) => found.push(document),
            Err(error) => code = Failure::new(error).code(1).report(),
        }
    }
    listing::documents(&args.format, &found)?;
    Ok(code)
}

fn remove(
    args: &RmArgs,
    networks: &Networks,
    containers: &Containers,
) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        match networks.remove(name, containers) {
            Ok(()) => println!("{name}"),
            Err(NetworkError::Unknown(_)) if args.force => {}
            Err(error) => code = Failure::new(error).code(1).report(),
        }
    }
    Ok(code)
}

fn prune(networks: &Networks, containers: &Containers) -> Result<ExitCode, Failure> {
    let used = Networks::used(containers)?;
    let mut code = ExitCode::SUCCESS;
    for network in networks.list()? {
        if used.contains(&network.name) {
            continue;
        }
        match networks.remove(&network.name, containers) {
            Ok(()) => println!("{}", network.name),
            // Joined or removed meanwhile.
            Err(NetworkError::InUse { .. } | NetworkError::Unknown(_)) => {}
            Err(error) => code = Failure::new(error).code(1).report(),
        }
    }
    Ok(code)
}
