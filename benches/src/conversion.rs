//! How fast an image becomes a file system: on the machine itself and its clock, for it is the machine's disk and memory
//! that are asked.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use tests::bench::Target;

use crate::record::Record;

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
    record.add(name, "hull", "MB/s", samples, target);
    Ok(())
}

fn convert(root: &Path, source: &str) -> Result<()> {
    let store = image::Store::open(root)?;
    store.get(&image::reference::Source::parse(source.as_ref())?)?;
    Ok(())
}
