//! What goes wrong with the host's network is what a guest sees, at once and as a program of the host's own would.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use tests::fixture::{python, scratch};
use tests::{Vm, hull, vm};

use crate::network::{addresses, free};

/// What python scripts say `to` is: how it ends when one connects there, and whether that took long.
const TO: &str = r#"
import errno, socket, sys, time
def to(address, port=9):
    start = time.monotonic()
    try:
        socket.create_connection((address, port), 300).close()
        told = 'connected'
    except TimeoutError:
        told = 'nothing'
    except OSError as error:
        told = errno.errorcode[error.errno]
    return told + (' late' if time.monotonic() - start > 100 else '')
"#;

fn under_python(script: &str) -> Vm {
    vm().image(&python())
        .command(["python3", "-c", &format!("{TO}{script}")])
}

/// A run on a host with a network of its own, which this script makes.
fn on_host(setup: &str, script: &str) -> Vm {
    let line = format!("busybox ip link set lo up && {setup} exec \"$0\" \"$@\"");
    under_python(script).under(["unshare", "-n", "sh", "-c", &line])
}

#[test]
fn a_host_without_a_way_says_so_at_once() {
    let setup = "echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range && ip route add unreachable 192.0.2.0/25 && ip route add prohibit 192.0.2.128/25 &&";
    let script = "
for address in ['198.51.100.1', '192.0.2.1', '192.0.2.129', '2001:db8::1']:
    print(to(address))
for family, level, option, address in [
    (socket.AF_INET, socket.IPPROTO_IP, 11, '198.51.100.1'),
    (socket.AF_INET6, socket.IPPROTO_IPV6, 25, '2001:db8::1'),
]:
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    datagrams.setsockopt(level, option, 1)  # RECVERR
    datagrams.settimeout(100)
    datagrams.sendto(b'?', (address, 9))
    try:
        print(datagrams.recv(9))
    except OSError as error:
        print(errno.errorcode[error.errno])
for family, protocol, kind, start, address in [
    (socket.AF_INET, socket.IPPROTO_ICMP, 8, 20, '198.51.100.1'),
    (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 0, '2001:db8::1'),
]:
    raw = socket.socket(family, socket.SOCK_RAW, protocol)
    raw.settimeout(100)
    summed = 0xffff - (kind << 8) - 2
    raw.sendto(bytes([kind, 0]) + summed.to_bytes(2, 'big') + bytes([0, 1, 0, 1]), (address, 0))
    heard = raw.recv(1000)
    while heard[start] in (128, 135, 136):
        heard = raw.recv(1000)
    print(heard[start], heard[start + 1])
";
    on_host(setup, script).finish().prints(
        &[
            "ENETUNREACH",
            "EHOSTUNREACH",
            "EHOSTUNREACH",
            "ENETUNREACH",
            "ENETUNREACH",
            "ENETUNREACH",
            "3 0",
            "1 0",
            "",
        ]
        .join("\n"),
    );
}

#[test]
fn a_host_without_ipv6_has_containers_that_do_without() {
    let setup =
        "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && ip addr add 192.0.2.9/32 dev lo &&";
    let script = "
print(to('2001:db8::1'), to('192.0.2.9'))
print(to('fd68:756c:6c::2', 9))
";
    on_host(setup, script)
        .option(format!("-p={}:80", free()))
        .finish()
        .prints("ENETUNREACH ECONNREFUSED\nECONNREFUSED\n");
}

#[test]
fn a_host_that_changes_networks_takes_its_containers_along() {
    // Its only address goes, and another one comes, while the container looks on.
    let word = scratch("change").expect("there is room").join("word");
    rustix::fs::mkfifoat(rustix::fs::CWD, &word, rustix::fs::Mode::RWXU).expect("there is room");
    let setup = format!(
        "ip addr add 192.0.2.1/32 dev lo &&
        {{ (read -r word <{} && ip addr del 192.0.2.1/32 dev lo && ip addr add 192.0.2.2/32 dev lo) & }} &&",
        word.display()
    );
    let script = "
print(to('192.0.2.1'), to('192.0.2.2'), flush=True)
while to('192.0.2.2') != 'ECONNREFUSED':
    time.sleep(0.2)
print(to('192.0.2.1'), to('192.0.2.2'))
";
    let mut running = on_host(&setup, script).start();
    running.wait_for("ECONNREFUSED ENETUNREACH\n");
    std::fs::write(&word, "change\n").expect("somebody reads");
    running.finish().prints("ENETUNREACH ECONNREFUSED\n");
}

#[test]
fn a_peer_that_resets_is_heard_to_the_end_and_then_resets() {
    let [v4, _] = addresses();
    let listener = TcpListener::bind((v4, 0)).expect("the address is the host's");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("it is accepted");
            // Whoever closes with something unread resets.
            let mut first = [0];
            let _ = stream.read_exact(&mut first);
            let _ = stream.write_all(b"last words");
        }
    });
    let script = format!(
        "
for each in range(20):
    peer = socket.create_connection(('{v4}', {port}))
    peer.sendall(b'x' * 1000)
    heard = b''
    try:
        while piece := peer.recv(100):
            heard += piece
        print('ended', heard)
    except ConnectionResetError:
        print('reset', heard)
"
    );
    under_python(&script)
        .finish()
        .prints(&"reset b'last words'\n".repeat(20));
}

#[test]
fn a_full_backlog_keeps_peers_waiting_and_loses_none() {
    let port = free();
    let script = "
server = socket.create_server(('', 80), backlog=1)
print('listening', flush=True)
time.sleep(3)
for each in range(6):
    peer, _ = server.accept()
    peer.sendall(peer.recv(100))
    peer.close()
";
    let name = format!("--name=backlog-{port}");
    let publish = format!("-p=127.0.0.1:{port}:80");
    let mut running = under_python(script).options([&name, &publish]).start();
    running.wait_for("listening");
    let clients: Vec<_> = (0..6)
        .map(|number: u8| {
            let mut stream =
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it is published");
            thread::spawn(move || {
                let limit = Some(Duration::from_secs(120));
                stream
                    .set_read_timeout(limit)
                    .expect("a socket has a limit");
                stream.write_all(&[number]).expect("it is taken");
                let mut heard = [0];
                stream.read_exact(&mut heard).expect("it comes back");
                assert_eq!(heard, [number]);
            })
        })
        .collect();
    for client in clients {
        client.join().expect("it is served");
    }
    running.finish().exits(0);
}

#[test]
fn a_port_that_a_process_has_names_it_also_in_a_range() {
    let own = format!("Process {} (", std::process::id());
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let listener = TcpListener::bind((any, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let socket = UdpSocket::bind((any, 0)).expect("a port is free");
    let datagrams = socket.local_addr().expect("it is bound").port();
    for publish in [
        format!("-p={port}:80"),
        format!("-p=127.0.0.1:{port}:80"),
        format!("-p={}-{port}:80-81", port - 1),
        format!("-p={datagrams}:53/udp"),
    ] {
        let run = vm().options([&publish, "--name=port-taken"]).run("true");
        run.exits(125).complains("failed").complains(&own);
    }
    // Nothing is left: neither the container nor the ports that were free.
    let all = hull(["ps", "-a", "--format={{.Names}}"]).finish();
    assert!(!all.out().contains("port-taken"), "{all:?}");
    drop((listener, socket));
    vm().options([format!("-p={}-{port}:80-81", port - 1)])
        .run("true")
        .exits(0);
}

#[test]
fn all_ports_that_are_exposed_can_be_published() {
    let script = "while true; do echo hello | nc -l -p 7001; done";
    let name = format!("exposed-{}", free());
    vm().options([
        "-d",
        "--name",
        &name,
        "-P",
        "--expose=7001",
        "--expose=7002/udp",
    ])
    .command(["sh", "-c", script])
    .finish()
    .exits(0);
    let ports = hull(["port", &name]).finish();
    let told = ports.out();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    assert!(told.contains("7002/udp -> 0.0.0.0:"), "{told}");
    let tcp = hull(["port", &name, "7001/tcp"]).finish().out();
    let port = tcp.lines().next().and_then(|line| line.rsplit_once(':'));
    let port: u16 = port
        .expect("it is published")
        .1
        .parse()
        .expect("it is a port");
    let start = std::time::Instant::now();
    let heard = loop {
        let mut heard = String::new();
        let asked = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let asked = asked.and_then(|mut stream| stream.read_to_string(&mut heard));
        if asked.is_ok() && !heard.is_empty() {
            break heard;
        }
        assert!(start.elapsed() < tests::PATIENCE, "{asked:?}");
        thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(heard, "hello\n");
    hull(["rm", "--force", &name]).finish().exits(0);
}
