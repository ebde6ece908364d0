//! `hull cp` and `hull export`: files between a container and the host, or a tar.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use protocol::{Bytes, Item, Work};

use super::ask;
use super::job::Job;
use crate::container::Container;
use crate::entries::disk::Taker;
use crate::entries::{CopyError, Keep, disk, tar};
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keep owners and groups
    #[arg(short, long)]
    archive: bool,
    /// Copy what the source leads to if it is a link
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Accepted for docker's sake: nothing is said
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, or a path of the host, or - for a tar on standard input
    source: OsString,
    /// CONTAINER:PATH, or a path of the host, or - for a tar on standard output
    destination: OsString,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Container: a name, an id, or the beginning of one
    container: String,
}

/// One side of a copy.
enum Side<'a> {
    Container(&'a str, Vec<u8>),
    Host(&'a Path),
    Tar,
}

impl<'a> Side<'a> {
    /// As docker reads it: a name, a colon, a path; what begins with a dot or a slash is the host's.
    fn parse(text: &'a OsStr) -> Self {
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Self::Tar;
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        match colon.and_then(|at| Some((bytes.get(..at)?, bytes.get(at + 1..)?))) {
            Some((name, path))
                if !name.is_empty() && !name.starts_with(b".") && !name.contains(&b'/') =>
            {
                match std::str::from_utf8(name) {
                    // Paths start at the root, whatever the working directory is.
                    Ok(name) => Self::Container(name, [b"/", path.trim_start_with(b'/')].concat()),
                    Err(_) => Self::Host(Path::new(text)),
                }
            }
            _ => Self::Host(Path::new(text)),
        }
    }
}

/// Strips a byte that is repeated at the beginning.
trait TrimStart {
    fn trim_start_with(&self, byte: u8) -> &Self;
}

impl TrimStart for [u8] {
    fn trim_start_with(&self, byte: u8) -> &Self {
        let start = self.iter().position(|other| *other != byte);
        self.get(start.unwrap_or(self.len())..).unwrap_or_default()
    }
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let keep = Keep {
        owner: args.archive,
    };
    let find = |name: &str| ask::find(&ask::containers(root.clone())?, name);
    match (Side::parse(&args.source), Side::parse(&args.destination)) {
        (Side::Container(name, path), Side::Host(to)) => {
            let container = find(name)?;
            let name = last_name(&path);
            let mut taker = Taker::new(to, &name, keep);
            let done = receive(args, &container, root, &path, |entry, content| {
                taker.take(entry, content)
            });
            done?;
            taker.finish()?;
        }
        (Side::Container(name, path), Side::Tar) => {
            let container = find(name)?;
            let mut out = standard_output()?;
            let name = last_name(&path);
            receive(args, &container, root, &path, |entry, content| {
                tar::write(&mut out, &name, entry.clone(), content)
            })?;
            tar::end(&mut out)?;
        }
        (Side::Host(from), Side::Container(name, path)) => {
            let container = find(name)?;
            std::fs::symlink_metadata(from).map_err(|error| {
                Failure::new(format!("{} cannot be read: {error}", from.display())).code(1)
            })?;
            let name = host_name(from)?;
            send(&container, root, path, name, |to| {
                disk::send(from, args.follow_link, keep, to)
            })?;
        }
        (Side::Tar, Side::Container(name, path)) => {
            let container = find(name)?;
            let keep = Keep { owner: true };
            send(&container, root, path, Vec::new(), |to| {
                tar::send(io::stdin(), keep, to)
            })?;
        }
        (Side::Container(..), Side::Container(..)) => {
            return Err(Failure::new("One side has to be the host").hint(
                "`hull cp ONE:PATH - | hull cp - OTHER:DIR` goes from one container to another.",
            ));
        }
        _ => {
            return Err(
                Failure::new("One side has to be a container, as CONTAINER:PATH")
                    .hint("`hull ps --all` lists what there is."),
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a copy of a path is called; nothing for `.` at its end, which means what is in it.
fn last_name(path: &[u8]) -> Vec<u8> {
    match Path::new(OsStr::from_bytes(path)).file_name() {
        Some(name) if !path.ends_with(b"/.") => name.as_bytes().to_vec(),
        _ => Vec::new(),
    }
}

/// The same of the host, where `.` and `..` have names too.
fn host_name(path: &Path) -> Result<Vec<u8>, Failure> {
    if path.as_os_str().as_bytes().ends_with(b"/.") {
        return Ok(Vec::new());
    }
    let name = |path: &Path| path.file_name().map(|name| name.as_bytes().to_vec());
    match name(path) {
        Some(name) => Ok(name),
        None => Ok(name(&path.canonicalize()?).unwrap_or_default()),
    }
}

/// What a path in a container has, entry by entry.
fn receive(
    args: &Args,
    container: &Container,
    root: Option<PathBuf>,
    path: &[u8],
    take: impl FnMut(&protocol::Entry, &mut dyn io::Read) -> Result<(), CopyError>,
) -> Result<(), Failure> {
    let work = Work::Pack {
        path: Bytes(path.to_vec()),
        follow: args.follow_link,
        whole: false,
    };
    let mut job = Job::start(container, root, work)?;
    let done = entries(&mut job, take);
    finish(job, done)
}

/// Ends the job; tells why this side gave up before what the guest thinks of that.
fn finish(job: Job, done: Result<(), CopyError>) -> Result<(), Failure> {
    match done {
        Err(error) if error.is_ours() => {
            let _ = job.finish(Ok(()));
            Err(Failure::new(error).code(1))
        }
        done => job.finish(done.map_err(Failure::new)),
    }
}

/// All entries of a job that packs.
fn entries(
    job: &mut Job,
    mut take: impl FnMut(&protocol::Entry, &mut dyn io::Read) -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let cut = |error| CopyError::Stream(io::Error::other(error));
    while let Some(item) = job.next().map_err(cut)? {
        match item {
            Item::Entry(entry) => take(&entry, job.bytes())?,
            _ => return Err(CopyError::Unexpected),
        }
    }
    Ok(())
}

fn send(
    container: &Container,
    root: Option<PathBuf>,
    path: Vec<u8>,
    name: Vec<u8>,
    from: impl FnOnce(&mut dyn Write) -> Result<(), CopyError>,
) -> Result<(), Failure> {
    let work = Work::Unpack {
        path: Bytes(path),
        name: Bytes(name),
    };
    let mut job = Job::start(container, root, work)?;
    let input = job.input()?;
    let mut out = BufWriter::with_capacity(64 << 10, input);
    let sent = from(&mut out).and_then(|()| out.flush().map_err(CopyError::Stream));
    drop(out);
    finish(job, sent)
}

fn standard_output() -> Result<BufWriter<io::StdoutLock<'static>>, Failure> {
    let out = io::stdout();
    if out.is_terminal() {
        return Err(Failure::new("Standard output is a terminal")
            .code(1)
            .hint("Send the archive into a file, or through a pipe."));
    }
    Ok(BufWriter::with_capacity(64 << 10, out.lock()))
}

/// The whole root file system of a container as a tar.
pub(super) fn export(args: &ExportArgs, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let container = ask::find(&ask::containers(root.clone())?, &args.container)?;
    let job = root_of(&container, root)?;
    match &args.output {
        None => pour(job, &mut standard_output()?)?,
        Some(path) => {
            let file = File::create(path).map_err(|error| {
                Failure::new(format!("{} cannot be made: {error}", path.display())).code(1)
            })?;
            pour(job, &mut BufWriter::new(file))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The packing of all that a container's root has.
pub(super) fn root_of(container: &Container, root: Option<PathBuf>) -> Result<Job, Failure> {
    let work = Work::Pack {
        path: "/".into(),
        follow: false,
        whole: true,
    };
    Job::start(container, root, work)
}

/// Writes what is packed as a tar.
pub(super) fn pour(mut job: Job, out: &mut dyn Write) -> Result<(), Failure> {
    let done = entries(&mut job, |entry, content| {
        tar::write(out, b"", entry.clone(), content)
    });
    finish(job, done)?;
    Ok(tar::end(out)?)
}
