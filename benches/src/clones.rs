//! Copies of a container that runs, made by one command, until each has run `true` and nothing is left of it.

use anyhow::Result;
use tests::bench::Target;

use crate::exec::succeed;
use crate::measure;
use crate::record::Record;
use crate::site::{PLAIN, Site};
use crate::start::TRUE;

/// How many copies, and in how many lab ms at most.
const COUNTS: [(usize, Option<Target>); 3] =
    [(1, None), (10, None), (100, Some(Target::AtMost(300.0)))];

pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    let options = ["--detach", "--storage", "0", "--name", "bench-source"];
    let options = [&PLAIN[..], &options].concat();
    succeed(&mut site.run(&options, &["/bin/busybox", "sleep", "6000"]))?;
    for (count, target) in COUNTS {
        let number = count.to_string();
        let copies = ["clone", "--rm", "--number", &number, "bench-source"];
        let words = [&copies[..], &TRUE].concat();
        let run = || Ok(measure::run(&mut site.hull(&words))?.milliseconds);
        if count == 1 {
            run()?;
        }
        let name = format!("{count} copies of a container, each having run `true`");
        if count <= measure::TRACED {
            measure::several(record, &name, "hull", target, 1, run)?;
        } else {
            measure::once(record, &name, "hull", target, run)?;
        }
    }
    succeed(&mut site.hull(&["rm", "--force", "bench-source"]))
}
