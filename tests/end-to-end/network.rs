//! A container gets out to where the host gets, nothing gets in but what is published, and the host itself is out of reach.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tests::fixture::python;
use tests::{hull, vm};

/// A network for documentation: this module gives the host addresses of it, which no other machine has.
const HOST: [&str; 2] = ["192.0.2.1", "2001:db8:68::1"];
/// What a script says `get` is: one line from a server, or `refused`.
const GET: &str = r#"
get() { nc -w 20 "$1" "$2" </dev/null 2>/dev/null | grep . || echo refused; }
"#;

/// Gives the host its addresses; they stay, and are the same each time.
pub(crate) fn addresses() -> [IpAddr; 2] {
    for (address, bits) in HOST.iter().zip(["32", "128"]) {
        let address = format!("{address}/{bits}");
        // The second time it is there already.
        let _ = Command::new("busybox")
            .args(["ip", "addr", "add", &address, "dev", "lo"])
            .output()
            .expect("busybox runs");
    }
    HOST.map(|address| address.parse().expect("it is an address"))
}

/// A server on the host that says `words` to whoever connects, and to whom it does.
fn server(address: IpAddr, words: &'static str) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("the address is the host's");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("it is accepted");
            let _ = stream.write_all(words.as_bytes());
        }
    });
    port
}

/// What a server says; tried until there is one.
fn ask(address: SocketAddr) -> String {
    let start = Instant::now();
    loop {
        let mut heard = String::new();
        let answer = TcpStream::connect_timeout(&address, Duration::from_secs(10))
            .and_then(|mut stream| stream.read_to_string(&mut heard));
        if answer.is_ok() && !heard.is_empty() {
            return heard;
        }
        assert!(start.elapsed() < tests::PATIENCE, "{address} says nothing");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_container_gets_out_but_not_to_what_is_the_hosts_alone() {
    let [v4, v6] = addresses();
    let (four, six) = (server(v4, "four\n"), server(v6, "six\n"));
    let own = server(Ipv4Addr::LOCALHOST.into(), "own\n");
    let script = format!(
        "{GET} get {v4} {four}; get {v6} {six}; get 10.0.2.2 {own}; get 169.254.169.254 80; get fd00:ec2::254 80
         ping -c 1 -W 20 10.0.2.2 | grep -c 'seq=0'; ping -c 1 -W 20 fd68:756c:6c::2 | grep -c 'seq=0'"
    );
    vm().run(&script)
        .prints("four\nsix\nrefused\nrefused\nrefused\n1\n1\n");
    let script = format!("{GET} get host.hull.internal {own}");
    vm().option("--add-host=host.hull.internal:host-gateway")
        .run(&script)
        .prints("own\n");
}

#[test]
fn a_client_from_elsewhere_is_seen_by_its_address() {
    // Another machine, as far as the host can tell: a network of its own at the other end of a cable.
    let host = r#"
        ip link set lo up
        unshare -n sleep 200 & far=$!
        until ip link add near type veth peer name far netns $far && nsenter -t $far -n ip link set far up; do
            sleep 0.2; ip link del near
        done
        ip addr add 198.18.0.1/24 dev near && ip link set near up && nsenter -t $far -n ip addr add 198.18.0.2/24 dev far
        { until nsenter -t $far -n busybox nc -w 9 198.18.0.1 8080 </dev/null | grep bye; do sleep 0.3; done
          kill $far; } >&2 &
        exec "$0" "$@""#;
    let script = "
import socket
server = socket.create_server(('', 80))
client, address = server.accept()
print(address[0])
client.sendall(b'bye\\n')
";
    let run = vm().image(&python()).option("--publish=8080:80");
    let run = run.command(["python3", "-c", script]);
    let run = run.under(["unshare", "-n", "sh", "-c", host]).finish();
    run.prints("198.18.0.2\n");
}

#[test]
fn echoes_go_out_and_come_back() {
    // Who may send them without root is this parameter of the host's.
    let host = "busybox ip link set lo up && echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range &&
        busybox ip addr add 192.0.2.9/32 dev lo && busybox ip addr add 2001:db8:9::1/128 dev lo && exec \"$0\" \"$@\"";
    let script = "for address in 192.0.2.9 2001:db8:9::1; do ping -c 2 -s 1000 -W 20 $address | grep -c '^1008 bytes'; done";
    let run = vm().under(["unshare", "-n", "sh", "-c", host]).run(script);
    run.prints("2\n2\n");
}

#[test]
fn without_a_network_there_is_loopback_alone() {
    vm().option("--network=none")
        .run("ls /sys/class/net; ip route")
        .prints("lo\n");
    for (network, reason) in [
        ("host", "host-gateway"),
        ("container:x", "another"),
        ("own", "hull network create own"),
    ] {
        let network = format!("--network={network}");
        vm().option(network)
            .run("true")
            .exits(125)
            .complains(reason);
    }
}

/// A port of the host's that nobody has.
pub(crate) fn free() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port is free");
    socket.local_addr().expect("it is bound").port()
}

#[test]
fn published_ports_lead_in_and_a_port_that_is_taken_says_who_has_it() {
    let [v4, _] = addresses();
    let tcp = free();
    let script = "while true; do echo hello | nc -l -p 80 >/tmp/heard; done";
    let name = format!("published-{tcp}");
    let publish = format!("-p={tcp}:80");
    vm().options(["-d", "--name", &name, &publish])
        .command(["sh", "-c", script])
        .finish()
        .exits(0);
    for address in [v4, Ipv4Addr::LOCALHOST.into()] {
        assert_eq!(ask((address, tcp).into()), "hello\n");
    }
    let ports = hull(["port", &name, "80"]).finish();
    ports.prints(&format!("0.0.0.0:{tcp}\n[::]:{tcp}\n"));
    let shown = hull(["ps", "--format", "{{.Names}} {{.Ports}}"]).finish();
    assert!(
        shown.out().contains(&format!("0.0.0.0:{tcp}->80/tcp")),
        "{}",
        shown.out()
    );
    vm().option(&publish)
        .run("true")
        .exits(125)
        .complains("in use")
        .complains(&name);
    hull(["rm", "--force", &name]).finish().exits(0);
}

#[test]
fn datagrams_go_in_and_out() {
    let [v4, _] = addresses();
    let server = UdpSocket::bind((v4, 0)).expect("the address is the host's");
    let port = server.local_addr().expect("it is bound").port();
    let published = free();
    thread::spawn(move || {
        let mut heard = vec![0; 1 << 16];
        let (length, peer) = server.recv_from(&mut heard).expect("something comes");
        server
            .send_to(&heard[..length], peer)
            .expect("it goes back");
        // What comes in is from an address of this host's that the guest can answer.
        let client = UdpSocket::bind((v4, 0)).expect("the address is the host's");
        let limit = Some(Duration::from_secs(60));
        client
            .set_read_timeout(limit)
            .expect("a socket has a limit");
        client.send_to(b"in", (v4, published)).expect("it is sent");
        let (length, _) = client.recv_from(&mut heard).expect("an answer comes");
        server.send_to(&heard[..length], peer).expect("it goes on");
    });
    let script = format!(
        "import socket
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
inside.bind(('', 53))
out.sendto(b'x' * 40000, ('{v4}', {port}))
print(len(out.recv(65536)), flush=True)
heard, peer = inside.recvfrom(100)
print(heard, peer[0])
inside.sendto(b'and out', peer)
print(out.recv(100))"
    );
    vm().image(&python())
        .option(format!("-p={published}:53/udp"))
        .command(["python3", "-c", &script])
        .finish()
        .prints(&format!("40000\nb'in' {v4}\nb'and out'\n"));
}

/// A name server that says that every name is at `address`.
fn names(at: IpAddr, address: Ipv4Addr) {
    let socket = UdpSocket::bind((at, 53)).expect("port 53 is free");
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut query) {
            let mut answer = query[..length].to_vec();
            let v4 = answer.ends_with(&[0, 1, 0, 1]);
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[6..12].copy_from_slice(&[0, u8::from(v4), 0, 0, 0, 0]);
            if v4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(address.octets());
            }
            let _ = socket.send_to(&answer, peer);
        }
    });
}

#[test]
fn egress_rules_let_through_what_they_name_and_nothing_else() {
    let [v4, _] = addresses();
    let (allowed, other) = (server(v4, "allowed\n"), server(v4, "other\n"));
    let IpAddr::V4(address) = v4 else {
        unreachable!("it is the first");
    };
    let resolver: IpAddr = [127, 0, 0, 53].into();
    names(resolver, address);
    let dns = format!("--dns={resolver}");
    let script = format!(
        "{GET}
         look() {{ nslookup -type=a \"$1\" 2>&1 | grep -c 'Address.*{v4}'; }}
         get {v4} {allowed}; look evil.test; get {v4} {allowed}
         look www.example.org; get {v4} {allowed}; get {v4} {other}
         ping -c 1 -W 1 {v4} >/dev/null || echo no ping"
    );
    let by_name = format!("--egress=allow=*.example.org:{allowed}");
    vm().options([&dns, &by_name])
        .run(&script)
        .prints("refused\n0\nrefused\n1\nallowed\nrefused\nno ping\n");
    let by_network = format!("--egress=allow=192.0.2.0/24:{other}");
    let script = format!("{GET} get {v4} {allowed}; get {v4} {other}");
    vm().options(["--egress=deny", &by_network])
        .run(&script)
        .prints("refused\nother\n");
}

#[test]
fn a_network_with_a_rate_carries_no_more_each_way() {
    let [v4, _] = addresses();
    let words: &'static str = String::leak("x".repeat(1 << 20) + "\n");
    let port = server(v4, words);
    let sink = TcpListener::bind((v4, 0)).expect("the address is the host's");
    let to = sink.local_addr().expect("it is bound").port();
    let drained = thread::spawn(move || {
        let (mut stream, _) = sink.accept().expect("it is accepted");
        let mut first = [0];
        stream.read_exact(&mut first).expect("something comes");
        let start = Instant::now();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).expect("it ends");
        (heard.len(), start.elapsed())
    });
    // A second's worth each way, less the tenth that an idle line has in hand, and a packet.
    let script = format!(
        "s() {{ awk '{{ printf \"%d\", $1 * 100 }}' /proc/uptime; }}
         a=$(s); nc {v4} {port} </dev/null | wc -c; b=$(s); [ $((b - a)) -ge 70 ] || echo $((b - a)) hundredths
         head -c 1048577 /dev/zero | nc {v4} {to} >/dev/null"
    );
    let options = ["--net-rate=in=1m,out=1m", "--storage=0"];
    vm().options(options).run(&script).prints("1048577\n");
    let (length, took) = drained.join().expect("all of it came");
    assert_eq!(length, 1 << 20);
    assert!(took >= Duration::from_millis(700), "{took:?}");
    vm().option("--net-rate=1k")
        .run("true")
        .exits(125)
        .complains("8k a second at least");
}

#[test]
fn each_container_has_a_hardware_address_of_its_own_also_from_a_template() {
    let show = "cat /sys/class/net/eth0/address; ip -6 addr show dev eth0 scope link | grep -c fe80; ping -c 1 -W 20 10.0.2.2 | grep -c seq=0";
    let address = |options: &[&str]| {
        let told = vm().options(options).run(show);
        let lines = told.out();
        let (address, rest) = lines.split_once('\n').expect("there is a line");
        assert_eq!(rest, "1\n1\n", "{told:?}");
        address.to_owned()
    };
    let mut all = vec![address(&[]), address(&[])];
    all.extend([address(&["--start=warm"]), address(&["--start=warm"])]);
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), 4, "{all:?}");
    let own = "--mac-address=06:00:00:00:00:07";
    assert_eq!(address(&[own]), "06:00:00:00:00:07");
    assert_eq!(address(&["--start=warm", own]), "06:00:00:00:00:07");
    let (one, other) = ("mac-one", "mac-other");
    vm().option("--name")
        .options([one, own, "-d"])
        .command(["sleep", "600"])
        .finish()
        .exits(0);
    vm().options(["--name", other, own])
        .run("true")
        .exits(125)
        .complains(one);
    let inspected = hull([
        "inspect",
        one,
        "--format",
        "{{.NetworkSettings.MacAddress}}",
    ])
    .finish();
    inspected.prints("06:00:00:00:00:07\n");
    hull(["rm", "--force", one]).finish().exits(0);
}

/// A network of containers, gone with all that is in it.
pub(crate) struct Network(&'static str);

impl Network {
    pub(crate) fn new(name: &'static str) -> Self {
        hull(["network", "create", name])
            .finish()
            .prints(&format!("{name}\n"));
        Self(name)
    }

    pub(crate) fn vm(&self, options: &[&str]) -> tests::Vm {
        let network = format!("--network={}", self.0);
        vm().option(network)
            .option("--jail=strict")
            .options(options)
    }
}

/// What a script says `heard` is: a line from a server that may be between two visitors, or `refused`.
const HEARD: &str = r#"
heard() {
    for attempt in 1 2 3 4 5 6 7 8; do
        nc -w 10 "$1" "$2" </dev/null 2>/dev/null | grep . && return
        sleep 0.2
    done
    echo refused
}
"#;

#[test]
fn containers_of_one_network_find_each_other_by_name_and_nobody_else_does() {
    let [v4, _] = addresses();
    let IpAddr::V4(address) = v4 else {
        unreachable!("it is the first");
    };
    // All other names are somewhere where nobody listens.
    let resolver: IpAddr = [127, 0, 0, 54].into();
    names(resolver, address);
    let dns = format!("--dns={resolver}");
    let (seen, unseen) = (Network::new("seen"), Network::new("unseen"));
    let published = free();
    let publish = format!("-p={published}:80");
    let serve = "while true; do echo hello | nc -l -p 80; done";
    let outside = server(v4, "outside\n");
    seen.vm(&["-d", "--name=net-db", "--network-alias=store", &publish])
        .command(["sh", "-c", serve])
        .finish()
        .exits(0);
    let script = format!(
        "{HEARD} {GET} heard net-db 80; heard STORE 80; heard 10.0.2.3 80; get {v4} {outside}
         ping -c 1 -W 20 store | grep -c 'seq=0'; get 10.0.2.77 80"
    );
    let told = "hello\nhello\nhello\noutside\n1\nrefused\n";
    seen.vm(&[&dns]).run(&script).prints(told);
    seen.vm(&[&dns, "--start=warm"]).run(&script).prints(told);
    // Its rules are for what is outside; and who has volumes too, works with other paths.
    let told = "hello\nhello\nhello\nrefused\n1\nrefused\n";
    seen.vm(&[&dns, "--egress=deny", "-v=net-data:/data"])
        .run(&script)
        .prints(told);
    assert_eq!(ask((v4, published).into()), "hello\n");
    let script = format!("{GET} get net-db 80; get 10.0.2.3 80");
    let nobody = "refused\nrefused\n";
    unseen
        .vm(&[&dns, "--ip=10.0.2.9"])
        .run(&script)
        .prints(nobody);
    vm().option(&dns).run(&script).prints(nobody);
    // Another name from now on.
    hull(["rename", "net-db", "net-new"]).finish().exits(0);
    let script = format!("{HEARD} {GET} heard net-new 80; get net-db 80");
    seen.vm(&[&dns]).run(&script).prints("hello\nrefused\n");
    seen.vm(&["--ip=10.0.2.3"])
        .run("true")
        .exits(125)
        .complains("net-new");
    for words in [
        ["network", "rm", "seen"].as_slice(),
        &["snapshot", "create", "net-new", "net-saved"],
    ] {
        let refused = hull(words.iter().copied()).finish();
        refused.exits(1).complains("net-new");
    }
    let shown = [
        "network",
        "inspect",
        "seen",
        "--format={{json .Containers}}",
    ];
    let shown = hull(shown).finish();
    assert!(shown.out().contains("10.0.2.3/24"), "{}", shown.out());
    hull(["rm", "--force", "net-new"]).finish().exits(0);
    hull(["volume", "rm", "net-data"]).finish().exits(0);
    hull(["network", "rm", "seen", "unseen"])
        .finish()
        .prints("seen\nunseen\n");
    vm().option("--network=seen")
        .run("true")
        .exits(125)
        .complains("hull network create seen");
}

#[test]
fn a_long_stream_between_containers_arrives_whole() {
    let network = Network::new("stream");
    let bytes = 20_000_000;
    let send = format!("until head -c {bytes} /dev/zero | nc net-sink 81; do sleep 0.2; done");
    network
        .vm(&["-d", "--name=net-source", "--dns=127.0.0.55"])
        .command(["sh", "-c", &send])
        .finish()
        .exits(0);
    network
        .vm(&["--name=net-sink"])
        .run("mkfifo /tmp/open; nc -l -p 81 <>/tmp/open | wc -c")
        .prints(&format!("{bytes}\n"));
    // It may have ended and be gone.
    let _ = hull(["rm", "--force", "net-source"]).finish();
    hull(["network", "rm", "stream"])
        .finish()
        .prints("stream\n");
}

#[test]
fn prune_removes_the_networks_that_no_container_is_in() {
    let home = tests::fixture::scratch("networks").expect("there is room");
    let store = home.join("store");
    let says = |words: &[&str], told: &str| {
        let run = hull(words.iter().copied()).host_env("HULL_ROOT", &store);
        run.finish().exits(0).prints(told);
    };
    says(&["network", "create", "--label=a=b", "one"], "one\n");
    says(&["network", "create", "other"], "other\n");
    let create = ["create", "--network=one", "--name=member"];
    let image = tests::fixture::busybox();
    let member = hull(create.iter().copied().chain([image.as_str(), "true"]));
    member.host_env("HULL_ROOT", &store).finish().exits(0);
    says(&["network", "prune"], "other\n");
    says(&["network", "ls", "-q"], "one\n");
    says(&["rm", "member"], "member\n");
    says(&["network", "prune"], "one\n");
    std::fs::remove_dir_all(home).expect("it is there");
}
