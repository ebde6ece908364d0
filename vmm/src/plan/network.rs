//! What the flags about the network mean together.

use ::network::{GATEWAY, GUEST, MAC, MTU, PREFIX, Rates, Settings};
use protocol::{Address, Bytes, Network};

use super::{PlanError, is_hostname};
use crate::cli::{Connection, Egress, Exposed, NetworkFlags, RunArgs};
use crate::publish::Publish;

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
    let address = flags.ip.unwrap_or(GUEST.0);
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
        mac: flags.mac_address.map_or(MAC, |mac| mac.0),
        address,
        host,
        egress: (!flags.egress.is_empty()).then(|| rules.collect()),
        resolvers: args.inside.dns.clone(),
        neighbours: flags.network.own().is_some(),
        rates: flags.net_rate.map_or(Rates::default(), |rate| rate.0),
    }))
}

/// What guest init is to do with the card.
pub(super) fn card(settings: &Settings) -> Network {
    let v4 = Address {
        address: Bytes(settings.address.octets().to_vec()),
        prefix: PREFIX.0,
        gateway: Bytes(GATEWAY.0.octets().to_vec()),
    };
    let v6 = Address {
        address: Bytes(GUEST.1.octets().to_vec()),
        prefix: PREFIX.1,
        gateway: Bytes(GATEWAY.1.octets().to_vec()),
    };
    Network {
        mtu: MTU.into(),
        addresses: vec![v4, v6],
        mac: Bytes(settings.mac.to_vec()),
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
