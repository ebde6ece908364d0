//! Where hull's own files are: the guest kernels and the initramfs with guest
//! init. It opens them; it does not know what they are for.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Names of the files that `cargo xtask build` makes.
const KERNEL: &str = "vmlinux";
const KERNEL_SMP: &str = "vmlinux-smp";
const INITRAMFS: &str = "initramfs";

/// A file of hull's own, open for reading.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

/// Why a file of hull's own could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LibraryError {
    #[error("{name} is in none of {}", .searched.join(", "))]
    Missing {
        name: &'static str,
        searched: Vec<String>,
    },
    #[error("Cannot open {}", .path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The directories searched, first match wins.
#[derive(Debug)]
pub(crate) struct Library {
    directories: Vec<PathBuf>,
}

impl Library {
    /// `$HULL_LIB` alone if set; else `../lib/hull` from the executable, then
    /// `/usr/local/lib/hull` and `/usr/lib/hull`.
    pub(crate) fn from_environment() -> Self {
        if let Some(directory) = env::var_os("HULL_LIB") {
            return Self {
                directories: vec![directory.into()],
            };
        }
        let beside = env::current_exe()
            .ok()
            .and_then(|exe| Some(exe.parent()?.parent()?.join("lib/hull")));
        let directories = beside
            .into_iter()
            .chain(["/usr/local/lib/hull", "/usr/lib/hull"].map(PathBuf::from))
            .collect();
        Self { directories }
    }

    /// The kernel for `cpus` virtual processors: the flavour without SMP for one.
    pub(crate) fn kernel(&self, cpus: u8) -> Result<Opened, LibraryError> {
        self.open(if cpus == 1 { KERNEL } else { KERNEL_SMP })
    }

    /// The initramfs with guest init.
    pub(crate) fn initramfs(&self) -> Result<Opened, LibraryError> {
        self.open(INITRAMFS)
    }

    fn open(&self, name: &'static str) -> Result<Opened, LibraryError> {
        for directory in &self.directories {
            match open(&directory.join(name)) {
                Err(LibraryError::Open { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
        let searched = self.directories.iter().map(|d| d.display().to_string());
        Err(LibraryError::Missing {
            name,
            searched: searched.collect(),
        })
    }
}

/// Opens a file that the user named instead of hull's own.
pub(crate) fn open(path: &Path) -> Result<Opened, LibraryError> {
    match File::open(path) {
        Ok(file) => Ok(Opened {
            path: path.to_owned(),
            file,
        }),
        Err(source) => Err(LibraryError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}
