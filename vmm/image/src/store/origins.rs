//! Where the images of the store came from, and the signatures that came with them: what a policy judges when an image that
//! is here already is to run. Knows no registry.

use super::{Image, Record, Store, StoreError, image_name};
use crate::Digest;
use crate::reference::{Reference, Source};
use crate::trust::{Origin, Policy, Signature, TrustError, Verdict};

/// Directory of the signatures: a file for each image that came with some.
pub(super) const SIGNATURES: &str = "signatures";
/// Most origins that are remembered of one image, the latest ones.
const ORIGINS_MAX: usize = 64;
/// Most signatures that are remembered of one image, the latest ones.
const SIGNATURES_MAX: usize = 64;

fn signatures_name(id: &Digest) -> String {
    format!("{SIGNATURES}/{}", id.hex())
}

/// What is known of an image that comes into the store.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    /// Where it came from.
    pub(crate) origin: &'a Origin,
    /// Its manifest, if its blobs are kept.
    pub(crate) manifest: Option<Digest>,
    /// The signatures that were looked at.
    pub(crate) signatures: &'a [Signature],
    /// What it is called from now on.
    pub(crate) names: &'a [Reference],
    /// What `NAME@sha256:…` names.
    pub(crate) top: Option<Digest>,
}

/// Why an image of the store may not run.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The policy refuses it.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Store {
    /// Writes down what is known of an image, and names it. Who calls is [`adding`](Store::adding) since before the image
    /// was found or converted: if somebody has removed its record meanwhile, it comes back, for all it needs is still here.
    pub(crate) fn settle(
        &self,
        image: &mut Image,
        arrival: &Arrival<'_>,
    ) -> Result<(), StoreError> {
        let _turn = self.turn()?;
        let there = self.find(&image.id)?;
        let mut record = Record::of(there.as_ref().unwrap_or(image));
        record.manifest = arrival.manifest.or(record.manifest);
        let origin = arrival.origin.to_string();
        if !record.origins.contains(&origin) {
            record.origins.push(origin);
            let surplus = record.origins.len().saturating_sub(ORIGINS_MAX);
            record.origins.drain(..surplus);
        }
        self.add_signatures(&image.id, arrival.signatures)?;
        if there.as_ref().map(Record::of).as_ref() != Some(&record) {
            self.directory.write_json(&image_name(&image.id), &record)?;
        }
        for name in arrival.names {
            self.write_name(name, &image.id, arrival.top.as_ref())?;
        }
        *image = record.image(image.id, &self.directory);
        Ok(())
    }

    /// Writes down that an image was got from `source`, too.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn note_origin(&self, image: &mut Image, source: &Source) -> Result<(), StoreError> {
        let origin = Origin::of(source);
        if image.origins.contains(&origin.to_string()) {
            return Ok(());
        }
        let _adding = self.adding()?;
        let arrival = Arrival {
            origin: &origin,
            manifest: None,
            signatures: &[],
            names: &[],
            top: None,
        };
        self.settle(image, &arrival)
    }

    fn add_signatures(&self, id: &Digest, more: &[Signature]) -> Result<(), StoreError> {
        if more.is_empty() {
            return Ok(());
        }
        let known = self.signatures(id)?;
        let mut all = known.clone();
        all.extend(more.iter().filter(|one| !known.contains(one)).cloned());
        let surplus = all.len().saturating_sub(SIGNATURES_MAX);
        all.drain(..surplus);
        if all == known {
            return Ok(());
        }
        self.directory.write_json(&signatures_name(id), &all)
    }

    fn signatures(&self, id: &Digest) -> Result<Vec<Signature>, StoreError> {
        let known = self.directory.read_json(&signatures_name(id));
        match known {
            // A signature that cannot be read is none.
            Err(StoreError::Damaged { .. }) => Ok(Vec::new()),
            other => Ok(other?.unwrap_or_default()),
        }
    }

    /// Whether an image of the store may run under a policy that may be another than when it came. Under the name it was
    /// pulled by, it is judged by that name; otherwise one place that it came from has to be good enough, for it is the
    /// same image. Asks no registry: signatures that nobody fetched are not there.
    ///
    /// # Errors
    /// When the policy refuses it.
    pub fn judge(
        &self,
        image: &Image,
        name: Option<&Reference>,
        policy: &Policy,
    ) -> Result<Verdict, JudgeError> {
        let signatures = match policy.demands_signatures() {
            true => self.signatures(&image.id)?,
            false => Vec::new(),
        };
        let own = name.map(|name| Origin::Source(Source::Registry(name.clone())));
        if let Some(own) = own.filter(|own| image.origins.contains(&own.to_string())) {
            return Ok(policy.judge(&own, &signatures)?);
        }
        let mut refusal = None;
        for origin in image.origins.iter().filter_map(|text| Origin::parse(text)) {
            match policy.judge(&origin, &signatures) {
                Ok(verdict) => return Ok(verdict),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        match refusal {
            Some(error) => Err(error.into()),
            None => Ok(policy.judge(&Origin::Unknown(image.id), &[])?),
        }
    }
}
