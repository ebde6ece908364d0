//! `hull version`: of hull and of what it runs with.

use std::io::{Read, Seek, SeekFrom};
use std::process::ExitCode;

use crate::failure::{Failure, escaped};
use crate::library::{Library, LibraryError, Opened};

/// How every Linux kernel names itself, in its read-only data.
const BANNER: &[u8] = b"Linux version ";
/// Where a kernel is looked through for its name: all of it, in steps.
const STEP: usize = 64 << 10;

pub(super) fn run() -> Result<ExitCode, Failure> {
    let library = Library::from_environment();
    println!("hull        {}", env!("CARGO_PKG_VERSION"));
    println!("protocol    {}", protocol::VERSION);
    println!("kernel      {}", described(library.kernel(1)));
    println!("kernel SMP  {}", described(library.kernel(2)));
    Ok(ExitCode::SUCCESS)
}

fn described(kernel: Result<Opened, LibraryError>) -> String {
    match kernel {
        Ok(mut kernel) => {
            let version = banner(&mut kernel.file);
            let version = version.as_deref().unwrap_or("not a Linux kernel");
            format!("{} ({})", escaped(version), kernel.path.display())
        }
        Err(error) => error.to_string(),
    }
}

/// The release in the first banner of an uncompressed kernel.
fn banner(kernel: &mut (impl Read + Seek)) -> Option<String> {
    let mut window = Vec::new();
    kernel.seek(SeekFrom::Start(0)).ok()?;
    loop {
        let kept = window.len().min(256);
        window.drain(..window.len() - kept);
        if kernel
            .by_ref()
            .take(STEP as u64)
            .read_to_end(&mut window)
            .ok()?
            == 0
        {
            return None;
        }
        let found = memchr::memmem::find(&window, BANNER);
        let rest = found.and_then(|at| window.get(at + BANNER.len()..));
        // The format string of the banner starts alike; a release starts with a digit.
        if let Some(rest) = rest.filter(|rest| rest.first().is_some_and(u8::is_ascii_digit)) {
            let release = rest.split(u8::is_ascii_whitespace).next()?;
            return Some(String::from_utf8_lossy(release).into_owned());
        }
    }
}
