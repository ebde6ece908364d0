//! `hull run --from`: the container of a snapshot once more, as a new one.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use crate::cli::create::{self, Fate, Made, new_file};
use crate::cli::{snapshot, start};
use crate::container::{self, Config, Containers, LogDriver};
use crate::failure::Failure;
use crate::snapshot::named::{About, Snapshots};
use crate::supervise::Parts;
use crate::vmm::Rest;
use crate::{host, human, store, template};

/// Makes the container, and opens what its machine begins with.
pub(super) fn make(
    name: &str,
    args: &create::Args,
    root: Option<PathBuf>,
    fate: &Fate,
) -> Result<(Made, Rest), Failure> {
    host::check()?;
    let store = store::open(root.clone())?;
    let directory = store::directory(root)?;
    let found = Snapshots::of(&directory).get(name);
    let refused = |error| snapshot::refused(error).code(crate::failure::LAUNCHER);
    let found = found.map_err(refused)?;
    let rest = found.rest().map_err(refused)?;
    let disk = found.disk().map_err(refused)?;
    let About { config, root, .. } = found.about;
    start::permit(&config, &store)?;
    let kept = !(args.rm && fate.stays);
    let mut config = Config {
        id: container::new_id()?,
        name: args.name.clone(),
        created: human::nanoseconds(),
        // Whoever has them has the source, or somebody else.
        ports: Vec::new(),
        pidfile: None,
        interactive: false,
        remove: args.rm,
        log: if kept { config.log } else { LogDriver::None },
        timings: false,
        ..config
    };
    let mut task = found.task;
    task.process.stdin = false;
    let mac = container::mac(&config.id);
    if let (Some(card), Some(network)) = (&mut config.machine.network, &mut task.container.network)
    {
        card.mac = mac;
        network.mac = protocol::Bytes(mac.to_vec());
    }
    let parts = Parts::of_config(&config, &store)?;
    let file = parts.root.as_ref().map(File::metadata).transpose()?;
    if file.map(|file| template::fingerprint(&file)) != Some(root) {
        let text = format!("Snapshot {name} is of another image file than the store has now");
        return Err(Failure::new(text).hint(
            "Its image was removed and fetched again, or its directory moved: the guest remembers parts of the old file.",
        ));
    }
    let mut cidfile = args.cidfile.as_ref().map(new_file).transpose()?;
    let containers = Containers::open(&directory)?;
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
