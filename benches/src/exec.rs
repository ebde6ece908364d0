//! A further command in a container that runs already. hull alone: what crun's exec takes does not repeat in the lab.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::measure;
use crate::record::Record;
use crate::site::{PLAIN, Site};
use crate::start::TRUE;

pub(crate) fn measure(site: &Site, record: &mut Record) -> Result<()> {
    let options = [&PLAIN[..], &["--detach", "--name", "bench-exec"]].concat();
    succeed(&mut site.run(&options, &["/bin/busybox", "sleep", "600"]))?;
    let words = [&["exec", "bench-exec"][..], &TRUE].concat();
    let name = "`true` in a container that runs";
    measure::timed(record, name, "hull", None, || Ok(site.hull(&words)))?;
    succeed(&mut site.hull(&["rm", "--force", "bench-exec"]))
}

/// Runs it without listening: a container's supervisor may have its streams as long as it lives.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = command.status()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
