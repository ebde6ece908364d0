//! Servers that are left alone: detached, with their data in a volume, loaded through `exec`, stopped in their own way, and there
//! again with what they had been given.

use std::ops::Deref;
use std::time::{Duration, Instant};

use tests::fixture::{busybox, python, servers};
use tests::{Container, hull};

/// A volume of this name, removed after the container that has it.
struct Volume(&'static str);

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = hull(["volume", "rm", self.0]).finish();
    }
}

/// A container and a volume of the same name, gone when the test is over.
struct Service {
    container: Container,
    _volume: Volume,
}

impl Service {
    /// Runs a command with the volume at a place.
    fn run(
        name: &'static str,
        image: &str,
        place: &str,
        options: &[&str],
        command: &[&str],
    ) -> Self {
        let volume = format!("{name}:{place}");
        let words = ["-d", "--name", name, "-v", &volume, "--memory=512m"];
        let run = hull(["run"]).image(image).options(words);
        let run = run.options(options);
        let service = Self {
            container: Container(name),
            _volume: Volume(name),
        };
        run.command(command).finish().exits(0);
        service
    }

    /// Repeats a script until it succeeds.
    fn until(&self, script: &str) {
        let start = Instant::now();
        loop {
            let outcome = self.exec(script);
            if outcome.status.success() {
                return;
            }
            let late = start.elapsed() > tests::PATIENCE;
            assert!(!late, "{outcome:?} {:?}", self.logs(&[]));
            // Whoever asks takes time from what it waits for.
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Ends it as its image would have it, which it does in time and with this exit code.
    fn stops(&self, code: &str) {
        let stop = self.verb("stop", &["-t", "600"], &[]).finish();
        assert!(stop.exits(0).took < tests::PATIENCE, "{stop:?}");
        assert_eq!(self.field("State.Status"), "exited");
        assert_eq!(self.field("State.ExitCode"), code);
    }

    fn starts(&self) {
        self.verb("start", &[], &[]).finish().exits(0);
    }
}

impl Deref for Service {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.container
    }
}

#[test]
fn redis_keeps_what_it_was_given() {
    let words = [
        "redis-server",
        "--dir",
        "/data",
        "--appendonly",
        "yes",
        "--save",
        "",
    ];
    let redis = Service::run("service-redis", &servers(), "/data", &[], &words);
    redis.until("redis-cli ping");
    redis
        .exec("redis-benchmark -q -n 2000 -c 20 -t set,incr | grep -c 'requests per second'; redis-cli set name hull")
        .prints("2\nOK\n");
    redis.stops("0");
    redis.starts();
    redis.until("redis-cli ping");
    redis
        .exec("redis-cli get name; redis-cli get counter:__rand_int__")
        .prints("hull\n2000\n");
    redis.stops("0");
}

#[test]
fn postgres_keeps_what_it_was_given() {
    let script = "test -d /data/db || { install -d -o postgres /data/db; su postgres -c '/usr/lib/postgresql/15/bin/initdb -A trust --no-instructions --no-sync -D /data/db'; }; \
                  exec setpriv --reuid=postgres --regid=postgres --init-groups /usr/lib/postgresql/15/bin/postgres -D /data/db -k /tmp";
    let options = ["--stop-signal=SIGINT", "--shm-size=128m"];
    let words = ["sh", "-c", script];
    let postgres = Service::run("service-postgres", &servers(), "/data", &options, &words);
    let up = "test -S /tmp/.s.PGSQL.5432 && psql -h /tmp -U postgres -c 'select 1'";
    let query = |text: &str| postgres.exec(&format!("psql -h /tmp -U postgres -XAtq -c '{text}'"));
    postgres.until(up);
    query("create table t as select n from generate_series(1, 1000) n").exits(0);
    let load = "for client in 1 2 3 4; do psql -h /tmp -U postgres -XAtq -c 'insert into t select n from generate_series(1, 500) n' & done; wait";
    postgres.exec(load).exits(0);
    // SIGINT is what it calls a fast shutdown.
    postgres.stops("0");
    postgres.starts();
    postgres.until(up);
    query("select count(*) from t").prints("3000\n");
    postgres.stops("0");
}

#[test]
fn web_servers_keep_their_files() {
    let script = "printf 'events {} http { server { listen 80; root /srv; } }' >/tmp/conf; exec nginx -c /tmp/conf -g 'daemon off; pid /tmp/pid;'";
    let options = ["--stop-signal=SIGQUIT"];
    let nginx = Service::run(
        "service-nginx",
        &servers(),
        "/srv",
        &options,
        &["sh", "-c", script],
    );
    let words = ["python3", "-m", "http.server", "-d", "/srv", "80"];
    let options = ["--stop-signal=SIGINT"];
    let web = Service::run("service-python", &python(), "/srv", &options, &words);
    let ask = "python3 -c 'import urllib.request as u; [u.urlopen(\"http://127.0.0.1/file\").read() for _ in range(50)]; \
               print(len(u.urlopen(\"http://127.0.0.1/file\").read()))'";
    let fetch = "for n in $(seq 50); do curl -sf -o /dev/null http://127.0.0.1/file || exit 1; done; curl -sf http://127.0.0.1/file | wc -c";
    for (service, load, code) in [(&nginx, fetch, "0"), (&web, ask, "0")] {
        service.exec("head -c 100000 /dev/zero >/srv/file").exits(0);
        service.until(load);
        service.exec(load).prints("100000\n");
        service.stops(code);
        service.starts();
        service.until(load);
        service.exec(load).prints("100000\n");
        service.stops(code);
    }
}

#[test]
fn stop_asks_with_the_containers_signal_for_as_long_as_it_says() {
    let script =
        "trap 'echo asked; exit 7' USR1; trap '' TERM; echo up; while :; do sleep 0.1; done";
    let options = ["--stop-signal=USR1", "--stop-timeout=50"];
    let it = Service::run(
        "service-asked",
        &busybox(),
        "/data",
        &options,
        &["sh", "-c", script],
    );
    it.wait_for("up");
    it.verb("stop", &[], &[]).finish().exits(0);
    it.wait_for("asked");
    assert_eq!(it.field("State.ExitCode"), "7");
    // Who does not hear is killed when the time is over.
    let deaf = ["--stop-timeout=2"];
    let script = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    let deaf = Service::run(
        "service-deaf",
        &busybox(),
        "/data",
        &deaf,
        &["sh", "-c", script],
    );
    deaf.wait_for("up");
    let stop = deaf.verb("stop", &[], &[]).finish();
    assert!(stop.exits(0).took >= Duration::from_secs(2), "{stop:?}");
    assert_eq!(deaf.field("State.ExitCode"), "137");
}

#[test]
fn a_policy_starts_again_what_nobody_stopped() {
    let script =
        "echo run >>/data/runs; test $(wc -l </data/runs) -ge 3 && exec sleep 1000; exit 4";
    for (name, policy) in [
        ("service-always", "always"),
        ("service-unless", "unless-stopped"),
    ] {
        let option = format!("--restart={policy}");
        let it = Service::run(name, &busybox(), "/data", &[&option], &["sh", "-c", script]);
        it.until("test $(wc -l </data/runs) -ge 3");
        assert_eq!(it.field("RestartCount"), "2");
        assert_eq!(it.field("HostConfig.RestartPolicy.Name"), policy);
        it.verb("stop", &["-t", "0"], &[]).finish().exits(0);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(it.field("State.Status"), "exited");
    }
}
