//! What a container's machine is made of, open, and the start of its process. Refuses to know who supervises it.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use image::Store;

use crate::config::VmConfig;
use crate::container::{Config, Container};
use crate::failure::Failure;
use crate::launch::{Outside, Vmm};
use crate::library::{self, Library, LibraryError};
use crate::vmm::{DiskFile, Goal};
use crate::{host, resolving};

/// All that a virtual machine of this container is made of, open.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) kernel: library::Opened,
    pub(crate) initramfs: library::Opened,
    /// The image's file system, which counts as used while this is open. None where the root is a directory of the host, which is
    /// opened anew for each start.
    pub(crate) root: Option<File>,
}

impl Parts {
    /// Those of a container that was made before.
    pub(crate) fn of(container: &Container, store: &Store) -> Result<Self, Failure> {
        Self::of_config(&container.config, store)
    }

    /// Those of a container that was asked for so.
    pub(crate) fn of_config(config: &Config, store: &Store) -> Result<Self, Failure> {
        let root = match config.rootfs {
            Some(_) => None,
            None => Some(store.open_root(&store.resolve(&config.image_id)?)?),
        };
        Ok(Self {
            kernel: kernel(config.kernel.as_deref(), config.machine.cpus.count())?,
            initramfs: Library::from_environment().initramfs().map_err(missing)?,
            root,
        })
    }
}

/// The user's own kernel, or hull's for so many processors.
pub(crate) fn kernel(own: Option<&std::path::Path>, cpus: u8) -> Result<library::Opened, Failure> {
    match own {
        Some(path) => Ok(library::open(path)?),
        None => Library::from_environment().kernel(cpus).map_err(missing),
    }
}

/// A file of hull's own is not there.
pub(crate) fn missing(error: LibraryError) -> Failure {
    Failure::new(error).hint(
        "`cargo xtask build` makes it, and HULL_LIB names the directory where it is;\n\
         `hull doctor` checks all that a run needs.",
    )
}

/// What the machine of one container has beside; a template's has none of it, but an empty disk where containers will have theirs.
#[derive(Default)]
pub(crate) struct Own {
    pub(crate) outside: Outside,
    /// What keeps what it writes.
    pub(crate) disk: Option<File>,
}

impl Parts {
    /// The same files, none of which counts as used for that.
    pub(super) fn without_lock(self) -> std::io::Result<Self> {
        let open = |root: &File| File::open(format!("/proc/self/fd/{}", root.as_raw_fd()));
        let root = self.root.as_ref().map(open).transpose()?;
        Ok(Self { root, ..self })
    }

    /// A VMM process with these files, which stay open here.
    pub(crate) fn launch(&self, machine: &VmConfig, own: Own, goal: Goal) -> Result<Vmm, Failure> {
        let copy = |opened: &library::Opened| -> std::io::Result<library::Opened> {
            Ok(library::Opened {
                path: opened.path.clone(),
                file: opened.file.try_clone()?,
            })
        };
        let disk = |file: File, read_only| DiskFile {
            file: OwnedFd::from(file),
            read_only,
        };
        let root = self.root.as_ref().map(File::try_clone).transpose()?;
        let root = root.map(|file| disk(file, true));
        let kept = own.disk.map(|file| disk(file, false));
        let (kernel, initramfs) = (copy(&self.kernel)?, copy(&self.initramfs)?);
        let mut machine = machine.clone();
        if let Some(settings) = &mut machine.network
            && settings.resolvers.is_empty()
        {
            settings.resolvers = resolving::of_host().servers;
        }
        let disks = root.into_iter().chain(kept).collect();
        Vmm::start(machine, kernel, initramfs, disks, own.outside, goal).map_err(host::unfit)
    }
}
