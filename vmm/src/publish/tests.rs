//! `-p` in all its forms, and ports that are taken.

use super::*;

fn ports(text: &str) -> Vec<Publish> {
    text.parse::<Published>().unwrap().0
}

fn publish(address: Option<&str>, host: u16, guest: u16, transport: Transport) -> Publish {
    Publish {
        address: address.map(|address| address.parse().unwrap()),
        host,
        guest,
        transport,
    }
}

#[test]
fn reads_dockers_forms() {
    let (tcp, udp) = (Transport::Tcp, Transport::Udp);
    assert_eq!(ports("80"), [publish(None, 0, 80, tcp)]);
    assert_eq!(ports("8080:80"), [publish(None, 8080, 80, tcp)]);
    assert_eq!(ports("53:5353/udp"), [publish(None, 53, 5353, udp)]);
    let local = publish(Some("127.0.0.1"), 8080, 80, tcp);
    assert_eq!(ports("127.0.0.1:8080:80/tcp"), [local]);
    assert_eq!(
        ports("127.0.0.1::80"),
        [publish(Some("127.0.0.1"), 0, 80, tcp)]
    );
    assert_eq!(ports("[::1]:1:2"), [publish(Some("::1"), 1, 2, tcp)]);
    let range = [
        publish(None, 7000, 8000, udp),
        publish(None, 7001, 8001, udp),
    ];
    assert_eq!(ports("7000-7001:8000-8001/udp"), range);
}

#[test]
fn refuses_what_makes_no_sense() {
    for text in [
        "",
        ":",
        "0",
        "65536",
        "80/sctp",
        "1-2:3",
        "2-1:2-1",
        "host:1:2",
        "1:",
        "a:b",
        "-1:1",
        "1-300:1-300",
        "1:2:3:4",
    ] {
        assert!(text.parse::<Published>().is_err(), "{text}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let any = publish(Some("127.0.0.1"), 0, 80, Transport::Tcp);
    let (sockets, bound) = bind_all(&[any]).unwrap();
    let port = bound[0].host.port();
    let same = Publish { host: port, ..any };
    let error = bind_all(&[same]).unwrap_err();
    assert!(error.taken && error.address == (Ipv4Addr::LOCALHOST, port).into());
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}/tcp")));
    drop(sockets);
    assert!(bind_all(&[same]).is_ok());
}

#[test]
fn all_addresses_are_those_of_both_families_on_one_port() {
    let (_sockets, bound) = bind_all(&[publish(None, 0, 80, Transport::Udp)]).unwrap();
    let ports: std::collections::BTreeSet<u16> = bound.iter().map(|b| b.host.port()).collect();
    assert_eq!(ports.len(), 1);
    assert!(bound[0].to_string().ends_with("->80/udp"), "{}", bound[0]);
}
