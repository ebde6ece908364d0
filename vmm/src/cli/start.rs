//! `hull start` and `hull restart`: containers that were made before.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::ask;
use image::Store;

use crate::container::{Config, Container, events};
use crate::control::{Request, Socket};
use crate::failure::Failure;
use crate::policy::Policy;
use crate::registry::{Fetch, Wanted, When};
use crate::session::{self, Left, Part};
use crate::supervise::{self, Parts};
use crate::terminal::{self, Keys};
use crate::{host, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Stay, and take part in the container's output and its end
    #[arg(short, long)]
    attach: bool,
    /// Stay, and pass standard input on to a container that was made with -i
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave the command alone and give the terminal back: characters, and ctrl- with one, with commas between
    #[arg(long, value_name = "KEYS", default_value = terminal::DETACH)]
    detach_keys: Keys,
    /// Containers: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RestartArgs {
    /// Seconds after which what goes on is ended [default: the container's own]
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS")]
    time: Option<u64>,
    /// Containers: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    if args.attach || args.interactive {
        return match &args.containers[..] {
            [one] => attached(args, one, root),
            _ => Err(Failure::new("Only one container can be attached to")),
        };
    }
    ask::each(
        root.clone(),
        &args.containers,
        |_, container| match container.is_supervised() {
            true => Ok(()),
            false => ask::started(&start(
                container,
                root.clone(),
                &Request::Start { bound: false },
            )?),
        },
    )
}

fn attached(args: &Args, name: &str, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let container = ask::find(&ask::containers(root.clone())?, name)?;
    let config = container.config.clone();
    let stdin = args.interactive && config.interactive;
    let first = Request::Attach {
        stdin,
        bound: false,
    };
    let socket = match ask::connect(&container)? {
        Some(socket) => {
            socket.send(&first, None)?;
            socket
        }
        None => start(container, root, &first)?,
    };
    let part = Part {
        tty: config.tty,
        detach_keys: args.detach_keys.clone(),
        stdin,
        once: true,
        signals: !config.tty,
        fresh: false,
        bound: false,
    };
    take_part(&socket, part)
}

/// Takes part to the end, or until the user leaves.
pub(super) fn take_part(socket: &Socket, part: Part) -> Result<ExitCode, Failure> {
    match session::run(socket, part)? {
        Left::Detached => Ok(ExitCode::SUCCESS),
        Left::Ended(ended) => Ok(ExitCode::from(session::exit_code(ended.result?))),
    }
}

/// Starts a container that does not run, under the policies of today; `first` is asked of its supervisor.
fn start(container: Container, root: Option<PathBuf>, first: &Request) -> Result<Socket, Failure> {
    host::check()?;
    let store = store::open(root)?;
    permit(&container.config, &store)?;
    let parts = Parts::of(&container, &store)?;
    let task = container.task()?;
    let supervision = container.supervise()?;
    supervise::start(
        container,
        supervision,
        task,
        parts,
        None,
        first,
        &mut Vec::new(),
    )
}

/// Whether the policies of today let a container run that was asked for so.
pub(super) fn permit(config: &Config, store: &Store) -> Result<(), Failure> {
    let policy = Policy::of_system()?;
    policy.permits_shape(&config.machine, config.own_network())?;
    match &config.rootfs {
        Some(directory) => policy.permits_rootfs(&directory.path, directory.read_only)?,
        None => {
            let image = Wanted::Stored(Box::new(store.resolve(&config.image_id)?), None);
            let image = Fetch::default().obtain(store, &image, When::Never)?;
            let digests: Vec<_> = [&image.id].into_iter().chain(&image.manifest).collect();
            policy.permits_image(&image.origins, &digests)?;
        }
    }
    Ok(())
}

pub(super) fn restart(args: &RestartArgs, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    ask::each(root.clone(), &args.containers, |containers, container| {
        let config = &container.config;
        let grace = Duration::from_secs(args.time.unwrap_or(config.stop_timeout));
        ask::stop(&container, config.stop_signal, grace)?;
        let again = ask::find(containers, &config.id)?;
        ask::started(&start(
            container,
            root.clone(),
            &Request::Start { bound: false },
        )?)?;
        events::note(&again, "restart", None);
        Ok(())
    })
}
