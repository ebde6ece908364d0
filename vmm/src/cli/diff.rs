//! `hull diff`: what a container has changed of its image's files.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use protocol::{Change, Item, Work};

use super::ask;
use super::job::{ItemsError, Job};
use crate::config::Root;
use crate::failure::{Failure, escaped};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Container: a name, an id, or the beginning of one
    container: String,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let container = ask::find(&ask::containers(root.clone())?, &args.container)?;
    if container.config.machine.root == Root::Direct {
        let (name, image) = (&container.config.name, &container.config.image);
        let text =
            format!("Container {name} writes to {image} itself: nobody knows what was there");
        return Err(Failure::new(text).code(1).hint(
            "`hull run --rootfs DIR:O` leaves the directory as it is, and tells what differs.",
        ));
    }
    let mut job = Job::start(&container, root, Work::Changes)?;
    let done = print(&mut job);
    job.finish(done)?;
    Ok(ExitCode::SUCCESS)
}

fn print(job: &mut Job) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    while let Some(item) = job.next()? {
        let Item::Change(change, path) = item else {
            return Err(ItemsError::Unexpected.into());
        };
        let letter = match change {
            Change::Added => 'A',
            Change::Changed => 'C',
            Change::Removed => 'D',
        };
        writeln!(out, "{letter} {}", escaped(&String::from_utf8_lossy(&path)))?;
    }
    Ok(())
}
