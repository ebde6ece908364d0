//! `hull create`, and what `hull run` shares with it: a new container that does not run yet.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Inside, NetworkFlags, Size, Source, health};
use crate::agent::Task;
use crate::config::{Root, VmConfig};
use crate::container::log::{Limits, LogOption};
use crate::container::storage as disk;
use crate::container::{
    self, Config, Container, Containers, LogDriver, Restart, Supervision, Volume,
};
use crate::failure::Failure;
use crate::library::Library;
use crate::networks::{self, Membership, NetworkError, Networks};
use crate::policy::Policy;
use crate::registry::{Fetch, When};
use crate::supervise::{self, Parts};
use crate::uplink::Uplink;
use crate::volume::{self, Volumes};
use crate::{host, human, jail, plan, signal, store};

mod base;

/// How much of the guest kernel's log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KernelLog {
    /// What it says by itself
    All,
    /// And what each of its initcalls takes
    Initcalls,
}

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Name of the container [default: two random words]
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) name: String,
    /// Remove the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Write the container's id to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Write the process id of the virtual machine to this file whenever it starts
    #[arg(long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,
    /// Call the container by a label; without a value, an empty one
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Read labels from a file, one KEY[=VALUE] a line
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<PathBuf>,
    /// What becomes of the output: json-file keeps the last of it for
    /// `hull logs`
    #[arg(long, value_name = "DRIVER", default_value = "json-file")]
    pub(crate) log_driver: LogDriver,
    /// How much of the output is kept: max-size=SIZE of a file [default: 20m], and
    /// max-file=NUMBER of files [default: 2]
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) log_opt: Vec<LogOption>,
    /// Signal with which `hull stop` asks for the end [default: the image's, or
    /// SIGTERM]
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<signal::Name>,
    /// Seconds after which `hull stop` ends what goes on
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub(crate) stop_timeout: u64,
    /// When to start the container again after its end: no,
    /// on-failure[:TIMES], always or unless-stopped (its supervisor does it; a
    /// reboot ends them all)
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub(crate) restart: Restart,
    #[command(flatten)]
    pub(crate) health: health::Flags,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set an environment variable; without a value, take hull's own
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<OsString>,
    /// Read environment variables from a file, one NAME[=VALUE] a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory inside the container, created when missing
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<OsString>,
    /// User, and group if given, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Replace the image's ENTRYPOINT (and drop its CMD)
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<OsString>,
    /// Host name of the container [default: 12 hexadecimal digits, its id]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Memory of the virtual machine, taken from the host as it is used
    #[arg(short, long, value_name = "SIZE", default_value = "256m")]
    pub(crate) memory: Size,
    /// Disk that keeps what the container writes while it is stopped: its most,
    /// taken from the host as it is used; 0 writes to memory, and nothing is kept
    /// [default: 10g; 0 with --rm]
    #[arg(long, value_name = "SIZE")]
    pub(crate) storage: Option<Size>,
    /// Virtual processors, 1 to 16
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub(crate) cpus: String,
    /// Boot this kernel (an uncompressed ELF with a PVH entry) instead of hull's
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// Show the guest kernel's log on standard error; `initcalls` adds what each
    /// part of its start takes
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub(crate) kernel_log: Option<KernelLog>,
    /// What to do on a host that forbids a layer of the VMM's jail: go on with
    /// the others, or run nothing
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub(crate) jail: jail::Mode,
    /// How the machine comes to be: cold boots it, warm makes it from a template
    /// (a machine that booted for this image and shape before, and ran nothing),
    /// auto does that from the second time on [default: HULL_START, or auto]
    #[arg(long, value_name = "WAY")]
    pub(crate) start: Option<container::Way>,
    #[command(flatten)]
    pub(crate) inside: Inside,
    #[command(flatten)]
    pub(crate) network: NetworkFlags,
    /// When to ask the registry for the image
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: When,
    #[command(flatten)]
    pub(crate) fetch: Fetch,
    /// Run in a directory of the host instead of an image, and write to it; with --read-only
    /// nothing is written to it, and with DIR:O it goes to the container's own layer
    #[arg(long)]
    pub(crate) rootfs: bool,
    /// Image: NAME[:TAG] in a registry, an id or its beginning, docker-archive:FILE[:TAG], oci:DIR[:TAG],
    /// oci-archive:FILE[:TAG], rootfs:DIR, docker-daemon:NAME, containers-storage:NAME, or - for an archive
    /// on standard input. With --rootfs, a directory: DIR[:O]
    #[arg(required = true)]
    pub(crate) image: Option<OsString>,
    /// Command and arguments, instead of the image's CMD
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// A container that was just made and is not started yet, and all that starting it takes.
pub(super) struct Made {
    pub(super) container: Container,
    pub(super) supervision: Supervision,
    pub(super) task: Task,
    pub(super) parts: Parts,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let made = make(args, root, &Fate::default())?;
    println!("{}", made.container.config.id);
    Ok(ExitCode::SUCCESS)
}

/// What only a run settles.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// Its report is wanted.
    pub(super) timings: bool,
    /// Whoever starts it stays, and nobody can ask for its output afterwards.
    pub(super) stays: bool,
}

/// Makes the container: everything that can be refused is refused before there is one.
pub(super) fn make(args: &Args, root: Option<PathBuf>, fate: &Fate) -> Result<Made, Failure> {
    if args.rm && args.restart != Restart::No {
        return Err(Failure::new(
            "--rm and --restart do not go together: what is removed cannot be started again",
        ));
    }
    if args.start == Some(container::Way::Warm) && args.kernel_log.is_some() {
        return Err(Failure::new(
            "--start warm and --kernel-log do not go together: the kernel of a template has booted long ago",
        ));
    }
    if args.start == Some(container::Way::Warm) && args.rootfs {
        return Err(Failure::new(
            "--start warm and --rootfs do not go together: a template's root is an image",
        ));
    }
    let mut machine = plan::shape(args)?;
    let policy = Policy::of_system()?;
    let uplink = plan::uplink(&args.network, !args.inside.dns.is_empty())?;
    let led = uplink.as_ref().map(Uplink::name);
    policy.permits_shape(&machine, led.as_deref().or(args.network.network.own()))?;
    host::check()?;
    let kernel = supervise::kernel(args.kernel.as_deref(), machine.cpus.count())?;
    let initramfs = Library::from_environment();
    let initramfs = initramfs.initramfs().map_err(supervise::missing)?;
    let store = store::open(root.clone())?;
    let base = base::find(args, &store, &policy)?;
    let id = container::new_id()?;
    if let (Some(card), None) = (&mut machine.network, args.network.mac_address) {
        card.mac = container::mac(&id);
    }
    let root = store::directory(root)?;
    // Held until the container is there, which then has its address.
    let (network, _given) = membership(args, &mut machine, &root)?;
    let task = plan::plan(
        args,
        &machine,
        uplink.as_ref(),
        &base.execution,
        container::short(&id),
    )?;
    let exposed = base.execution.exposed_ports.keys();
    let ports = plan::ports(&args.network, exposed)?;
    policy.permits_ports(&ports)?;
    // Held until the container is there, which then has them.
    let wanted = plan::volumes(&args.inside, &base.execution)?;
    let (volumes, _held) = volumes(&wanted, &root, &policy)?;
    let kept = !(args.rm && fate.stays);
    let words = task.process.argv.iter();
    let config = Config {
        id,
        name: args.name.clone(),
        created: human::nanoseconds(),
        image: base.name,
        image_id: base.id,
        rootfs: base.directory,
        machine: VmConfig {
            volumes: !volumes.is_empty(),
            timings: fate.timings,
            ..machine
        },
        ports,
        network,
        uplink,
        kernel: args.kernel.as_ref().map(std::path::absolute).transpose()?,
        command: words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect(),
        tty: args.tty,
        interactive: args.interactive,
        remove: args.rm,
        labels: labels(args)?,
        log: if kept {
            args.log_driver
        } else {
            LogDriver::None
        },
        health: args.health.check(&base.execution),
        log_limits: limits(args),
        pidfile: args.pidfile.as_ref().map(std::path::absolute).transpose()?,
        stop_signal: match (args.stop_signal, &base.execution.stop_signal) {
            (Some(signal::Name(number)), _) => number,
            (None, Some(text)) => text.parse::<signal::Name>()?.0,
            (None, None) => signal::TERM,
        },
        stop_timeout: args.stop_timeout,
        restart: args.restart,
        storage: storage(args)?,
        start: way(args)?,
        volumes,
    };
    let parts = Parts {
        kernel,
        initramfs,
        root: base.file,
    };
    if let Some(path) = &config.pidfile {
        File::create(path).map_err(|error| {
            let text = format!("The file for the process id, {}", path.display());
            Failure::new(format!("{text}, cannot be made: {error}"))
        })?;
    }
    let mut cidfile = args.cidfile.as_ref().map(new_file).transpose()?;
    let containers = Containers::open(&root)?;
    let (container, supervision) = containers.create(config, &task)?;
    if let Some(file) = &mut cidfile {
        file.write_all(container.config.id.as_bytes())?;
    }
    Ok(Made {
        container,
        supervision,
        task,
        parts,
    })
}

/// What decides where the command line does not.
const START: &str = "HULL_START";

/// How the machine comes to be.
fn way(args: &Args) -> Result<container::Way, Failure> {
    match (args.start, std::env::var(START)) {
        (Some(way), _) => Ok(way),
        (None, Err(_)) => Ok(container::Way::Auto),
        (None, Ok(text)) => clap::ValueEnum::from_str(&text, false).map_err(|_| {
            Failure::new(format!("{START} is \"{text}\", which is no way to start"))
                .hint("It is auto, cold or warm, as of --start.")
        }),
    }
}

/// The disk of a container that may be started again, unless it was said otherwise.
const STORAGE: u64 = 10 << 30;

/// Bytes of its disk; 0 is none.
fn storage(args: &Args) -> Result<u64, Failure> {
    match args.storage {
        // What is written goes to the directory.
        None | Some(Size(0)) if args.root() == Root::Direct => Ok(0),
        Some(_) if args.root() == Root::Direct => Err(Failure::new(
            "--storage and --rootfs DIR do not go together: what is written goes to the directory",
        )
        .hint("`--rootfs DIR:O` leaves the directory as it is, and writes to a disk.")),
        None if args.rm => Ok(0),
        None => Ok(STORAGE),
        Some(Size(0)) => Ok(0),
        Some(Size(bytes)) if (disk::LEAST..=disk::MOST).contains(&bytes) => Ok(bytes),
        Some(_) => Err(Failure::new("A disk has 16m to 8t of storage")
            .hint("`--storage 0` keeps what the container writes in its memory, until it ends.")),
    }
}

/// What the last word on each of them says.
fn limits(args: &Args) -> Limits {
    let mut limits = Limits::default();
    for option in &args.log_opt {
        match *option {
            LogOption::MaxSize(bytes) => limits.size = bytes,
            LogOption::MaxFile(files) => limits.files = files,
        }
    }
    limits
}

/// The container's place in a network of the user's own, with an address in it, and what keeps it free.
fn membership(
    args: &Args,
    machine: &mut VmConfig,
    root: &Path,
) -> Result<(Option<Membership>, Option<File>), Failure> {
    let (Some(name), Some(card)) = (args.network.network.own(), &mut machine.network) else {
        return Ok((None, None));
    };
    let networks = Networks::open(root)?;
    let given = networks.hold()?;
    let containers = Containers::open(root)?;
    let address = networks.address(name, args.network.ip.map(|ip| ip.address), &containers);
    card.address = address.map_err(|error| match error {
        NetworkError::Unknown(_) => {
            Failure::new(error).hint(format!("`hull network create {name}` makes it."))
        }
        error => error.into(),
    })?;
    card.address6 = network::address_in(networks::subnet(name), card.address);
    let membership = Membership {
        name: name.to_owned(),
        aliases: args.network.network_alias.clone(),
    };
    Ok((Some(membership), Some(given)))
}

/// What the container is to see of the host, and what keeps it there.
fn volumes(
    wanted: &[super::Volume],
    root: &Path,
    policy: &Policy,
) -> Result<(Vec<Volume>, Option<File>), Failure> {
    if wanted.is_empty() {
        return Ok((Vec::new(), None));
    }
    for volume in wanted {
        if let Source::Path(path) = &volume.source {
            policy.permits_volume(&volume::resolved(path)?, volume.read_only)?;
        }
    }
    let volumes = Volumes::open(root)?;
    let held = volumes.hold()?;
    let found = wanted.iter().map(|wanted| volumes.find(wanted));
    Ok((found.collect::<Result<_, _>>()?, Some(held)))
}

pub(super) fn new_file(path: &PathBuf) -> Result<File, Failure> {
    File::create_new(path).map_err(|error| {
        let text = format!("The file for the container's id, {}", path.display());
        Failure::new(format!("{text}, cannot be made: {error}"))
            .hint("Remove it if it is left from a container that is no more.")
    })
}

/// Those of the files, then those of the flags; a later one wins.
fn labels(args: &Args) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = BTreeMap::new();
    let mut set = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        match key.is_empty() || key.contains(char::is_whitespace) {
            true => Err(Failure::new(format!("{text:?} is no label: KEY[=VALUE]"))),
            false => {
                labels.insert(key.to_owned(), value.to_owned());
                Ok(())
            }
        }
    };
    for path in &args.label_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("Reading {} failed: {error}", path.display())))?;
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .try_for_each(&mut set)?;
    }
    args.label.iter().try_for_each(|text| set(text))?;
    Ok(labels)
}
