//! hull: runs containers, each in a virtual machine of its own. The launcher, and the
//! two processes that it starts with the same file: the VMM and the terminal's guard.

// First, for its macros.
#[macro_use]
mod output;

mod agent;
mod cgroup;
mod child;
mod cli;
mod config;
mod container;
mod control;
mod entries;
mod failure;
mod host;
mod human;
mod jail;
mod kept;
mod launch;
mod library;
mod listing;
mod lock;
mod machine;
mod networks;
mod packet;
mod plan;
mod policy;
mod progress;
mod publish;
mod registry;
mod resolving;
mod session;
mod signal;
mod snapshot;
mod sparse;
mod store;
mod supervise;
mod sys;
mod template;
mod terminal;
mod timings;
mod uplink;
mod vmm;
mod volume;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(verb) = std::env::args_os().nth(1) {
        if verb == "vmm" {
            return vmm::run();
        }
        if verb == terminal::GUARD {
            return terminal::guard();
        }
        #[cfg(feature = "hostile")]
        if verb == "acts" {
            return jail::taken_over::list();
        }
    }
    cli::main()
}
