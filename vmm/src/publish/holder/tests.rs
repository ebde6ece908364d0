//! Ports that this process has, and lines of the kernel's.

use std::net::{TcpListener, UdpSocket};

use super::super::{Publish, bind_all};
use super::*;

fn refused(address: SocketAddr, transport: Transport) -> BindError {
    let port = Publish {
        address: Some(address.ip()),
        host: address.port(),
        guest: 80,
        transport,
    };
    bind_all(&[port]).unwrap_err()
}

#[test]
fn the_process_that_has_a_port_is_named() {
    let own = format!("Process {} (", std::process::id());
    let [v4, v6]: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let listener = TcpListener::bind((v4, 0)).unwrap();
    let dual = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let datagrams = UdpSocket::bind((v6, 0)).unwrap();
    let (tcp, udp) = (Transport::Tcp, Transport::Udp);
    for (taken, transport) in [
        (listener.local_addr().unwrap(), tcp),
        ((v4, dual.local_addr().unwrap().port()).into(), tcp),
        (datagrams.local_addr().unwrap(), udp),
    ] {
        let error = refused(taken, transport);
        assert!(error.taken && error.address == taken);
        let said = process(error.address, error.transport);
        assert!(said.starts_with(&own), "{said}");
    }
    // Of another kind it is free, and once it is let go.
    let free = listener.local_addr().unwrap();
    assert!(!process(free, udp).starts_with(&own));
    drop(listener);
    assert!(process(free, tcp).starts_with("`ss "), "nobody has it");
}

#[test]
fn lines_of_the_kernel_are_read_as_they_are_meant() {
    let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1";
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let found = Some(("4711".to_owned(), "1000".to_owned()));
    let tcp = Transport::Tcp;
    assert_eq!(socket(line, at("127.0.0.1:8080"), tcp), found);
    assert_eq!(socket(line, at("0.0.0.0:8080"), tcp), found);
    assert_eq!(socket(line, at("127.0.0.2:8080"), tcp), None);
    assert_eq!(socket(line, at("127.0.0.1:8081"), tcp), None);
    let connected = line.replace(" 0A ", " 01 ");
    assert_eq!(socket(&connected, at("127.0.0.1:8080"), tcp), None);
    let six = "00000000000000000000000001000000:0035";
    assert_eq!(local_address(six), Some(at("[::1]:53")));
    for text in [
        "",
        "x",
        "0100007F",
        "0100007:1",
        "zz00007F:1",
        "0100007F:x",
        "é100007F:1",
    ] {
        assert_eq!(local_address(text), None, "{text}");
        assert_eq!(socket(text, at("127.0.0.1:1"), tcp), None);
    }
}

#[test]
fn a_port_in_the_middle_of_a_range_is_named_and_the_others_are_let_go() {
    let taken = loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if listener.local_addr().unwrap().port() > 1024 {
            break listener;
        }
    };
    let port = taken.local_addr().unwrap().port();
    let text = format!("127.0.0.1:{}-{}:1-2", port - 1, port);
    let ports = text.parse::<super::super::Published>().unwrap().0;
    // Somebody else's test may have the one before for a moment.
    let error = bind_all(&ports).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("{}/tcp", error.address))
    );
    drop(taken);
    assert!(bind_all(&ports[1..]).is_ok());
    assert!(bind_all(&ports[..1]).is_ok(), "it was let go");
}
