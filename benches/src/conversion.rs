//! How fast an image becomes a file system: on the machine itself and its clock, for it is the machine's disk and memory
//! that are asked.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use tests::bench::Target;

use crate::record::Record;
use crate::{counts, measure};

/// Measures with the image of Debian with python3, which is not compressed.
pub(crate) fn measure(record: &mut Record) -> Result<()> {
    let file = tests::fixture::path("python.tar");
    let bytes = std::fs::metadata(&file)
        .context("`cargo xtask build --images` makes the image")?
        .len();
    let megabytes = f64::from(u32::try_from(bytes / 1000)?) / 1000.0;
    let mut samples = Vec::new();
    for _ in 0..3 {
        let place = tempfile::tempdir_in(tests::target())?;
        let start = Instant::now();
        convert(place.path(), &tests::fixture::python())?;
        samples.push(megabytes / start.elapsed().as_secs_f64());
    }
    let name = "an uncompressed image of Debian with python3";
    let target = Some(Target::AtLeast(300.0));
    let place = tempfile::tempdir_in(tests::target())?;
    let counts = counts::of(record.clock(), || {
        let store = tempfile::tempdir_in(place.path())?;
        let mut load = Command::new(tests::run::program());
        load.env("HULL_ROOT", store.path())
            .args(["load", "--input"]);
        measure::run(load.arg(&file)).map(drop)
    })?;
    record.add(name, "hull", "MB/s", samples, target).counts = counts;
    Ok(())
}

fn convert(root: &Path, source: &str) -> Result<()> {
    let store = image::Store::open(root)?;
    store.get(&image::reference::Source::parse(source.as_ref())?)?;
    Ok(())
}
