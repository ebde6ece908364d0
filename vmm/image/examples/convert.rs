//! `convert STORE SOURCE…`: converts images as `hull run` would, and says how long each took.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(root) = arguments.next() else {
        eprintln!("usage: convert STORE SOURCE…");
        return ExitCode::FAILURE;
    };
    match arguments.try_for_each(|source| convert(Path::new(&root), &source)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("caused by: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn convert(root: &Path, source: &OsString) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let store = image::Store::open(root)?;
    let image = store.get(&image::reference::Source::parse(source)?)?;
    let took = start.elapsed();
    println!(
        "{} {} {} bytes {took:.1?}",
        image.id,
        image.path.display(),
        image.bytes
    );
    Ok(())
}
