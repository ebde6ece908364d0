//! What a guest's network carries: the same program in the same kernel, to the same server on the host, through hull's network,
//! QEMU's own and passt.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tests::bench::Target;

use crate::measure::Run;
use crate::record::{Clock, Record};
use crate::site::Site;
use crate::works::{self, Pieces};
use crate::{measure, peers};

/// The host, as each of them calls it.
const HOST: &str = "10.0.2.2";

pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    if record.clock() != Clock::Machine {
        // passt wants a host that has addresses and leads elsewhere.
        for words in [
            "addr replace 10.9.0.2/24 dev dummy0",
            "link set dummy0 up",
            "route replace default via 10.9.0.1",
        ] {
            let mut command = Command::new("ip");
            let done = command.args(words.split(' ')).output()?;
            measure::check(&command, &done)?;
        }
    }
    let mut server = Command::new(site.place().join("root/work"));
    let mut server = Process(server.arg("serve").stdout(Stdio::piped()).spawn()?);
    let said = server.0.stdout.take().context("It was asked for")?;
    let mut ready = String::new();
    BufReader::new(said).read_line(&mut ready)?;
    ensure!(ready == "ready\n", "The server says {ready:?}");
    let mut all = Vec::new();
    for who in site.runtimes(&["qemu", "passt"])? {
        let mut pieces = Pieces::new();
        ask(site, who).with_context(|| who.to_owned())?;
        measure::several(
            record,
            "the machine with all of this work",
            who,
            None,
            0,
            || {
                let run = ask(site, who).with_context(|| who.to_owned())?;
                // The first of those that are counted is the one that is timed.
                if pieces.is_empty() {
                    works::add(&mut pieces, &run.stdout)?;
                }
                Ok(run.milliseconds)
            },
        )?;
        all.push((who, pieces));
    }
    let of = |who: &str, name: &str| {
        let (_, pieces) = all.iter().find(|(other, _)| *other == who)?;
        let (_, samples) = pieces.iter().find(|(other, _)| other == name)?;
        samples.iter().copied().reduce(f64::min)
    };
    for (name, _) in all.first().map_or(&[][..], |(_, pieces)| pieces) {
        // Twice what QEMU's own network carries, and as much as passt.
        let peers = [of("qemu", name).map(|time| time / 2.0), of("passt", name)];
        let carried = peers.into_iter().flatten().reduce(f64::min);
        let target = match name.as_str() {
            "connect and close" => Some(0.5),
            "ask and be answered, a byte each" => Some(0.25),
            _ => carried,
        };
        for (who, pieces) in &all {
            let same = pieces.iter().find(|(other, _)| other == name);
            let (_, samples) = same.with_context(|| format!("{who} did not {name}"))?;
            let target = target.filter(|_| *who == "hull").map(Target::AtMost);
            record.time(name, who, samples.clone(), target);
        }
    }
    Ok(())
}

/// A guest with such a network, and what the program says in it.
fn ask(site: &Site, who: &str) -> Result<Run> {
    let words = ["/work", "network", HOST];
    if who == "hull" {
        let options = ["--start", "cold", "--add-host", "host:host-gateway"];
        let mut command = site.hull(&["run", "--rm"]);
        command.args(options).arg("bench").args(words);
        return measure::run(&mut command);
    }
    // passt makes it when it is nobody.
    let socket = std::env::temp_dir().join(format!("bench-{}.socket", std::process::id()));
    let _ = std::fs::remove_file(&socket);
    let mut passt = None;
    let (netdev, mtu) = match who {
        "passt" => {
            let mut command = Command::new("passt");
            command.args(["--foreground", "--one-off", "--quiet", "--socket"]);
            command.arg(&socket);
            // The same addresses as with the others.
            command.args(["--ipv4-only", "--address", "10.0.2.15", "--netmask", "24"]);
            command.args(["--gateway", HOST]);
            command.stdin(Stdio::null()).stderr(Stdio::null());
            passt = Some(Process(command.spawn().context("passt does not start")?));
            for _ in 0..100 {
                if socket.exists() {
                    break;
                }
                measure::settle();
            }
            let path = socket.display();
            let stream = format!("stream,id=net,server=off,addr.type=unix,addr.path={path}");
            (stream, "65520")
        }
        _ => ("user,id=net".to_owned(), "1500"),
    };
    let mut run = measure::run(&mut peers::networked(site.place(), &netdev, mtu))?;
    drop(passt);
    // The kernel speaks on the same console.
    let lines = run
        .stdout
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    run.stdout = lines.map(|line| format!("{}\n", line.trim_end())).collect();
    Ok(run)
}

/// A process that ends when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
