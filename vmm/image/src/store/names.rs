//! Names of images: tags and digests of registries. One small file each, so that naming is one rename
//! and looking up is one read.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Image, Store, StoreError};
use crate::Digest;
use crate::reference::Reference;

/// Directory of the names.
pub(super) const NAMES: &str = "names";

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tagged {
    /// The whole name: `docker.io/library/alpine:latest`, or with `@sha256:…`.
    pub name: String,
    /// Id of the image.
    pub image: Digest,
    /// What `NAME@sha256:…` names: the index it was chosen from, or its manifest.
    pub manifest: Option<Digest>,
    /// When it was named, in seconds since 1970.
    pub at: u64,
}

pub(super) fn file_name(name: &str) -> String {
    // A name may be longer than a file name.
    format!("{NAMES}/{}", Digest::of(name.as_bytes()).hex())
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

impl Store {
    /// Lets `name` stand for `image` from now on, whatever it stood for before.
    ///
    /// # Errors
    /// When the store cannot be written, or has no such image.
    pub fn tag(
        &self,
        name: &Reference,
        image: &Digest,
        manifest: Option<&Digest>,
    ) -> Result<(), StoreError> {
        let _turn = self.turn()?;
        if self.find(image)?.is_none() {
            return Err(StoreError::Unknown(*image));
        }
        self.write_name(name, image, manifest)
    }

    /// The same, by whoever has the turn and knows that the image is there.
    pub(super) fn write_name(
        &self,
        name: &Reference,
        image: &Digest,
        manifest: Option<&Digest>,
    ) -> Result<(), StoreError> {
        let name = name.to_string();
        let file = file_name(&name);
        let tagged = Tagged {
            name,
            image: *image,
            manifest: manifest.copied(),
            at: now(),
        };
        self.directory.write_json(&file, &tagged)
    }

    /// What a name stands for.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn tagged(&self, name: &Reference) -> Result<Option<Tagged>, StoreError> {
        self.directory.read_json(&file_name(&name.to_string()))
    }

    /// The image a name stands for.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn named(&self, reference: &Reference) -> Result<Option<Image>, StoreError> {
        match self.tagged(reference)? {
            Some(name) => self.find(&name.image),
            None => Ok(None),
        }
    }

    /// Takes a name away; says whether it was there. The image stays.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn untag(&self, reference: &Reference) -> Result<bool, StoreError> {
        self.untag_text(&reference.to_string())
    }

    /// Takes a name away, given as it was written down.
    pub(super) fn untag_text(&self, name: &str) -> Result<bool, StoreError> {
        self.directory.remove(&file_name(name))
    }

    /// All names, in alphabetical order. What cannot be read is left out.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn names(&self) -> Result<Vec<Tagged>, StoreError> {
        Ok(self.names_with_failure()?.0)
    }

    /// All names that can be read, and why one cannot that may be readable again in a moment. A damaged one never will be.
    pub(super) fn names_with_failure(
        &self,
    ) -> Result<(Vec<Tagged>, Option<StoreError>), StoreError> {
        let (mut names, mut failure) = (Vec::new(), None);
        for file in self.directory.names(NAMES)? {
            let file = format!("{NAMES}/{file}");
            match self.directory.read_json::<Tagged>(&file) {
                Ok(Some(name)) if file_name(&name.name) == file => names.push(name),
                Ok(_) | Err(StoreError::Damaged { .. }) => {}
                Err(error) => failure = Some(error),
            }
        }
        names.sort_by(|one, other| one.name.cmp(&other.name));
        Ok((names, failure))
    }
}
