//! Names are resolved as the host resolves them, by a real libc: glibc's, which asks for both families at once, from one socket.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::fixture::{python, scratch};
use tests::{Vm, hull, vm};

use crate::network::addresses;

/// What python scripts say `look` is: the addresses of a name, how many there are if they are many, or the resolver's error.
const LOOK: &str = r#"
import socket, sys
def look(name, family=0):
    try:
        found = sorted({each[4][0] for each in socket.getaddrinfo(name, 80, family, socket.SOCK_STREAM)})
        told = ' '.join(found) if len(found) < 9 else len(found)
    except socket.gaierror as error:
        told = {socket.EAI_AGAIN: 'again', socket.EAI_NONAME: 'no name', socket.EAI_NODATA: 'no data'}.get(error.args[0], error)
    print(told, flush=True)
"#;

/// Names and their addresses.
type Zone = BTreeMap<&'static str, Vec<IpAddr>>;

/// A name server with a zone, over UDP and TCP. It is silent once it is dropped, and its place free.
struct Server {
    gone: Arc<AtomicBool>,
}

impl Server {
    fn new(at: IpAddr, zone: Zone) -> Self {
        let gone = Arc::new(AtomicBool::new(false));
        let udp = UdpSocket::bind((at, 53)).expect("port 53 is free");
        let tcp = TcpListener::bind((at, 53)).expect("port 53 is free");
        let limit = Some(Duration::from_millis(100));
        udp.set_read_timeout(limit).expect("a socket has a limit");
        let (stop, zone) = (gone.clone(), Arc::new(zone));
        let streamed = zone.clone();
        thread::spawn(move || {
            let mut query = [0; 512];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, peer)) = udp.recv_from(&mut query) {
                    let mut answer = answer(&query[..length], &zone);
                    if answer.len() > 512 {
                        // Too long: the question alone, and that there is more.
                        answer.truncate(length);
                        answer[2] |= 2;
                        answer[6..8].fill(0);
                    }
                    let _ = udp.send_to(&answer, peer);
                }
            }
        });
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.expect("it is accepted");
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut query = vec![0; u16::from_be_bytes(length).into()];
                    stream.read_exact(&mut query).expect("all of it comes");
                    let answer = answer(&query, &streamed);
                    let length = u16::try_from(answer.len()).expect("it is an answer");
                    let _ = stream.write_all(&[&length.to_be_bytes()[..], &answer].concat());
                }
            }
        });
        Self { gone }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

fn answer(query: &[u8], zone: &Zone) -> Vec<u8> {
    let (mut name, mut at) = (String::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        name.push_str(&String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        name.push('.');
        at = end;
    }
    let (end, kind) = (at + 5, query[at + 2]);
    let known = zone.get(name.trim_end_matches('.'));
    let mut out = query[..end].to_vec();
    // An answer; recursion is available; there is no such name.
    out[2..4].copy_from_slice(&[0x81, if known.is_some() { 0x80 } else { 0x83 }]);
    out[6..12].fill(0);
    let mut count = 0_u16;
    for address in known.into_iter().flatten() {
        let (of, bytes) = match address {
            IpAddr::V4(address) => (1, address.octets().to_vec()),
            IpAddr::V6(address) => (28, address.octets().to_vec()),
        };
        if kind == of {
            let length = if of == 1 { 4 } else { 16 };
            out.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, length]);
            out.extend(bytes);
            count += 1;
        }
    }
    out[6..8].copy_from_slice(&count.to_be_bytes());
    out
}

fn zone(last: u8) -> Zone {
    let v4 = |last| IpAddr::from(Ipv4Addr::new(192, 0, 2, last));
    let v6 = IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()));
    [
        ("www.names.test", vec![v4(last)]),
        ("both.names.test", vec![v4(last), v6]),
        ("six.names.test", vec![v6]),
        ("many.names.test", (0..200).map(v4).collect()),
    ]
    .into()
}

/// A server that hears and says nothing, at this address of the host's.
fn silent(at: IpAddr) -> UdpSocket {
    UdpSocket::bind((at, 53)).expect("port 53 is free")
}

/// A resolv.conf that a run of hull sees instead of the host's.
struct Resolving(PathBuf);

impl Resolving {
    fn new(name: &str, text: &str) -> Self {
        let file = scratch(name).expect("there is room").join("resolv.conf");
        std::fs::write(&file, text).expect("there is room");
        Self(file)
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).expect("there is room");
    }

    fn vm(&self, script: &str) -> Vm {
        let mount = format!(
            "mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"",
            self.0.display()
        );
        under_python(script).under(["unshare", "-m", "sh", "-c", &mount])
    }
}

fn under_python(script: &str) -> Vm {
    vm().image(&python())
        .command(["python3", "-c", &format!("{LOOK}{script}")])
}

#[test]
fn glibc_resolves_through_the_gateway_and_is_not_slowed_by_a_server_that_is_silent() {
    let [quiet, at]: [IpAddr; 2] = [[127, 53, 1, 1].into(), [127, 53, 1, 2].into()];
    let _silent = silent(quiet);
    let _server = Server::new(at, zone(10));
    // Who asks gives up after half a minute, however slow the machine is.
    let options = "options timeout:30 attempts:1";
    let text = format!("nameserver {quiet}\nnameserver {at}\nsearch names.test\n{options}\n");
    let script = "
for name in ['www.names.test', 'www', 'both', 'six', 'many', 'absent.names.test', 'WWW.Names.Test.']:
    look(name)
look('six', socket.AF_INET)
for number in range(20):
    look('both')
";
    let both = "192.0.2.10 2001:db8::a\n";
    let told = format!(
        "192.0.2.10\n192.0.2.10\n{both}2001:db8::a\n200\nno name\n192.0.2.10\nno data\n{}",
        both.repeat(20)
    );
    Resolving::new("silent", &text)
        .vm(script)
        .finish()
        .prints(&told);
}

#[test]
fn glibc_asks_the_servers_and_searches_the_domains_that_are_given() {
    let [v4, _] = addresses();
    let _server = Server::new(v4, zone(20));
    let options = [
        &format!("--dns={v4}"),
        "--dns-search=other.test",
        "--dns-search=names.test",
    ];
    let script = "
print(open('/etc/resolv.conf').read(), end='')
for name in ['www', 'both.names.test', 'many', 'absent']:
    look(name)
";
    let told = format!(
        "nameserver {v4}\nsearch other.test names.test\n192.0.2.20\n192.0.2.20 2001:db8::14\n200\nno name\n"
    );
    under_python(script).options(options).finish().prints(&told);
}

#[test]
fn rules_by_name_hold_for_both_families_and_what_they_refuse_is_written_down() {
    let [v4, v6] = addresses();
    let at: IpAddr = [127, 53, 1, 6].into();
    let listeners =
        [v4, v6].map(|address| TcpListener::bind((address, 0)).expect("it is the host's"));
    let ports = listeners
        .each_ref()
        .map(|listener| listener.local_addr().expect("it is bound").port());
    let zone = [
        ("both.names.test", vec![v4, v6]),
        ("other.names.test", vec![v4]),
    ];
    let _server = Server::new(at, zone.into());
    let script = format!(
        "
def to(address, port):
    try:
        socket.create_connection((address, port), 60).close()
        print('connected')
    except OSError as error:
        print(error.strerror)
to('{v4}', {four})
look('both.names.test')
look('other.names.test')
to('{v4}', {four})
to('{v6}', {six})
to('192.0.2.99', 7)
print('done', flush=True)
sys.stdin.read()
",
        four = ports[0],
        six = ports[1],
    );
    let (dns, name) = (format!("--dns={at}"), format!("ruled-{}", ports[0]));
    let options = [&dns, "--egress=allow=both.names.test", "--name", &name];
    let mut running = under_python(&script).options(options).stdin_open().start();
    let told = running.wait_for("done");
    let both = format!("{v4} {v6}");
    let wanted = format!(
        "Connection refused\n{both}\nagain\nconnected\nconnected\nConnection refused\ndone\n"
    );
    assert_eq!(told, wanted);
    // They are written down within a second.
    let start = Instant::now();
    let log = loop {
        let log = hull(["logs", "--network", &name]).finish().out();
        if log.contains("192.0.2.99") || start.elapsed() > tests::PATIENCE {
            break log;
        }
        thread::sleep(Duration::from_millis(200));
    };
    for denied in [
        format!("tcp {v4}:{}", ports[0]),
        "name other.names.test".to_owned(),
        "tcp 192.0.2.99:7".to_owned(),
    ] {
        assert!(log.contains(&denied), "{denied} is not in\n{log}");
    }
    assert!(!log.contains("both.names.test"), "{log}");
    let counted = ["stats", "--no-stream", "--format={{.NetIO}}", &name];
    let counted = hull(counted).finish().out();
    let (inward, outward) = counted.trim().split_once(" / ").expect("both are counted");
    for bytes in [inward, outward] {
        assert!(bytes.ends_with('B') && bytes != "0B", "{counted}");
    }
    running.say("over\n").finish().exits(0);
}

#[test]
fn servers_that_never_answer_are_a_time_out_within_seconds() {
    let at: IpAddr = [127, 53, 1, 3].into();
    let silent = silent(at);
    let options = "options timeout:1 attempts:2";
    let resolving = Resolving::new("never", &format!("nameserver {at}\n{options}\n"));
    let script = "
print([line for line in open('/etc/resolv.conf') if 'options' in line])
look('www.names.test')
";
    let told = format!("['{options}\\n']\nagain\n");
    resolving.vm(script).finish().prints(&told);
    drop(silent);
    // Nobody is there at all.
    resolving.vm(script).finish().prints(&told);
}

#[test]
fn a_host_that_changes_its_servers_has_containers_that_run_ask_them() {
    let [old, new]: [IpAddr; 2] = [[127, 53, 1, 4].into(), [127, 53, 1, 5].into()];
    let server = Server::new(old, zone(30));
    let _other = Server::new(new, zone(31));
    let resolving = Resolving::new("moving", &format!("nameserver {old}\n"));
    let script = "
look('both.names.test')
sys.stdin.read()
look('both.names.test')
";
    let mut running = resolving.vm(script).stdin_open().start();
    running.wait_for("192.0.2.30 2001:db8::1e");
    resolving.write(&format!("nameserver {new}\n"));
    drop(server);
    // The host is asked at most once a second.
    thread::sleep(Duration::from_millis(1100));
    running
        .say("go on\n")
        .finish()
        .prints("192.0.2.31 2001:db8::1f\n");
}
