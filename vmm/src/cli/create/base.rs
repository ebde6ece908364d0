//! What a new container is based on: an image of the store, which is fetched if need be, or a directory of the host.

use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use image::trust::Origin;
use image::{Execution, Store, StoreError};

use super::Args;
use crate::config::Root;
use crate::container::Volume;
use crate::failure::{Failure, NOT_FOUND};
use crate::policy::Policy;
use crate::registry::Wanted;
use crate::volume;

/// podman's: nothing is written to the directory.
const OVERLAY: &[u8] = b":O";

/// An image, or what is there instead.
pub(super) struct Base {
    /// What lists call it.
    pub(super) name: String,
    /// The image's id; empty for a directory.
    pub(super) id: String,
    /// How it wants to be run.
    pub(super) execution: Execution,
    /// The image's file system, in use as long as this is open.
    pub(super) file: Option<File>,
    pub(super) directory: Option<Volume>,
}

impl Args {
    /// What was typed; the parser has seen to it that there is something.
    fn image(&self) -> &OsStr {
        self.image.as_deref().unwrap_or_default()
    }

    /// What the root is to be made of; no file is looked at.
    pub(crate) fn root(&self) -> Root {
        match self.rootfs {
            false => Root::Image,
            true if self.inside.read_only || parts(self.image()).1 => Root::Lower,
            true => Root::Direct,
        }
    }
}

/// Finds it, under the policy.
pub(super) fn find(args: &Args, store: &Store, policy: &Policy) -> Result<Base, Failure> {
    if args.rootfs {
        return directory(args, policy);
    }
    let (image, file) = image(args, store, policy)?;
    Ok(Base {
        name: args.image().to_string_lossy().into_owned(),
        id: image.id.to_string(),
        execution: image.execution,
        file: Some(file),
        directory: None,
    })
}

/// `DIR`, and whether `:O` follows.
fn parts(typed: &OsStr) -> (&Path, bool) {
    let bytes = typed.as_bytes();
    let (path, overlay) = match bytes.strip_suffix(OVERLAY) {
        Some(path) => (path, true),
        None => (bytes, false),
    };
    (Path::new(OsStr::from_bytes(path)), overlay)
}

fn directory(args: &Args, policy: &Policy) -> Result<Base, Failure> {
    let (typed, overlay) = parts(args.image());
    let path = volume::resolved(typed)?;
    // With a layer over it, the server itself refuses whatever would change something.
    let read_only = args.root() != Root::Direct;
    policy.permits_rootfs(&path, read_only)?;
    let shown = path.display();
    let mut entries = std::fs::read_dir(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::new(format!("There is no directory {shown} on this host"))
            .hint("With --rootfs, the first word is a directory; without it, an image."),
        ErrorKind::NotADirectory => Failure::new(format!("{shown} is not a directory"))
            .hint("`hull import FILE NAME` makes an image of a tar of a root file system."),
        _ => Failure::new(format!("{shown} cannot be read: {error}")),
    })?;
    if entries.next().is_none() {
        let text = format!("The directory {shown} is empty: there is nothing in it to run");
        return Err(Failure::new(text)
            .code(NOT_FOUND)
            .hint("`hull export CONTAINER | tar -xC DIR` or debootstrap fills one."));
    }
    let suffix = if overlay { ":O" } else { "" };
    Ok(Base {
        name: format!("{shown}{suffix}"),
        id: String::new(),
        execution: Execution::default(),
        file: None,
        directory: Some(Volume {
            name: None,
            path,
            target: "/".to_owned(),
            read_only,
        }),
    })
}

/// How often an image that others remove is looked for.
const REMOVALS: usize = 3;

/// The image and its file system, which is in use from now on.
fn image(args: &Args, store: &Store, policy: &Policy) -> Result<(image::Image, File), Failure> {
    let mut removals = 0;
    loop {
        let wanted = args.fetch.find(store, args.image(), args.pull)?;
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

#[cfg(test)]
mod tests;
