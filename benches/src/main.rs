//! The scenarios that this project is measured by, each with its target. `cargo xtask bench` runs those of the lab there with
//! `--icount`, where a millisecond is a million instructions on any machine, and the others on the machine itself; with
//! `--host`, all of them. Names and form of the results are in `tests::bench`.

mod clones;
mod conversion;
mod counts;
mod exec;
mod footprint;
mod many;
mod measure;
mod memory;
mod network;
mod peers;
mod profile;
mod pull;
mod record;
mod server;
mod site;
mod snapshots;
mod start;
mod volume;
mod works;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::record::{Clock, Record};
use crate::site::{Image, Site};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Arguments: the file for the rows, whose clock measures, the peers with commas between them, and the scenarios.
fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, clock, against, scenarios @ ..] = &arguments[..] else {
        bail!("`cargo xtask bench` calls this program as it should be called");
    };
    let against: Vec<&str> = against.split(',').filter(|peer| !peer.is_empty()).collect();
    let clock = match clock.as_str() {
        "lab" => Clock::Lab,
        "counts" => Clock::Counts,
        _ => Clock::Machine,
    };
    let images: Vec<Image> = scenarios.iter().flat_map(|name| images(name)).collect();
    let mut record = Record::new(clock, file.into());
    // In memory, so that no disk is measured; and made only where a scenario needs it.
    let mut site = None;
    for scenario in scenarios {
        record.begin(scenario);
        match scenario.as_str() {
            "conversion" => conversion::measure(&mut record)?,
            "pull" => pull::measure(&mut record)?,
            _ => {
                let site = match &mut site {
                    Some(site) => site,
                    none => none.insert(Site::new(&against, clock, &images)?),
                };
                in_lab(scenario, site, &mut record)?;
            }
        }
    }
    record.write()
}

/// What a scenario runs besides busybox.
fn images(scenario: &str) -> Vec<Image> {
    match scenario {
        "memory" => vec![Image::Python, Image::Servers],
        "files" | "server" | "snapshots" => vec![Image::Python],
        _ => Vec::new(),
    }
}

fn in_lab(scenario: &str, site: &Site, record: &mut Record) -> Result<()> {
    match scenario {
        "start" => start::cold(site, record),
        "start-warm" => start::warm(site, record),
        "phases" => start::phases(site, record),
        "footprint" => footprint::measure(site, record),
        "memory" => memory::measure(site, record),
        "network" => network::measure(site, record),
        "profile" => profile::measure(site, record),
        "profile-warm" => profile::warm(site, record),
        "exec" => exec::measure(site, record),
        "many" => many::measure(site, record),
        "clones" => clones::measure(site, record),
        "snapshots" => snapshots::measure(site, record),
        "server" => server::measure(site, record),
        "files" => {
            works::measure(scenario, site, record)?;
            match record.clock() {
                Clock::Counts => Ok(()),
                _ => volume::measure(site, record),
            }
        }
        _ => works::measure(scenario, site, record),
    }
}
