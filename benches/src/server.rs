//! A web server in python, from its start to its first answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::measure::settle;
use crate::record::Record;
use crate::site::{Image, Site};
use crate::{measure, memory};

/// Where it listens.
const PORT: u16 = 8000;
/// Until somebody asks again whether it is there.
const PAUSE: Duration = Duration::from_millis(1);
/// Longer takes no answer: a published port is taken before its container is there, and who asks then may wait in vain.
const ANSWER: Duration = Duration::from_millis(20);
/// Longer takes no server that comes up, on any clock.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves files, and does not ask what its own address is called: whether a name server answers that is none of ours.
const SERVER: &str = "import http.server, socketserver
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(('', 8000), http.server.SimpleHTTPRequestHandler).serve_forever()";
const WORDS: [&str; 3] = ["/usr/bin/python3", "-c", SERVER];

pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    let name = "a web server in python3, to its first 200";
    for runtime in site.runtimes(&["crun", "runc"])? {
        sample(record, name, runtime, || {
            site.image(runtime, Image::Python, &WORDS)
        })?;
    }
    let name = format!("{name}, from a template");
    sample(record, &name, "hull", || {
        Ok(site.hull_image(&["--start", "warm"], Image::Python, &WORDS))
    })
}

fn sample(
    record: &mut Record,
    name: &str,
    runtime: &str,
    command: impl Fn() -> Result<Command>,
) -> Result<()> {
    first_answer(command()?)?;
    measure::several(record, name, runtime, None, 2, || first_answer(command()?))
}

/// Milliseconds to the first answer.
fn first_answer(mut command: Command) -> Result<f64> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    settle();
    let start = Instant::now();
    let mut launcher = command.spawn()?;
    let mut answered = false;
    while !answered && start.elapsed() < PATIENCE {
        if let Some(status) = launcher.try_wait()? {
            bail!("{command:?} ended with {status}");
        }
        answered = ask().unwrap_or(false);
        if !answered {
            std::thread::sleep(PAUSE);
        }
    }
    let took = start.elapsed().as_secs_f64() * 1000.0;
    memory::end(&mut launcher)?;
    ensure!(answered, "{command:?} never answered");
    Ok(took)
}

/// Whether it answers as it should; what goes wrong meanwhile is that it is not there yet.
fn ask() -> std::io::Result<bool> {
    let server = SocketAddr::from(([127, 0, 0, 1], PORT));
    let mut stream = TcpStream::connect_timeout(&server, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(answer == *b"HTTP/1.0 200")
}
