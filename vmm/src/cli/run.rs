//! `hull run`: a command in a new container.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use image::trust::Origin;
use image::{Image, Store, StoreError};
use protocol::Status;

use super::Size;
use crate::agent::{Agent, AgentError, Signals};
use crate::failure::{Failure, NOT_EXECUTABLE, NOT_FOUND};
use crate::launch::{Died, Vmm};
use crate::library::{self, Library, LibraryError};
use crate::machine::report::End;
use crate::policy::Policy;
use crate::registry::{Fetch, Wanted, When};
use crate::terminal::{self, Raw};
use crate::timings::Clock;
use crate::vmm::DiskFile;
use crate::{host, jail, plan, store};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove the container when it ends (hull keeps nothing of a container
    /// that has ended, with or without this)
    #[arg(long)]
    pub(crate) rm: bool,
    /// Keep standard input open and pass it to the command
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
    /// Virtual processors, 1 to 16
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub(crate) cpus: String,
    /// Boot this kernel (an uncompressed ELF with a PVH entry) instead of hull's
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// Show the guest kernel's log on standard error
    #[arg(long)]
    pub(crate) kernel_log: bool,
    /// What to do on a host that forbids a layer of the VMM's jail: go on with
    /// the others, or run nothing
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub(crate) jail: jail::Mode,
    /// Print the phases of the run and its counts to standard error at the end
    #[arg(long)]
    pub(crate) timings: bool,
    /// When to ask the registry for the image
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: When,
    #[command(flatten)]
    pub(crate) fetch: Fetch,
    /// Image: NAME[:TAG] in a registry, an id or its beginning, docker-archive:FILE[:TAG], oci:DIR[:TAG],
    /// oci-archive:FILE[:TAG], rootfs:DIR, docker-daemon:NAME, containers-storage:NAME, or - for an archive
    /// on standard input
    pub(crate) image: OsString,
    /// Command and arguments, instead of the image's CMD
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let mut clock = Clock::start();
    let shape = plan::shape(args)?;
    if args.tty && args.interactive && !terminal::on_stdin() {
        return Err(Failure::new("Standard input is not a terminal")
            .hint("Leave -t out to pass it to the command as it is."));
    }
    let policy = Policy::of_system()?;
    policy.permits_shape(&shape)?;
    host::check()?;
    let library = Library::from_environment();
    let kernel = match &args.kernel {
        Some(path) => library::open(path)?,
        None => library.kernel(shape.cpus.count()).map_err(missing)?,
    };
    let initramfs = library.initramfs().map_err(missing)?;
    let store = store::open(root)?;
    let (image, file) = image(args, &store, &policy)?;
    let plan = plan::plan(args, &image.execution)?;
    clock.image();

    let signals = Signals::catch()?;
    let raw = (args.tty && args.interactive).then(Raw::enter);
    let raw = raw.transpose()?;
    let memory = shape.memory.bytes();
    let root = DiskFile {
        file: file.into(),
        read_only: true,
    };
    let mut vmm = Vmm::start(shape, kernel, initramfs, vec![root]).map_err(host::unfit)?;
    let outcome = Agent::new(&mut vmm, plan, signals).run();
    drop(raw);
    let outcome = outcome.map_err(unfinished)?;
    clock.exited();
    if args.timings {
        // The guest powers off by itself now; its report has the counts.
        let report = vmm
            .report()
            .map_err(|Died(status)| AgentError::Died(status))?;
        eprint!("{}", clock.table(&report, &outcome, memory));
    }
    Ok(ExitCode::from(match outcome.status {
        Status::Code(code) => code,
        Status::Signal(signal) => signal.saturating_add(128),
    }))
}

/// How often an image that others remove is looked for.
const REMOVALS: usize = 3;

/// The image and its file system, which is in use from now on.
fn image(args: &Args, store: &Store, policy: &Policy) -> Result<(Image, File), Failure> {
    let mut removals = 0;
    loop {
        let wanted = args.fetch.find(store, &args.image, args.pull)?;
        if let Wanted::Source(source) = &wanted {
            policy.permits_fetch(&Origin::of(source).to_string())?;
        }
        let image = args.fetch.obtain(store, &wanted, args.pull)?;
        let digests: Vec<_> = [&image.id].into_iter().chain(&image.manifest).collect();
        policy.permits_image(&image.origins, &digests)?;
        match store.open_root(&image) {
            Ok(file) => return Ok((image, file)),
            // Removed after it was found: that is as if it had not been there.
            Err(StoreError::Removed(_)) if removals < REMOVALS => removals += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn missing(error: LibraryError) -> Failure {
    Failure::new(error).hint(
        "`cargo xtask build` makes it, and HULL_LIB names the directory where it is;\n\
         `hull doctor` checks all that a run needs.",
    )
}

fn unfinished(error: AgentError) -> Failure {
    match &error {
        AgentError::Failed(_, protocol::Failure::NotFound) => Failure::new(error).code(NOT_FOUND),
        AgentError::Failed(_, protocol::Failure::NotExecutable) => {
            Failure::new(error).code(NOT_EXECUTABLE)
        }
        AgentError::Forced(signal) => {
            let code = signal.saturating_add(128);
            Failure::new(error).code(code)
        }
        AgentError::Ended(End::Emulation { .. }) => {
            Failure::new(error).hint(host::explain_emulated())
        }
        AgentError::Ended(End::Panic { .. } | End::TripleFault) | AgentError::Silent => {
            Failure::new(error).hint("`hull run --kernel-log` shows what the guest's kernel says.")
        }
        _ => Failure::new(error),
    }
}
