//! Networks as directories, and who has which address in them.

use std::os::unix::net::UnixDatagram;

use protocol::{Process, ProcessId};

use super::*;
use crate::agent::Task;
use crate::container::{Supervision, new_id};

fn task() -> Task {
    Task {
        container: protocol::Container::default(),
        process: Process {
            id: ProcessId(1),
            argv: vec!["true".into()],
            env: Vec::new(),
            cwd: "/".into(),
            user: "".into(),
            groups: Vec::new(),
            stdin: false,
            terminal: None,
            privileges: protocol::Privileges::FULL,
            limits: Vec::new(),
            filters: Vec::new(),
        },
    }
}

struct Home {
    place: tempfile::TempDir,
    networks: Networks,
    containers: Containers,
}

impl Home {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        Self {
            networks: Networks::open(place.path()).unwrap(),
            containers: Containers::open(place.path()).unwrap(),
            place,
        }
    }

    fn address(&self, network: &str, last: Option<u8>) -> Result<Ipv4Addr, NetworkError> {
        let wanted = last.map(|last| Ipv4Addr::new(10, 0, 2, last));
        self.networks.address(network, wanted, &self.containers)
    }

    fn container(&self, name: &str, network: &str) -> (Container, Supervision) {
        let id = new_id().unwrap();
        let mut config = Config {
            name: name.to_owned(),
            network: Some(Membership {
                name: network.to_owned(),
                aliases: vec!["Alias".to_owned()],
            }),
            ..Config::default()
        };
        config.machine.network = Some(network::Settings {
            address: self.address(network, None).unwrap(),
            mac: crate::container::mac(&id),
            ..network::Settings::default()
        });
        config.id = id;
        self.containers.create(config, &task()).unwrap()
    }
}

#[test]
fn networks_are_made_once_and_removed_when_nobody_is_in_them() {
    let home = Home::new();
    let networks = &home.networks;
    networks.create("back", BTreeMap::new()).unwrap();
    let again = networks.create("back", BTreeMap::new());
    assert!(matches!(again, Err(NetworkError::There(_))));
    for name in ["", "x", "..", "a/b", "default", "bridge", "none", "host"] {
        let refused = networks.create(name, BTreeMap::new());
        assert!(matches!(refused, Err(NetworkError::Name(_))), "{name}");
        let unknown = networks.remove(name, &home.containers);
        assert!(matches!(unknown, Err(NetworkError::Unknown(_))), "{name}");
    }
    let (made, supervision) = home.container("one", "back");
    let refused = networks.remove("back", &home.containers);
    assert!(matches!(refused, Err(NetworkError::InUse { .. })));
    assert!(Networks::used(&home.containers).unwrap().contains("back"));
    made.remove(&supervision).unwrap();
    networks.remove("back", &home.containers).unwrap();
    assert!(networks.list().unwrap().is_empty());
    assert!(!home.place.path().join("networks/back").exists());
}

#[test]
fn no_two_containers_of_a_network_have_one_address() {
    let home = Home::new();
    for name in ["back", "front"] {
        home.networks.create(name, BTreeMap::new()).unwrap();
    }
    let unknown = home.address("nowhere", None);
    assert!(matches!(unknown, Err(NetworkError::Unknown(_))));
    let (one, supervision) = home.container("one", "back");
    let (other, _other) = home.container("other", "back");
    let (elsewhere, _elsewhere) = home.container("elsewhere", "front");
    let last = |container: &Container| address_of(&container.config).unwrap().octets()[3];
    assert_eq!([last(&one), last(&other), last(&elsewhere)], [3, 4, 3]);
    let taken = home.address("back", Some(4));
    assert!(matches!(taken, Err(NetworkError::Taken { .. })));
    assert!(home.address("front", Some(4)).is_ok());
    one.remove(&supervision).unwrap();
    assert_eq!(home.address("back", None).unwrap().octets()[3], 3);
}

#[test]
fn networks_have_ipv6_networks_of_their_own() {
    let of = ["back", "front", "", "a", "b"].map(subnet);
    let different: BTreeSet<u16> = of.into_iter().chain([0]).collect();
    assert_eq!(different.len(), 6, "{of:x?}");
    assert_eq!(subnet("back"), subnet("back"));
}

#[test]
fn who_joins_is_there_under_all_its_names_and_takes_the_place_of_who_was_killed() {
    let home = Home::new();
    home.networks.create("back", BTreeMap::new()).unwrap();
    let (mut one, _one) = home.container("one", "back");
    let place = home.place.path().join("networks/back");
    let names = |place: &Path| std::fs::read_link(place.join("10.0.2.3.names"));
    assert!(names(&place).is_err());
    let killed = join(&one).unwrap().unwrap();
    drop(killed);
    let peer = UnixDatagram::unbound().unwrap();
    let socket = place.join("10.0.2.3");
    assert!(peer.send_to(b"x", &socket).is_err(), "nobody has it");
    let way = join(&one).unwrap().unwrap();
    peer.send_to(b"x", &socket).unwrap();
    let called = format!("one,{},alias", short(&one.config.id));
    assert_eq!(names(&place).unwrap().to_str(), Some(called.as_str()));
    home.containers.rename(&mut one, "two").unwrap();
    call(&one).unwrap();
    assert!(names(&place).unwrap().to_str().unwrap().starts_with("two,"));
    leave(&one);
    assert!(names(&place).is_err() && !socket.exists());
    drop(way);
    let mut alone = one;
    alone.config.network = None;
    assert!(join(&alone).unwrap().is_none());
}
