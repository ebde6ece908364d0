//! Ordinary programs work over the network: what downloads, what serves through a published port under load from outside, and what
//! measures.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::fixture::{python, scratch, servers};
use tests::{Container, Vm, amount, eventually, vm};

use crate::hostile::own_memory;
use crate::leftovers::processes;
use crate::network::{addresses, free};

/// Descriptors that are enough for all but connections.
const DESCRIPTORS: u64 = 16_384;
/// What a process of hull may have beside its guest's memory, in MiB, with ten thousand connections.
const MOST_MEMORY: u64 = 64;

fn debian() -> Vm {
    vm().image(&servers())
        .options(["--cpus", "2", "--memory", "512m"])
}

/// A program of the host's that serves; it ends with the test.
struct Service(Child);

impl Service {
    fn new(words: &[&str]) -> Self {
        let child = Command::new(words[0])
            .args(&words[1..])
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("{words:?} does not start: {error}")))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody listens there.
fn await_listener(address: IpAddr, port: u16) {
    eventually("somebody who listens", || {
        TcpStream::connect((address, port)).is_ok()
    });
}

/// What a program of the host's says that must succeed; tried until it does, for a server may be on its way up.
fn succeeds(words: &[&str]) -> String {
    let start = Instant::now();
    loop {
        let output = Command::new(words[0]).args(&words[1..]).output();
        let output = output.unwrap_or_else(|error| panic!("{words:?} does not run: {error}"));
        if output.status.success() {
            return String::from_utf8_lossy(&output.stdout).into_owned();
        }
        assert!(
            start.elapsed() < tests::PATIENCE,
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        thread::sleep(Duration::from_millis(200));
    }
}

/// The SHA-256 of a file, as sha256sum says it.
fn digest(file: &Path) -> String {
    let said = succeeds(&["sha256sum", &file.to_string_lossy()]);
    said.split(' ').next().unwrap_or_default().to_owned()
}

/// A package with one file, in a repository with nothing else.
fn repository(at: &Path) {
    let tree = at.join("tree");
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    std::fs::create_dir_all(tree.join("usr/share")).unwrap();
    let control = "Package: hull-test\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@localhost>\nDescription: A file\n";
    std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
    std::fs::write(tree.join("usr/share/hull-test"), "installed\n").unwrap();
    let file = at.join("hull-test_1.0_all.deb");
    let (tree, package) = (tree.to_string_lossy(), file.to_string_lossy());
    succeeds(&["dpkg-deb", "--root-owner-group", "--build", &tree, &package]);
    let size = file.metadata().unwrap().len();
    let packages = format!(
        "{control}Filename: ./hull-test_1.0_all.deb\nSize: {size}\nSHA256: {}\n",
        digest(&file)
    );
    std::fs::write(at.join("Packages"), packages).unwrap();
}

#[test]
fn curl_wget_and_apt_download_from_the_hosts_loopback_where_that_is_given() {
    let files = scratch("downloads").unwrap();
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(files.join("file"), bytes).unwrap();
    repository(&files);
    let right = digest(&files.join("file"));
    let port = free();
    let place = format!("127.0.0.1:{port}");
    let home = files.to_string_lossy();
    let _server = Service::new(&["busybox", "httpd", "-f", "-p", &place, "-h", &home]);
    await_listener(Ipv4Addr::LOCALHOST.into(), port);
    let script = format!(
        "from=http://host.hull.internal:{port}
         curl -sSf $from/file | sha256sum
         curl -sSf -r 1000000- $from/file | wc -c
         wget -q -O - $from/file | sha256sum
         for each in 1 2 3 4; do curl -sSf -o /tmp/$each $from/file & done; wait
         sha256sum /tmp/? | cut -d' ' -f1 | uniq -c | tr -s ' '
         curl -sS -o /dev/null -w '%{{http_code}}\\n' $from/absent
         rm -rf /etc/apt/sources.list*
         echo \"deb [trusted=yes] $from ./\" >/etc/apt/sources.list
         apt-get -qq update && apt-get -qq install hull-test >/tmp/said 2>&1 || cat /tmp/said
         cat /usr/share/hull-test"
    );
    debian()
        .option("--add-host=host.hull.internal:host-gateway")
        .run(&script)
        .prints(&format!(
            "{right}  -\n4000000\n{right}  -\n 4 {right}\n404\ninstalled\n"
        ));
    std::fs::remove_dir_all(files).unwrap();
}

/// A container that goes on, gone when dropped.
struct Published {
    _container: Container,
    port: String,
}

impl Published {
    fn new(name: &'static str, port: u16, user: &str, script: &str) -> Self {
        let _container = Container(name);
        let host = free();
        let publish = format!("-p=127.0.0.1:{host}:{port}");
        debian()
            .options(["-d", "--name", name, "-u", user, &publish])
            .command(["sh", "-c", script])
            .finish()
            .exits(0);
        let port = host.to_string();
        Self { _container, port }
    }
}

#[test]
fn redis_takes_load_through_a_published_port() {
    let script = "exec redis-server --port 6379 --protected-mode no --dir /var/lib/redis --save ''";
    let redis = Published::new("traffic-redis", 6379, "redis", script);
    let ask = |words: &[&str]| {
        succeeds(
            &[
                &["redis-cli", "-e", "-h", "127.0.0.1", "-p", &redis.port],
                words,
            ]
            .concat(),
        )
    };
    ask(&["ping"]);
    let load = ["-n", "2000", "-c", "50", "-q", "-t", "set,get,incr,mset"];
    let bench = ["redis-benchmark", "-h", "127.0.0.1", "-p", &redis.port];
    let told = succeeds(&[&bench[..], &load].concat());
    assert_eq!(told.matches("requests per second").count(), 4, "{told}");
    assert_eq!(ask(&["get", "counter:__rand_int__"]), "2000\n");
    let told = succeeds(&[&bench[..], &["-n", "19200", "-P", "64", "-q", "-t", "incr"]].concat());
    assert!(told.contains("requests per second"), "{told}");
    assert_eq!(ask(&["get", "counter:__rand_int__"]), "21200\n");
    // One value that is longer than any packet.
    let long = "x".repeat(1_000_000);
    std::fs::write("/tmp/traffic-long", &long).unwrap();
    let port = &redis.port;
    let line = format!("redis-cli -h 127.0.0.1 -p {port} -x set long </tmp/traffic-long");
    assert_eq!(succeeds(&["sh", "-c", &line]), "OK\n");
    assert_eq!(ask(&["get", "long"]).trim_end(), long);
}

#[test]
fn postgres_takes_load_through_a_published_port() {
    let script = "
        PATH=/usr/lib/postgresql/15/bin:$PATH
        initdb -A trust --no-instructions --no-sync -D /var/lib/postgresql/data >/dev/null
        echo 'host all all all trust' >>/var/lib/postgresql/data/pg_hba.conf
        exec postgres -D /var/lib/postgresql/data -k /tmp -h '*'";
    let postgres = Published::new("traffic-postgres", 5432, "postgres", script);
    let at = ["-h", "127.0.0.1", "-p", &postgres.port, "-U", "postgres"];
    let bench = |words: &[&str]| {
        let program = "/usr/lib/postgresql/15/bin/pgbench";
        succeeds(&[&[program], &at[..], words, &["postgres"]].concat())
    };
    bench(&["--initialize", "--quiet", "--scale=1"]);
    let told = bench(&["--client=8", "--transactions=25"]);
    let all = "number of transactions actually processed: 200/200";
    assert!(told.contains(all), "{told}");
    let told = bench(&[
        "--select-only",
        "--client=4",
        "--transactions=100",
        "--connect",
    ]);
    let all = "number of transactions actually processed: 400/400";
    assert!(told.contains(all), "{told}");
}

#[test]
fn iperf3_measures_both_ways_over_tcp_and_udp() {
    let [v4, _] = addresses();
    let (address, port) = (v4.to_string(), free().to_string());
    let _server = Service::new(&["iperf3", "-s", "-B", &address, "-p", &port]);
    await_listener(v4, port.parse().unwrap());
    // Of datagrams, which may be lost, half must come.
    let script = format!(
        "run() {{
             for try in 1 2 3 4 5 6 7 8 9; do
                 iperf3 -c {address} -p {port} -f k \"$@\" >/tmp/said 2>&1 && break
                 grep -q busy /tmp/said || break
                 sleep 1
             done
             grep 'iperf Done' /tmp/said || cat /tmp/said
         }}
         run -n 50M; run -n 50M -R; run -n 20M -P 4 --bidir
         for way in '' -R; do
             run -u -b 8M -t 2 $way
             sed -n 's/.*(\\([0-9.]*\\)%).*receiver/\\1/p' /tmp/said | while read -r lost; do
                 [ ${{lost%.*}} -lt 50 ] && echo arrived || cat /tmp/said
             done
         done"
    );
    let told = "iperf Done.\niperf Done.\niperf Done.\n";
    let datagrams = "iperf Done.\narrived\n".repeat(2);
    debian().run(&script).prints(&format!("{told}{datagrams}"));
}

#[test]
fn alone_ten_thousand_connections_at_once_carry_data() {
    let connections = amount("CONNECTIONS", 10_000);
    let [v4, _] = addresses();
    // A descriptor for each here, and in the process of hull, which inherits what is allowed at most.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = DESCRIPTORS + connections;
    let limit = Rlimit {
        current: Some(wanted),
        maximum: maximum.map(|most| most.max(wanted)),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let listener = TcpListener::bind((v4, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let memory = 512;
    let server = thread::spawn(move || {
        let accepted = (0..connections).map(|_| listener.accept().unwrap().0);
        let mut all: Vec<TcpStream> = accepted.collect();
        let ids = processes();
        let own = ids.iter().map(|id| own_memory(id, memory)).max();
        // Each is told what it says, the last first.
        for stream in all.iter_mut().rev() {
            let mut word = [0; 4];
            stream.read_exact(&mut word).unwrap();
            stream.write_all(&word).unwrap();
        }
        own.unwrap_or(0)
    });
    let script = format!(
        "import socket
all = [socket.create_connection(('{v4}', {port})) for number in range({connections})]
for number, each in enumerate(all):
    each.sendall(number.to_bytes(4, 'big'))
print(sum(int.from_bytes(each.recv(4), 'big') == number for number, each in enumerate(all)))"
    );
    let files = format!("--ulimit=nofile={}", connections + 100);
    let start = Instant::now();
    vm().image(&python())
        .options([&files, &format!("--memory={memory}m")])
        .command(["python3", "-c", &script])
        .limit(Duration::from_secs(600))
        .finish()
        .prints(&format!("{connections}\n"));
    let own = server.join().unwrap();
    assert!(own > 0 && own < MOST_MEMORY, "{own} MiB");
    println!(
        "{connections} connections at once in {:.0} s: {own} MiB in a process of hull beside its guest's memory",
        start.elapsed().as_secs_f64()
    );
}
