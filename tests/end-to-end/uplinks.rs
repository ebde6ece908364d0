//! A network card can lead to a device of the host's: what is behind it sees the container under the address that it was given.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::{Vm, eventually, hull, vm};

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
        let late = start.elapsed() > tests::PATIENCE;
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

/// A CNI network of Debian's plugins: a bridge, and addresses of both kinds that are written down where this says.
struct Lan(PathBuf);

impl Lan {
    fn new() -> Self {
        let directory = tests::fixture::scratch("cni").expect("there is room");
        let list = format!(
            r#"{{"cniVersion": "1.0.0", "name": "hull-lan", "plugins": [{{
                "type": "bridge", "bridge": "hullcni0", "isGateway": true, "isDefaultGateway": true,
                "ipam": {{"type": "host-local", "dataDir": "{}",
                    "ranges": [[{{"subnet": "198.51.101.0/24"}}], [{{"subnet": "2001:db8:67::/64"}}]]}},
                "dns": {{"nameservers": ["198.51.101.1"], "search": ["example.org"]}}
            }}]}}"#,
            directory.join("data").display()
        );
        std::fs::write(directory.join("10-lan.conflist"), list).expect("there is room");
        Self(directory)
    }

    fn vm(&self, options: &[&str]) -> Vm {
        vm().host_env("NETCONFPATH", &self.0)
            .options(["--network=cni:hull-lan", "--jail=strict"])
            .options(options)
    }

    /// The addresses that are given.
    fn given(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join("data/hull-lan"));
        let names = entries.into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| name.contains("198.51.101.")).collect();
        names.retain(|name| !name.starts_with("last_reserved"));
        names.sort();
        names
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let _ = Command::new("busybox")
            .args(["ip", "link", "del", "hullcni0"])
            .output();
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn inspected(name: &str, what: &str) -> String {
    let shown = hull(["inspect", &format!("--format={{{{{what}}}}}"), name]).finish();
    shown.exits(0);
    shown.out().trim().to_owned()
}

#[test]
fn a_cni_network_has_the_container_as_its_plugins_say_and_forgets_it_however_it_ends() {
    let lan = Lan::new();
    let serve = "while true; do echo hello | nc -l -p 80; done";
    let image = tests::fixture::busybox();
    // One that is there again when it was killed.
    let words = ["run", "-d", "--name=on-cni", "--network=cni:hull-lan"];
    hull(words.into_iter().chain([image.as_str(), "sh", "-c", serve]))
        .host_env("NETCONFPATH", &lan.0)
        .finish()
        .exits(0);
    let address = inspected("on-cni", ".NetworkSettings.IPAddress");
    assert_eq!(lan.given(), std::slice::from_ref(&address));
    assert_eq!(
        inspected("on-cni", ".NetworkSettings.Gateway"),
        "198.51.101.1"
    );
    let ip: IpAddr = address.parse().expect("it is an address");
    assert_eq!(ask(ip, 80), "hello\n");
    let port = sink([198, 51, 101, 1].into());
    let script = format!(
        "ip route | head -n 1; ip addr show eth0 | grep -c 2001:db8:67; cat /etc/resolv.conf
         for attempt in 1 2 3 4 5; do nc -w 10 {address} 80 </dev/null | grep . && break; done
         head -c {BULK} /dev/zero | nc 198.51.101.1 {port} | wc -c; grep -c 198.51.101.77 /etc/hosts"
    );
    let told = format!(
        "default via 198.51.101.1 dev eth0 \n1\nnameserver 198.51.101.1\nsearch example.org\nhello\n{BULK}\n1\n"
    );
    lan.vm(&["--ip=198.51.101.77"]).run(&script).prints(&told);
    assert_eq!(lan.given(), std::slice::from_ref(&address));
    // Its supervisor is killed: the next command has it forgotten.
    let supervisor = inspected("on-cni", ".State.SupervisorPid");
    let supervisor = Pid::from_raw(supervisor.parse().expect("it is a number"));
    kill_process(supervisor.expect("there is one"), Signal::KILL).expect("it is there");
    eventually("an address given back", || {
        hull(["ps", "-a"]).finish().exits(0);
        lan.given().is_empty()
    });
    hull(["start", "on-cni"])
        .host_env("NETCONFPATH", &lan.0)
        .finish()
        .exits(0);
    assert_eq!(lan.given().len(), 1);
    hull(["rm", "--force", "on-cni"]).finish().exits(0);
    assert_eq!(lan.given(), [""; 0]);
    let left = Path::new("/sys/class/net")
        .read_dir()
        .expect("it is there")
        .flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("veth"));
    assert_eq!(left.count(), 0);
    for (options, reason) in [
        (["-p=8080:80", "--name=x-cni"], "portMappings"),
        (["--egress=deny", "--name=x-cni"], "--egress cannot hold"),
        (["--ip=192.0.2.1", "--name=x-cni"], "192.0.2.1"),
    ] {
        lan.vm(&[])
            .options(options)
            .run("true")
            .exits(125)
            .complains(reason);
        assert_eq!(lan.given(), [""; 0], "{reason}");
    }
    vm().option("--network=cni:nowhere")
        .run("true")
        .exits(125)
        .complains("no CNI network");
    lan.vm(&[])
        .under([
            "setpriv",
            "--bounding-set=-sys_admin",
            "--inh-caps=-sys_admin",
        ])
        .run("true")
        .exits(125)
        .complains("as root");
}
