//! What the flags about the network mean together.

use std::net::IpAddr;

use ::network::{GATEWAY, GUEST, MAC, MTU, PREFIX, Rates, Settings, address_in};
use protocol::Network;

use super::{PlanError, is_hostname};
use crate::cli::{Connection, Egress, Exposed, NetworkFlags, RunArgs};
use crate::publish::Publish;
use crate::uplink::{Card, Cidr, Uplink, Way, Wishes};

/// The network card and what it leads to, if there is one.
pub(super) fn settings(args: &RunArgs) -> Result<Option<Settings>, PlanError> {
    let flags = &args.network;
    if flags.network.own().is_none() && !flags.network_alias.is_empty() {
        return Err(PlanError::NoNeighbours);
    }
    if let Some(alias) = flags.network_alias.iter().find(|alias| !is_hostname(alias)) {
        return Err(PlanError::Alias(alias.clone()));
    }
    let host = args.inside.add_host.iter().any(|line| line.gateway);
    if flags.network == Connection::None {
        let wants = [
            ("-p", !flags.publish.is_empty()),
            ("-P", flags.publish_all),
            ("--ip", flags.ip.is_some()),
            ("--ip6", flags.ip6.is_some()),
            ("--gateway", !flags.gateway.is_empty()),
            ("--mac-address", flags.mac_address.is_some()),
            ("--egress", !flags.egress.is_empty()),
            ("--net-rate", flags.net_rate.is_some()),
            ("host-gateway", host),
        ];
        return match wants.iter().find(|(_, wanted)| *wanted) {
            Some((what, _)) => Err(PlanError::NoNetwork(what)),
            None => Ok(None),
        };
    }
    let mac = flags.mac_address.map_or(MAC, |mac| mac.0);
    if let Connection::Tap(_) | Connection::Cni(_) = flags.network {
        let is_tap = matches!(flags.network, Connection::Tap(_));
        let mut ports = flags.publish.iter().flat_map(|published| &published.0);
        let wants = [
            ("-p", is_tap && !flags.publish.is_empty()),
            (
                "-p without a port of the host's",
                ports.any(|port| port.host == 0),
            ),
            ("--gateway", !is_tap && !flags.gateway.is_empty()),
            ("-P", flags.publish_all),
            ("--egress", !flags.egress.is_empty()),
            ("--net-rate", flags.net_rate.is_some()),
            ("host-gateway", host),
        ];
        return match wants.iter().find(|(_, wanted)| *wanted) {
            Some((flag, _)) => Err(PlanError::NotOnDevice {
                flag,
                network: flags.network.to_string(),
            }),
            None => Ok(Some(Settings {
                mac,
                ..Settings::default()
            })),
        };
    }
    let wants = [
        ("--ip6", flags.ip6.is_some()),
        ("--gateway", !flags.gateway.is_empty()),
        (
            "--ip with a length",
            flags.ip.is_some_and(|ip| ip.bits.is_some()),
        ),
    ];
    if let Some((flag, _)) = wants.iter().find(|(_, wanted)| *wanted) {
        return Err(PlanError::OnDevice(flag));
    }
    let address = flags.ip.map_or(GUEST.0, |ip| ip.address);
    let [a, b, c, last] = address.octets();
    let [own_a, own_b, own_c, gateway] = GATEWAY.0.octets();
    if [a, b, c] != [own_a, own_b, own_c] || last <= gateway || last == 255 {
        return Err(PlanError::Ip(address));
    }
    let rules = flags.egress.iter().filter_map(|value| match value {
        Egress::Deny => None,
        Egress::Allow(rule) => Some(rule.clone()),
    });
    Ok(Some(Settings {
        mac,
        address,
        address6: GUEST.1,
        host,
        egress: (!flags.egress.is_empty()).then(|| rules.collect()),
        resolvers: args.inside.dns.clone(),
        neighbours: flags.network.own().is_some(),
        rates: flags.net_rate.map_or(Rates::default(), |rate| rate.0),
    }))
}

/// What guest init is to do with the card of a network of hull's.
pub(super) fn setup(settings: &Settings) -> Network {
    card(settings).network(settings.mac, MTU.into())
}

/// The addresses of such a card.
pub(crate) fn card(settings: &Settings) -> Card {
    let own = |address, bits| Cidr { address, bits };
    let [_, _, _, subnet, ..] = settings.address6.segments();
    let gateway6 = address_in(subnet, GATEWAY.0);
    Card {
        addresses: vec![
            own(settings.address.into(), PREFIX.0),
            own(settings.address6.into(), PREFIX.1),
        ],
        ways: vec![Way::out(GATEWAY.0.into()), Way::out(gateway6.into())],
    }
}

/// The device of the host's that the network card leads to, if it leads to one.
pub(crate) fn uplink(flags: &NetworkFlags, own_servers: bool) -> Result<Option<Uplink>, PlanError> {
    let device = match &flags.network {
        Connection::Tap(device) => device,
        Connection::Cni(network) => return Ok(Some(cni(network, flags, own_servers))),
        Connection::Default | Connection::None | Connection::Own(_) => return Ok(None),
    };
    let given = [
        flags.ip.map(|ip| (ip.cidr(), IpAddr::from(ip.address))),
        flags.ip6.map(|ip| (ip.cidr(), IpAddr::from(ip.address))),
    ];
    let given = given.into_iter().flatten();
    let addresses = given.map(
        |(cidr, address)| match cidr.ok_or(PlanError::Bits(address))? {
            cidr if cidr.is_usable() => Ok(cidr),
            cidr => Err(PlanError::Unusable(cidr)),
        },
    );
    let addresses: Vec<Cidr> = addresses.collect::<Result<_, _>>()?;
    for (number, gateway) in flags.gateway.iter().enumerate() {
        let kind = |other: &&IpAddr| other.is_ipv4() == gateway.is_ipv4();
        if let Some(other) = flags.gateway.iter().take(number).find(kind) {
            return Err(PlanError::Gateways(*other, *gateway));
        }
        if !addresses.iter().any(|own| own.has(*gateway)) {
            return Err(PlanError::Gateway(*gateway));
        }
    }
    Ok(Some(Uplink::Tap {
        device: device.clone(),
        card: Card {
            addresses,
            ways: flags.gateway.iter().copied().map(Way::out).collect(),
        },
    }))
}

/// A place in a CNI network; the container may have name servers of its own.
fn cni(network: &str, flags: &NetworkFlags, own_servers: bool) -> Uplink {
    let v4 = flags.ip.map(|ip| IpAddr::from(ip.address));
    let v6 = flags.ip6.map(|ip| IpAddr::from(ip.address));
    Uplink::Cni {
        network: network.to_owned(),
        wishes: Wishes {
            addresses: v4.into_iter().chain(v6).collect(),
            mac: flags.mac_address.map(|mac| mac.to_string()),
        },
        resolves: !own_servers,
    }
}

/// The ports to publish; `exposed` are those that the image names.
pub(crate) fn ports<'a>(
    flags: &NetworkFlags,
    exposed: impl Iterator<Item = &'a String>,
) -> Result<Vec<Publish>, PlanError> {
    let mut ports: Vec<Publish> = flags
        .publish
        .iter()
        .flat_map(|published| published.0.iter().copied())
        .collect();
    if flags.publish_all {
        // An image may name anything; what is no port is not published.
        let named = exposed.filter_map(|text| text.parse::<Exposed>().ok());
        for Exposed(guest, transport) in flags.expose.iter().copied().chain(named) {
            if !ports
                .iter()
                .any(|port| (port.guest, port.transport) == (guest, transport))
            {
                ports.push(Publish {
                    address: None,
                    host: 0,
                    guest,
                    transport,
                });
            }
        }
    }
    match ports.len() > ::network::MOST_PORTS / 2 {
        true => Err(PlanError::Ports(ports.len())),
        false => Ok(ports),
    }
}
