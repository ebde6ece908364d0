//! The container of a snapshot once more, as a new one: `hull run --from` and `hull clone`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use image::Store;

use crate::cli::create::{Made, new_file};
use crate::cli::{snapshot, start};
use crate::container::{self, Config, Containers, LogDriver};
use crate::failure::Failure;
use crate::policy::Policy;
use crate::snapshot::named::Snapshot;
use crate::supervise::Parts;
use crate::vmm::Rest;
use crate::volume::Volumes;
use crate::{host, human};

/// What can be said of a copy.
pub(in crate::cli) struct Copy<'a> {
    /// Its name; an empty one is made up.
    pub(in crate::cli) name: String,
    /// It goes when it ends.
    pub(in crate::cli) remove: bool,
    /// Nobody can ask for its output afterwards.
    pub(in crate::cli) silent: bool,
    /// Where its id is written.
    pub(in crate::cli) cidfile: Option<&'a PathBuf>,
}

/// Makes the container in the store of this directory, and opens what its machine begins with.
pub(in crate::cli) fn make(
    found: &Snapshot,
    copy: Copy<'_>,
    store: &Store,
    directory: &Path,
) -> Result<(Made, Rest), Failure> {
    host::check()?;
    let refused = |error| snapshot::refused(error).code(crate::failure::LAUNCHER);
    let rest = found.rest().map_err(refused)?;
    let disk = found.disk().map_err(refused)?;
    snapshot::image_of(found, store)?;
    let config = found.about.config.clone();
    start::permit(&config, store)?;
    let mut config = Config {
        id: container::new_id()?,
        name: copy.name,
        created: human::nanoseconds(),
        // Whoever has them has the source, or somebody else.
        ports: Vec::new(),
        pidfile: None,
        interactive: false,
        remove: copy.remove,
        log: if copy.silent {
            LogDriver::None
        } else {
            config.log
        },
        ..config
    };
    config.machine.timings = false;
    let mut task = found.task.clone();
    task.process.stdin = false;
    let mac = container::mac(&config.id);
    if let (Some(card), Some(network)) = (&mut config.machine.network, &mut task.container.network)
    {
        card.mac = mac;
        network.mac = protocol::Bytes(mac.to_vec());
    }
    let parts = Parts::of_config(&config, store)?;
    let _held = volumes(&config, directory)?;
    let mut cidfile = copy.cidfile.map(new_file).transpose()?;
    let containers = Containers::open(directory)?;
    let (container, supervision) = containers.create_with(config, &task, disk.as_ref())?;
    if let Some(file) = &mut cidfile {
        file.write_all(container.config.id.as_bytes())?;
    }
    let made = Made {
        container,
        supervision,
        task,
        parts,
    };
    Ok((made, rest))
}

/// What a copy sees of the host, which it has together with the source and other copies: whether it may, and what keeps it there
/// until the copy does.
fn volumes(config: &Config, directory: &Path) -> Result<Option<File>, Failure> {
    if config.volumes.is_empty() {
        return Ok(None);
    }
    let policy = Policy::of_system()?;
    let volumes = Volumes::open(directory)?;
    let held = volumes.hold()?;
    for volume in &config.volumes {
        match &volume.name {
            Some(name) => drop(volumes.get(name)?),
            None => policy.permits_volume(&volume.path, volume.read_only)?,
        }
    }
    Ok(Some(held))
}
