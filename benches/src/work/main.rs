//! Work that is done in a container, and in a container of the host's own kernel, by this one static program: it says what each
//! piece took on the clock of the kernel that it runs on. Knows nothing of containers. On standard output a line for each:
//! nanoseconds, a space, and what was done.

mod calls;
mod cpu;
mod files;
mod net;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["cpu"] => cpu::compute(),
        ["memory-bound"] => cpu::memory(),
        ["syscall"] => calls::system_calls(),
        ["fork"] => calls::processes(),
        ["page-fault"] => calls::page_faults(),
        ["files"] => files::all(),
        ["serve"] => net::serve(),
        ["network", server] => net::ask(server),
        _ => bail!("The benchmarks call this program as it should be called"),
    }
}

/// Does it once, and says what it took. What it returns is made for the work alone, and is dropped within its time.
fn time<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<()> {
    time_each(what, 1, work)
}

/// The same for what is done so many times: a line says what one of them took.
fn time_each<T>(what: &str, times: u32, work: impl FnOnce() -> Result<T>) -> Result<()> {
    let start = Instant::now();
    let made = work().with_context(|| what.to_owned())?;
    drop(std::hint::black_box(made));
    let took = start.elapsed() / times;
    println!("{} {what}", took.as_nanos());
    Ok(())
}

/// A sequence of numbers that look random and are the same each time (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// The next, below this.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Runs a program that must succeed and says nothing.
fn succeed(program: impl AsRef<Path>, words: &[&str]) -> Result<()> {
    let program = program.as_ref();
    let status = std::process::Command::new(program).args(words).status();
    let status = status.with_context(|| format!("{} does not start", program.display()))?;
    anyhow::ensure!(
        status.success(),
        "{} ended with {status}",
        program.display()
    );
    Ok(())
}
