//! Containers of one network reach each other over both families, by name, address and alias.

use tests::fixture::python;
use tests::hull;

use crate::network::Network;

/// Bytes of a stream: many packets.
const BULK: usize = 4 << 20;

#[test]
fn neighbours_are_found_and_reached_over_ipv6_as_over_ipv4() {
    let network = Network::new("both-families");
    // Over each family: a datagram that comes back, and a stream that does.
    let serve = format!(
        "
import socket, threading
for family, everywhere in [(socket.AF_INET, ''), (socket.AF_INET6, '::')]:
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    datagrams.bind((everywhere, 7))
    streams = socket.create_server((everywhere, 7), family=family)
    def echo(datagrams=datagrams):
        while True:
            heard, peer = datagrams.recvfrom(65536)
            datagrams.sendto(peer[0].encode() + b' ' + heard, peer)
    def stream(streams=streams):
        while True:
            peer, _ = streams.accept()
            taken = b''
            while len(taken) < {BULK}:
                taken += peer.recv(1 << 20)
            peer.sendall(taken)
            peer.close()
    threading.Thread(target=echo).start()
    threading.Thread(target=stream).start()
print('up', flush=True)
"
    );
    let image = python();
    let server = ["--name=six-server", "--network-alias=six-alias"];
    let mut serving = network
        .vm(&server)
        .image(&image)
        .command(["python3", "-c", &serve])
        .start();
    serving.wait_for("up");
    let ask = format!(
        "
import socket
def look(name):
    return sorted({{each[4][0] for each in socket.getaddrinfo(name, 7)}})
addresses = look('six-server')
print(look('six-alias') == addresses, len(addresses), addresses[1].startswith('fd68:756c:6c:'))
for address in addresses:
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    datagrams.settimeout(60)
    for length in [1, 60000]:
        datagrams.sendto(b'x' * length, (address, 7))
        heard = datagrams.recv(65536)
        own, _, rest = heard.partition(b' ')
        print(len(rest), own.decode())
    sent = bytes(range(256)) * ({BULK} // 256)
    with socket.create_connection((address, 7), 120) as stream:
        stream.sendall(sent)
        heard = b''
        while piece := stream.recv(1 << 20):
            heard += piece
    print(heard == sent)
for address, port in [(addresses[1], 8), (addresses[1][:-1] + '77', 7)]:
    try:
        socket.create_connection((address, port), 60)
    except OSError as error:
        print(error.strerror)
"
    );
    let client = ["--ip=10.0.2.9", "--egress=deny"];
    let asked = network
        .vm(&client)
        .image(&image)
        .command(["python3", "-c", &ask])
        .finish();
    let told = asked.out();
    let lines: Vec<&str> = told.lines().collect();
    let own = lines.get(4).and_then(|line| line.strip_prefix("1 "));
    let own = own.unwrap_or_default();
    assert!(
        own.starts_with("fd68:756c:6c:") && own.ends_with("::9"),
        "{asked:?}"
    );
    asked.prints(&format!(
        "True 2 True\n1 10.0.2.9\n60000 10.0.2.9\nTrue\n1 {own}\n60000 {own}\nTrue\n\
         Connection refused\nNo route to host\n"
    ));
    // Elsewhere the same address is nobody's.
    let other = Network::new("no-family");
    let script =
        "nc -w 20 $0 7 </dev/null || echo nobody; ping -6 -c 1 -W 20 $0 >/dev/null || echo nobody";
    let server = own.replace("::9", "::3");
    other
        .vm(&[])
        .command(["sh", "-c", script, &server])
        .finish()
        .prints("nobody\nnobody\n");
    network
        .vm(&[])
        .run("ping -6 -c 1 -W 20 six-alias | grep -c seq=0")
        .prints("1\n");
    let shown = [
        "network",
        "inspect",
        "both-families",
        "--format={{json .Containers}}",
    ];
    let shown = hull(shown).finish();
    assert!(shown.out().contains(&format!("{server}/64")), "{shown:?}");
    hull(["rm", "--force", "six-server"]).finish().exits(0);
    drop(serving.finish());
    hull(["network", "rm", "both-families", "no-family"])
        .finish()
        .prints("both-families\nno-family\n");
}
