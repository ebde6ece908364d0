//! Blobs: configurations, manifests and layers byte for byte as they came. Knows their digests only.
//!
//! A blob appears under its name when it is complete and its digest has been checked. Configurations
//! are kept of every image; manifests and layers of images that were pulled, loaded or imported, so
//! that they can be saved and pushed unchanged. That costs the packed size of the image once more.
//! `hull run docker-archive:…` keeps none: the archive is still there.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::FlockOperation;

use super::directory::Temporary;
use super::{Store, StoreError};
use crate::Digest;

/// File that whoever adds to the store holds shared, and whoever collects garbage alone.
const LOCK: &str = "lock";

/// File that is held alone by whoever changes or judges what records and names say, for as long as that takes.
const TURN: &str = "turn";

/// Directory of the blobs; it has an OCI layout's names.
pub(super) const BLOBS: &str = "blobs/sha256";

/// Name of a blob within the store.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

/// A blob that is being written. Dropped before [`Store::keep_blobs`], it never was.
#[derive(Debug)]
pub struct BlobWriter<'a> {
    temporary: Temporary<'a>,
    digest: Digest,
}

impl BlobWriter<'_> {
    /// The empty file to write, at any place in any order.
    pub fn file(&self) -> &File {
        self.temporary.file()
    }
}

/// Proof that nothing is collected while it is held.
#[derive(Debug)]
pub struct Adding(#[expect(dead_code, reason = "the lock goes when the file is closed")] File);

/// Proof that nobody else changes records and names while it is held.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "the lock goes when the file is closed")] File);

/// Right to work on one thing that others may want too. They wait until it is dropped.
#[derive(Debug)]
pub struct Share<'a>(#[expect(dead_code, reason = "the lock goes with it")] Temporary<'a>);

impl Store {
    /// Starts a blob; none where it is there already. Two processes may write the same one: nobody
    /// waits, the last one wins, and both are right.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn blob_writer(&self, digest: &Digest) -> Result<Option<BlobWriter<'_>>, StoreError> {
        if self.has_blob(digest)? {
            return Ok(None);
        }
        let temporary = self.directory.create()?;
        Ok(Some(BlobWriter {
            temporary,
            digest: *digest,
        }))
    }

    /// Makes blobs durable and gives them their names. The caller has checked the digests.
    ///
    /// # Errors
    /// When the disk is full or broken.
    pub fn keep_blobs<'a>(
        &'a self,
        blobs: impl IntoIterator<Item = BlobWriter<'a>>,
    ) -> Result<(), StoreError> {
        let named = |blob: BlobWriter<'a>| (blob.temporary, blob_name(&blob.digest));
        self.directory
            .commit(blobs.into_iter().map(named).collect())
    }

    /// Whether a blob is there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.directory.length(&blob_name(digest))?.is_some())
    }

    /// Opens a blob, if it is there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        self.directory.open_file(&blob_name(digest))
    }

    /// A whole document, if it is there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.directory.read(&blob_name(digest))
    }

    /// Keeps a document.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.has_blob(&digest)? {
            self.directory.write(&blob_name(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Waits until nobody else works on `digest` and keeps them out. What they did is then there.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn share(&self, digest: &Digest) -> Result<Share<'_>, StoreError> {
        self.directory
            .lock(&format!("share/{}", digest.hex()))
            .map(Share)
    }

    /// Keeps the collector of garbage out. Taken by whoever adds blobs before an image refers to them.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn adding(&self) -> Result<Adding, StoreError> {
        self.lock_store(FlockOperation::LockShared).map(Adding)
    }

    /// Waits for this process's turn to change records and names: what is found in them stays so until it is
    /// dropped. Nobody waits for anything else meanwhile.
    pub(super) fn turn(&self) -> Result<Turn, StoreError> {
        self.lock_file(TURN, FlockOperation::LockExclusive)
            .map(Turn)
    }

    /// Locks the whole store.
    pub(super) fn lock_store(&self, operation: FlockOperation) -> Result<File, StoreError> {
        self.lock_file(LOCK, operation)
    }

    fn lock_file(&self, name: &str, operation: FlockOperation) -> Result<File, StoreError> {
        let file = self.directory.open_or_make(name)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(file.as_fd(), operation)).map_err(
            |errno| StoreError::File {
                action: "Locking",
                path: self.directory.path(name),
                source: errno.into(),
            },
        )?;
        Ok(file)
    }

    /// Locks the whole store, unless somebody adds to it just now.
    pub(super) fn try_lock_store(&self) -> Result<Option<File>, StoreError> {
        match self.lock_store(FlockOperation::NonBlockingLockExclusive) {
            Err(StoreError::File { source, .. })
                if source.kind() == std::io::ErrorKind::WouldBlock =>
            {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// True once for each `what`, ever: for things to be said once.
    pub fn first_time(&self, what: &str) -> bool {
        let name = format!("said/{}", Digest::of(what.as_bytes()).hex());
        matches!(self.directory.length(&name), Ok(None))
            && self.directory.write_cache(&name, b"").is_ok()
    }
}
