//! `cargo xtask VERB`: builds, tests and measures hull on a bare Debian 12 machine.
//!
//! One module for each verb, each with `Args` (what can be typed, explained by its own `--help`) and `run(Args)`.
//! This file knows which verbs exist and nothing of what they do.

mod again;
mod apt;
mod bench;
mod build;
mod cpio;
mod demo;
mod fuzz;
mod kernel;
mod lab;
mod lint;
mod order;
mod progress;
mod soak;
mod sys;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, tests and measures hull.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// The verbs, in the order in which a newcomer meets them. A verb is listed here when it does what it says.
#[derive(Subcommand)]
enum Verb {
    /// Shows hull at work: installs and builds all it needs, then runs a container
    ///
    /// Makes an image out of Debian's busybox and runs it in a virtual machine: on this machine where its KVM boots Linux,
    /// else in the lab. Says how long each step takes.
    Demo(demo::Args),
    /// Runs every test: lint, unit, machine, end to end and the lab's own; then fuzzes a little
    ///
    /// The end-to-end tests run on this machine where its KVM boots Linux, else in the lab. Nothing is skipped.
    Test(test::Args),
    /// Checks format, lints, documentation and the files' shape
    Lint(lint::Args),
    /// Throws random and grown inputs at every parser and device model, under the address sanitizer
    ///
    /// The targets are in tests/fuzz/targets; they begin with the corpora in tests/fuzz/corpus, which the ordinary tests
    /// replay, and keep what they find in target/fuzz. Prints executions, the edges covered, and the lines that ran in each
    /// parser's file, for which it installs the LLVM tools of the compiler's version.
    Fuzz(fuzz::Args),
    /// Does for hours what the end-to-end tests do for a minute: a hostile guest, cycles, kills, damage
    ///
    /// On this machine where its KVM boots Linux, else in the lab. Prints figures.
    Soak(soak::Args),
    /// Measures hull against its targets, and against crun, runc and QEMU
    ///
    /// Times are those of the lab's clock, which are the same on every machine; only conversion and pull are timed on this
    /// one. Prints a table and keeps every sample in target/bench/results.json.
    Bench(bench::Args),
    /// Builds hull, guest kernels and initramfs into target/hull
    ///
    /// The layout is that of an installed hull: bin/hull, lib/hull/{vmlinux,vmlinux-smp,initramfs}. Prints the program's
    /// path. Quick when nothing has changed.
    Build(build::Args),
    /// Builds the guest kernels, or finds them in the cache
    ///
    /// The source is Debian's linux-source package; the options, each with its reason, are in kernel-config/. A kernel is
    /// built again when its options or the version of the source change. Prints the paths of the kernels.
    Kernel(kernel::Args),
    /// Writes vmm/start.ld, by which the functions that a start runs are together in hull
    ///
    /// Watches a start from a template in the lab, instruction by instruction. To be done when the start has changed much: the
    /// page faults that `cargo xtask bench --check` counts tell.
    Order(order::Args),
    /// Runs a command on an emulated AMD host whose KVM boots Linux; without a command, a shell
    ///
    /// The files of this machine are all there, under the same names; what the command writes is gone afterwards, except
    /// under --share-rw. Working directory, environment, arguments, the three streams and the exit code are as here.
    Lab(lab::Args),
    /// The other end of `lab`: what it starts in the emulated machine
    #[command(hide = true)]
    Inside,
    /// Runs a test program, and what of it fails once more
    #[command(hide = true)]
    Again(again::Args),
}

fn main() -> ExitCode {
    let result: anyhow::Result<ExitCode> = match Cli::parse().verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Lint(args) => lint::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Soak(args) => soak::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Build(args) => build::run(&args),
        Verb::Kernel(args) => kernel::run(&args),
        Verb::Order(args) => order::run(&args),
        Verb::Lab(args) => lab::run(args),
        Verb::Inside => lab::run_inside(),
        Verb::Again(args) => again::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            progress::failure(&error);
            ExitCode::FAILURE
        }
    }
}
