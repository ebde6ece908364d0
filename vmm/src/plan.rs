//! What is meant by the arguments of `run` and the image's configuration: the
//! shape of the virtual machine and the process in it. Does nothing itself.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use image::Execution;
use protocol::{Bytes, Process, ProcessId};

use crate::agent::Task;
use crate::cli::{KernelLog, RunArgs, Size};
use crate::config::{ConfigError, Cpus, Memory, VmConfig};
use crate::terminal;
use crate::uplink::{Cidr, Uplink};

mod inside;
mod network;
mod seccomp;

pub(crate) use network::{card, ports, uplink};

pub(crate) use inside::{pids, volumes};

/// The first process of a container.
const WORKLOAD: ProcessId = ProcessId(1);
/// Linux's HOST_NAME_MAX.
const LONGEST_HOSTNAME: usize = 64;
/// An environment file larger than Linux's argument space cannot be meant.
const LARGEST_ENV_FILE: u64 = 2 << 20;

/// Why the arguments and the image make no run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0:?} is not a number of processors")]
    Cpus(String),
    #[error("Virtual processors are whole: {0} cannot be given")]
    Fraction(String),
    #[error("No command: the image names none, and none was given")]
    NoCommand,
    #[error("No command: a directory names none, and none was given")]
    NoCommandInDirectory,
    #[error("{} is not a variable: its name is empty or has blanks in it", .0.display())]
    Variable(OsString),
    #[error("Cannot read the environment file {}", .0.display())]
    EnvFile(PathBuf, #[source] io::Error),
    #[error("{} line {line}: {problem}", .path.display())]
    EnvLine {
        path: PathBuf,
        line: usize,
        problem: &'static str,
    },
    #[error("The seccomp profile {} cannot be used", .0.display())]
    Seccomp(PathBuf, #[source] seccomp::ProfileError),
    #[error("{0:?} is not a host name: 1 to 64 letters, digits, dots and hyphens")]
    Hostname(String),
    #[error("The working directory {} is not absolute", .0.display())]
    Workdir(OsString),
    #[error("{0:?} is not a domain name: at most 64 letters, digits, dots and hyphens")]
    Domainname(String),
    #[error("{} is not a {what}: it has blanks in it, or nothing", .text.escape_debug())]
    Word { what: &'static str, text: String },
    #[error("{0} needs a network, and --network none leaves none")]
    NoNetwork(&'static str),
    #[error("--network-alias needs a network of one's own: --network NAME")]
    NoNeighbours,
    #[error("{0:?} is not an alias: 1 to 64 letters, digits, dots and hyphens")]
    Alias(String),
    #[error("A container cannot have the address {0}: 10.0.2.3 to 10.0.2.254 are its network's")]
    Ip(Ipv4Addr),
    #[error(
        "{flag} cannot hold on {network}: what passes there is up to whoever is behind the device"
    )]
    NotOnDevice { flag: &'static str, network: String },
    #[error("{0} is for tap devices: --network tap:DEVICE")]
    OnDevice(&'static str),
    #[error("An address on a tap device needs the length of its network: --ip {0}/24")]
    Bits(IpAddr),
    #[error(
        "A container cannot have the address {0}: it is one that no card has, or its network's own"
    )]
    Unusable(Cidr),
    #[error("No address of the container is in the network of the gateway {0}")]
    Gateway(IpAddr),
    #[error("There are two gateways of one kind: {0} and {1}")]
    Gateways(IpAddr, IpAddr),
    #[error("A container has at most {most} published ports, not {0}", most = ::network::MOST_PORTS / 2)]
    Ports(usize),
    #[error("The image wants a volume on {0:?}, where none can be mounted")]
    Volume(String),
    #[error("Two file systems cannot be mounted on {0}")]
    MountedTwice(String),
}

/// Merges what was typed with what the image says, as docker does.
pub(crate) fn plan(
    args: &RunArgs,
    machine: &VmConfig,
    uplink: Option<&Uplink>,
    image: &Execution,
    id: &str,
) -> Result<Task, PlanError> {
    let hostname = match &args.hostname {
        Some(name) => checked_hostname(name)?,
        None => id.to_owned(),
    };
    let volumes = volumes(&args.inside, image)?;
    Ok(Task {
        container: inside::container(&args.inside, &volumes, machine, uplink, hostname)?,
        process: process(args, image)?,
    })
}

/// The virtual machine's shape; needs no image, so that it is refused before one is fetched.
pub(crate) fn shape(args: &RunArgs) -> Result<VmConfig, PlanError> {
    Ok(VmConfig {
        memory: memory(args.memory)?,
        cpus: cpus(&args.cpus)?,
        kernel_log: args.kernel_log.is_some(),
        initcalls: args.kernel_log == Some(KernelLog::Initcalls),
        jail: args.jail,
        network: network::settings(args)?,
        root: args.root(),
        // Which there are, an image says too.
        volumes: false,
        timings: false,
    })
}

/// Bytes as memory of a machine.
pub(crate) fn memory(Size(bytes): Size) -> Result<Memory, ConfigError> {
    Memory::mib(bytes.div_ceil(1 << 20))
}

/// A number of processors as it is typed.
pub(crate) fn cpus(text: &str) -> Result<Cpus, PlanError> {
    match text.parse::<u64>() {
        Ok(count) => Ok(Cpus::new(count)?),
        Err(_) if text.parse::<f64>().is_ok_and(|n| n > 0.0 && n < 1e6) => {
            Err(PlanError::Fraction(text.to_owned()))
        }
        Err(_) => Err(PlanError::Cpus(text.to_owned())),
    }
}

fn process(args: &RunArgs, image: &Execution) -> Result<Process, PlanError> {
    let given = args
        .command
        .iter()
        .map(|word| Bytes::from(word.as_os_str()));
    let argv: Vec<Bytes> = match &args.entrypoint {
        // docker: an entrypoint of one's own drops the image's CMD; an empty one drops only the entrypoint.
        Some(entrypoint) if !entrypoint.is_empty() => {
            std::iter::once(Bytes::from(entrypoint.as_os_str()))
                .chain(given)
                .collect()
        }
        replaced => {
            let entrypoint = image.entrypoint.iter().filter(|_| replaced.is_none());
            let entrypoint = entrypoint.map(|word| Bytes::from(word.as_str()));
            if args.command.is_empty() && replaced.is_none() {
                let command = image.cmd.iter().map(|word| Bytes::from(word.as_str()));
                entrypoint.chain(command).collect()
            } else {
                entrypoint.chain(given).collect()
            }
        }
    };
    if argv.first().is_none_or(|program| program.is_empty()) {
        return Err(match args.rootfs {
            true => PlanError::NoCommandInDirectory,
            false => PlanError::NoCommand,
        });
    }
    let cwd = match &args.workdir {
        Some(directory) => workdir(directory)?,
        None => Bytes::from(image.working_dir.as_str()),
    };
    let privileges = inside::privileges(&args.inside);
    Ok(Process {
        id: WORKLOAD,
        argv,
        env: environment(args, image)?,
        cwd,
        user: args.user.as_deref().unwrap_or(&image.user).into(),
        groups: inside::groups(&args.inside),
        stdin: args.interactive,
        terminal: args.tty.then(terminal::window),
        privileges,
        limits: inside::limits(&args.inside),
        filters: inside::filters(&args.inside, privileges)?,
    })
}

/// A working directory, which is absolute.
pub(crate) fn workdir(directory: &OsStr) -> Result<Bytes, PlanError> {
    match directory.as_bytes().starts_with(b"/") {
        true => Ok(directory.into()),
        false => Err(PlanError::Workdir(directory.to_owned())),
    }
}

/// The image's variables, then those that were asked for; a later one wins.
fn environment(args: &RunArgs, image: &Execution) -> Result<Vec<Bytes>, PlanError> {
    let mut env = Vec::new();
    let mut more = variables(args.tty, &args.env_file, &args.env)?;
    if args.tty {
        // The image's own is better, the user's best.
        env.push(more.remove(0));
    }
    let of_image = image
        .env
        .iter()
        .map(|variable| Bytes::from(variable.as_str()));
    replace(&mut env, of_image.collect());
    replace(&mut env, more);
    Ok(env)
}

/// The variables of a terminal, those of the files, and those of the flags.
pub(crate) fn variables(
    tty: bool,
    files: &[PathBuf],
    flags: &[OsString],
) -> Result<Vec<Bytes>, PlanError> {
    let mut variables = Vec::new();
    if tty {
        variables.push(b"TERM=xterm".to_vec());
    }
    for path in files {
        variables.extend(env_file(path)?);
    }
    for typed in flags {
        let name = typed
            .as_bytes()
            .split(|byte| *byte == b'=')
            .next()
            .unwrap_or_default();
        if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
            return Err(PlanError::Variable(typed.clone()));
        }
        variables.extend(inherited(typed.as_bytes()));
    }
    Ok(variables.into_iter().map(Bytes).collect())
}

/// Puts variables in the place of those with the same names, or adds them.
pub(crate) fn replace(variables: &mut Vec<Bytes>, more: Vec<Bytes>) {
    let name = |v: &Bytes| v.split(|byte| *byte == b'=').next().map(<[u8]>::to_vec);
    for variable in more {
        match variables
            .iter_mut()
            .find(|old| name(old) == name(&variable))
        {
            Some(old) => *old = variable,
            None => variables.push(variable),
        }
    }
}

/// `NAME=VALUE` as it stands; a bare `NAME` with hull's own value, or nothing when hull has none.
fn inherited(typed: &[u8]) -> Option<Vec<u8>> {
    if typed.contains(&b'=') {
        return Some(typed.to_vec());
    }
    let value = env::var_os(OsStr::from_bytes(typed))?;
    Some([typed, b"=", value.as_bytes()].concat())
}

/// docker's format: one variable a line, `#` starts a comment line, blank lines do not count.
fn env_file(path: &Path) -> Result<Vec<Vec<u8>>, PlanError> {
    let failed = |error| PlanError::EnvFile(path.to_owned(), error);
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    io::Read::read_to_end(&mut io::Read::take(file, LARGEST_ENV_FILE), &mut bytes)
        .map_err(failed)?;
    let mut variables = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let problem = |problem| PlanError::EnvLine {
            path: path.to_owned(),
            line: index + 1,
            problem,
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let name = line.split(|byte| *byte == b'=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(problem("no variable name before the equals sign"));
        }
        if name.iter().any(u8::is_ascii_whitespace) {
            return Err(problem("the variable's name has blanks in it"));
        }
        if line.contains(&0) {
            return Err(problem("a NUL byte cannot be part of a variable"));
        }
        variables.extend(inherited(line));
    }
    Ok(variables)
}

fn checked_hostname(name: &str) -> Result<String, PlanError> {
    if is_hostname(name) {
        Ok(name.to_owned())
    } else {
        Err(PlanError::Hostname(name.to_owned()))
    }
}

fn is_hostname(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    let fits = (1..=LONGEST_HOSTNAME).contains(&name.len());
    fits && name.chars().all(allowed) && !name.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests;
