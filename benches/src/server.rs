//! A web server in python, from its start to its first answer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::measure::settle;
use crate::memory;
use crate::record::Record;
use crate::site::{Image, Site};

/// Where it listens.
const PORT: u16 = 8000;
/// Until somebody asks again whether it is there.
const PAUSE: Duration = Duration::from_millis(1);
/// Longer takes no answer: a published port is taken before its container is there, and who asks then may wait in vain.
const ANSWER: Duration = Duration::from_millis(20);
/// Samples; one before them does not count.
const SAMPLES: usize = 3;
/// Longer takes no server that comes up.
const PATIENCE: Duration = Duration::from_secs(60);

const WORDS: [&str; 4] = ["/usr/bin/python3", "-m", "http.server", "8000"];

pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    let name = "a web server in python3, to its first 200";
    for runtime in site.runtimes(&["crun", "runc"]) {
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
    let mut samples = Vec::new();
    for round in 0..=SAMPLES {
        settle();
        let took = first_answer(command()?)?;
        if round > 0 {
            samples.push(took);
        }
    }
    record.time(name, runtime, samples, None);
    Ok(())
}

/// Milliseconds to the first answer.
fn first_answer(mut command: Command) -> Result<f64> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
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
    let mut stream = TcpStream::connect(("127.0.0.1", PORT))?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.0 200"))
}
