//! A network card can lead to a device of the host's: what is behind it sees the container under the address that it was given.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tests::{hull, vm};

/// Bytes of a transfer: many packets, of whatever size.
const BULK: usize = 8 << 20;

/// Runs a program of busybox's, which must succeed.
fn busybox(line: &str) {
    let done = Command::new("busybox").args(line.split(' ')).output();
    let done = done.expect("busybox runs");
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{line}: {text}");
}

/// A server on the host that takes all that a visitor sends, and then sends as much back.
fn sink(address: IpAddr) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("the address is the host's");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("it is accepted");
            let mut taken = vec![0; BULK];
            if stream.read_exact(&mut taken).is_ok() {
                let _ = stream.write_all(&taken);
            }
        }
    });
    port
}

/// What a server in a container says, and whom it says it to; tried until there is one.
fn ask(address: IpAddr, port: u16) -> String {
    let start = Instant::now();
    loop {
        let mut heard = String::new();
        let answer = TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(10))
            .and_then(|mut stream| stream.read_to_string(&mut heard));
        if answer.is_ok() && !heard.is_empty() {
            return heard;
        }
        let late = start.elapsed() > Duration::from_secs(90);
        assert!(!late, "{address} says nothing: {answer:?}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// A tap device of the host's, gone with the test.
struct Tap(&'static str);

impl Tap {
    fn new(name: &'static str, address: &str) -> Self {
        busybox(&format!("tunctl -t {name}"));
        busybox(&format!("ip addr add {address} dev {name}"));
        busybox(&format!("ip link set {name} up"));
        Self(name)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = Command::new("busybox")
            .args(["tunctl", "-d", self.0])
            .output();
    }
}

#[test]
fn a_tap_device_carries_frames_between_the_host_and_a_container_with_its_own_address() {
    let tap = Tap::new("hulltap0", "198.51.100.1/24");
    let host: IpAddr = [198, 51, 100, 1].into();
    let guest: IpAddr = [198, 51, 100, 2].into();
    let port = sink(host);
    let network = format!("--network=tap:{}", tap.0);
    let card = [
        &network,
        "--ip=198.51.100.2/24",
        "--ip6=2001:db8:66::2/64",
        "--gateway=198.51.100.1",
        "--mac-address=02:00:00:00:66:02",
        "--jail=strict",
    ];
    let script = format!(
        "ip route | head -n 1; ip addr show eth0 | grep -o '2001:db8:66::2/64'
         cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu
         head -c {BULK} /dev/zero | nc {host} {port} | wc -c
         ping -c 1 -W 20 {host} | grep -c 'seq=0'"
    );
    let told = format!(
        "default via 198.51.100.1 dev eth0 \n2001:db8:66::2/64\n02:00:00:00:66:02\n1500\n{BULK}\n1\n"
    );
    vm().options(card).run(&script).prints(&told);
    vm().options(card)
        .option("--start=warm")
        .run(&script)
        .prints(&told);
    let serve = "while true; do echo hello | nc -l -p 80; done";
    vm().options(card)
        .options(["-d", "--name=on-tap"])
        .command(["sh", "-c", serve])
        .finish()
        .exits(0);
    assert_eq!(ask(guest, 80), "hello\n");
    let shown = "--format={{.NetworkSettings.IPAddress}} {{.NetworkSettings.Gateway}} {{.HostConfig.NetworkMode}}";
    let shown = hull(["inspect", shown, "on-tap"]).finish();
    shown.prints("198.51.100.2 198.51.100.1 tap:hulltap0\n");
    let counted = hull(["stats", "--no-stream", "--format={{.NetIO}}", "on-tap"]).finish();
    assert!(!counted.out().starts_with("0B"), "{}", counted.out());
    vm().option(&network)
        .run("true")
        .exits(125)
        .complains("in use by another program");
    hull(["snapshot", "create", "on-tap", "tap-saved"])
        .finish()
        .exits(1)
        .complains("device of the host's");
    hull(["rm", "--force", "on-tap"]).finish().exits(0);
    // It has no address, and is up.
    vm().option(&network)
        .run("cat /sys/class/net/eth0/operstate; ip route")
        .prints("up\n");
    for (options, reason) in [
        (["-p=80", &network], "-p cannot hold on tap:hulltap0"),
        (["--egress=deny", &network], "--egress cannot hold"),
        (["--ip=198.51.100.2", &network], "--ip 198.51.100.2/24"),
        (["--gateway=198.51.100.1", &network], "198.51.100.1"),
        (
            ["--network=tap:lo", "--ip=198.51.100.2/24"],
            "no tap device",
        ),
        (["--network=tap:a/b", "--ip=198.51.100.2/24"], "no name"),
        (["--ip6=::5/64", "--network=default"], "--ip6 is for"),
    ] {
        vm().options(options)
            .run("true")
            .exits(125)
            .complains(reason);
    }
}
