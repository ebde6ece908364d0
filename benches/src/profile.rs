//! Where one start goes: the phases that `--timings` tells of, the kernel by its initcalls, and what is left to do when its user
//! has the result. Rows are named by their place in the whole, with semicolons between.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::counts;
use crate::measure;
use crate::record::Record;
use crate::site::{PLAIN, Site};
use crate::start::{TRUE, WARM, figure};

/// The launcher's phases, as `--timings` calls them, and what they belong to.
const PHASES: [(&str, &str); 8] = [
    ("image", "launcher"),
    ("VMM start", "launcher"),
    ("memory", "VMM"),
    ("load", "VMM"),
    ("machine", "VMM"),
    ("init", "guest"),
    ("workload", "guest"),
    ("exit", "launcher"),
];

/// Measures one start from a template.
pub(crate) fn warm(site: &Site, record: &mut Record) -> Result<()> {
    let phases = PHASES.map(|(row, of)| (if row == "load" { "restore" } else { row }, of));
    of_one(site, record, &WARM, &phases).map(drop)
}

/// Measures one start of each kind.
pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    let told = of_one(site, record, &PLAIN, &PHASES)?;
    let mut rest = figure(&told, "kernel")?;
    // From the guest's own memory: what was said before the console's driver came is lost there, for in its probe virtio_console
    // hands the console to the kernel before it can find its port.
    let logged = [&["--kernel-log=initcalls", "--privileged"][..], &PLAIN].concat();
    let dmesg = ["/bin/busybox", "dmesg", "-s", "1048576"];
    let log = measure::run(&mut site.run(&logged, &dmesg))?.stdout;
    let symbols = symbols()?;
    for (address, milliseconds) in initcalls(&log) {
        let name = symbols.get(&address).map_or("?", String::as_str);
        // Only the log has a console, on which all that was said before is said then.
        if name == "virtio_console_init" {
            continue;
        }
        rest -= milliseconds;
        let name = format!("guest;kernel;initcalls;{name}");
        record.time(&name, "hull", vec![milliseconds], None);
    }
    let name = "guest;kernel;before, between and after its initcalls";
    record.time(name, "hull", vec![rest.max(0.0)], None);
    Ok(())
}

/// Records the phases of one start, and gives what it told; one before it, which pulls programs into memory, does not count.
fn of_one(
    site: &Site,
    record: &mut Record,
    options: &[&str],
    phases: &[(&str, &str)],
) -> Result<String> {
    let run = || site.run(&[&["--timings"][..], options].concat(), &TRUE);
    measure::run(&mut run())?;
    let (mut told, mut ended) = (String::new(), Instant::now());
    counts::to_the_end(&mut || {
        told = measure::run(&mut run())?.stderr;
        ended = Instant::now();
        Ok(())
    })?;
    let teardown = ended.elapsed().as_secs_f64() * 1000.0;
    for (row, of) in phases {
        let name = format!("{of};{row}");
        record.time(&name, "hull", vec![figure(&told, row)?], None);
    }
    let name = "VMM;teardown, which nobody waits for";
    record.time(name, "hull", vec![teardown], None);
    Ok(told)
}

/// Addresses and milliseconds: `initcall 0xffffffff81… returned 0 after 12 usecs`.
fn initcalls(log: &str) -> Vec<(u64, f64)> {
    let call = |line: &str| {
        let (_, line) = line.split_once("initcall 0x")?;
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let microseconds: f64 = words.nth(3)?.parse().ok()?;
        (microseconds > 0.0).then_some((address, microseconds / 1000.0))
    };
    log.lines().filter_map(call).collect()
}

/// The kernel's own, from the file that was made with it.
fn symbols() -> Result<BTreeMap<u64, String>> {
    let ours = std::fs::read(crate::site::library()?.join("vmlinux"))?;
    let kernels = tests::target().join("kernel");
    let same = |home: &Path| std::fs::read(home.join("vmlinux")).is_ok_and(|one| one == ours);
    let mut homes = std::fs::read_dir(kernels)?
        .flatten()
        .map(|entry| entry.path());
    let home = homes.find(|home| same(home));
    let home = home.context("`cargo xtask kernel` has not made this kernel")?;
    let map = std::fs::read_to_string(home.join("System.map"))?;
    let line = |line: &str| {
        let mut words = line.split(' ');
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((address, words.nth(1)?.to_owned()))
    };
    Ok(map.lines().filter_map(line).collect())
}
