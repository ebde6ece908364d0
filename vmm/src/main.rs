//! hull: runs containers, each in a virtual machine of its own. Two programs in
//! one file: the launcher, and the VMM process that it starts.

mod agent;
mod cli;
mod config;
mod failure;
mod host;
mod human;
mod launch;
mod library;
mod listing;
mod machine;
mod plan;
mod policy;
mod progress;
mod registry;
mod store;
mod sys;
mod timings;
mod vmm;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "vmm") {
        return vmm::run();
    }
    cli::main()
}
