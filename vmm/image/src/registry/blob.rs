//! A blob as a stream: resumed where it broke, bounded by its descriptor's size, verified against its digest before its end
//! is reported. Knows not what is in it.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::header;

use super::answer::Answer;
use super::client::Repository;
use super::error::{ExchangeError, Fault, RegistryError};
use super::http::Call;
use super::session::{Scope, Session, improper};
use crate::{Descriptor, Digest, DocumentError, Hasher};

/// What a transfer must bring between two breaks for the count of breaks to start anew, in bytes.
const PROGRESS: u64 = 256 * 1024;
/// The slowest transfer that is not taken for a stall, in bytes per millisecond.
const SLOWEST: u128 = 1;

/// A blob that is fetched while it is read. The end is reported only when size and digest are right; what was read before
/// is not yet verified.
pub struct Blob {
    repository: Arc<Repository>,
    digest: Digest,
    size: u64,
    foreign: bool,
    /// What to bring: from here to the end.
    offset: u64,
    end: u64,
    /// For all of it; whoever fetches parts has to verify what they make together.
    hasher: Option<Hasher>,
    stream: Option<Box<dyn Read + Send>>,
    /// Whether the stream ends where this does.
    exact: bool,
    breaks: u32,
    /// Where the transfer was when it broke last.
    broke_at: u64,
    /// Since when, and from where, the speed is measured.
    window: (Instant, u64),
}

impl Blob {
    pub(crate) fn new(repository: Arc<Repository>, descriptor: &Descriptor) -> Self {
        Self {
            repository,
            digest: descriptor.digest,
            size: descriptor.size,
            foreign: descriptor
                .urls
                .as_ref()
                .is_some_and(|urls| !urls.is_empty()),
            offset: 0,
            end: descriptor.size,
            hasher: Some(Hasher::new()),
            stream: None,
            exact: true,
            breaks: 0,
            broke_at: 0,
            window: (Instant::now(), 0),
        }
    }

    /// A part of it, which is not verified. From its start it becomes all of it where the server sends no parts.
    pub(crate) fn part(
        repository: Arc<Repository>,
        descriptor: &Descriptor,
        range: &Range<u64>,
    ) -> Self {
        Self {
            offset: range.start,
            end: range.end,
            hasher: None,
            broke_at: range.start,
            ..Self::new(repository, descriptor)
        }
    }

    /// Where it ends.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// All of it. For small blobs.
    pub(crate) fn whole(mut self) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            let count = self.next(&mut piece)?;
            if count == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    }

    /// Reads some, or 0 at the verified end.
    pub(crate) fn next(&mut self, buffer: &mut [u8]) -> Result<usize, RegistryError> {
        if self.foreign {
            return Err(RegistryError::Document {
                name: self.digest.to_string(),
                source: DocumentError::Foreign(self.digest),
            });
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.offset == self.end {
                self.finish()?;
                return Ok(0);
            }
            match self.step(buffer) {
                Ok(0) => self.recover(Fault::Broken("the server ended it early".to_owned()))?,
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if let Some(inner) = error.get_ref()
                        && inner.is::<RegistryError>()
                    {
                        return Err(RegistryError::from_io(error));
                    }
                    self.recover(Fault::from(error))?;
                }
            }
        }
    }

    fn step(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stream.is_none() {
            let (stream, in_parts) = self.open().map_err(io::Error::other)?;
            self.stream = Some(stream);
            if !in_parts && self.offset == 0 {
                self.end = self.size;
            }
            self.exact = in_parts || self.end == self.size;
            self.window = (Instant::now(), self.offset);
        }
        let Some(stream) = &mut self.stream else {
            return Ok(0);
        };
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let Some(target) = buffer.get_mut(..wanted) else {
            return Ok(0);
        };
        let count = stream.read(target)?;
        if let (Some(hasher), Some(got)) = (&mut self.hasher, buffer.get(..count)) {
            hasher.update(got);
        }
        self.offset += u64::try_from(count).unwrap_or(u64::MAX);
        // A server that feeds single bytes is as good as silent.
        let (since, from) = self.window;
        let allowed = self.limits().stall * 2;
        if since.elapsed() > allowed {
            let wanted = SLOWEST * allowed.as_millis();
            if u128::from(self.offset - from) < wanted && self.offset < self.end {
                self.stream = None;
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.window = (Instant::now(), self.offset);
        }
        Ok(count)
    }

    fn limits(&self) -> super::Limits {
        self.repository
            .session()
            .map(|session| session.shared().http.limits.clone())
            .unwrap_or_default()
    }

    /// Waits before the next try, or gives up.
    fn recover(&mut self, fault: Fault) -> Result<(), RegistryError> {
        self.stream = None;
        if self.offset - self.broke_at >= PROGRESS {
            self.breaks = 0;
        }
        self.broke_at = self.offset;
        self.breaks += 1;
        let Some(session) = self.repository.session() else {
            return Err(RegistryError::Stopped);
        };
        let shared = session.shared();
        let host = session.url("")?.origin().authority();
        if !fault.is_transient() || self.breaks >= shared.http.limits.attempts {
            return Err(ExchangeError::new(host, fault).into());
        }
        let pause: Duration = shared.http.pause(self.breaks);
        let reason = format!("{fault} after {} of {} bytes", self.offset, self.size);
        shared.progress.waiting(&host, &reason, pause);
        std::thread::sleep(pause);
        Ok(())
    }

    /// Asks for what is missing, wherever it is to be had. With it comes whether the server sends parts.
    fn open(&self) -> Result<(Box<dyn Read + Send>, bool), RegistryError> {
        self.repository.each(|session| self.open_in(session))
    }

    fn open_in(&self, session: &Session) -> Result<(Box<dyn Read + Send>, bool), RegistryError> {
        let mut call = Call::get(session.url(&format!("/blobs/{}", self.digest))?);
        let is_part = self.offset > 0 || self.end < self.size;
        if is_part {
            let last = match self.end < self.size {
                true => (self.end - 1).to_string(),
                false => String::new(),
            };
            let range = format!("bytes={}-{last}", self.offset);
            call.headers.push(("range", range));
        }
        let answer = session.exchange(&Scope::Pull, call)?;
        let (skip, end) = match answer.status.as_u16() {
            // The whole of it, where only a part was asked for: leave out what comes before.
            200 => (self.offset, self.size),
            206 if is_part => {
                if range_start(&answer) != Some(self.offset) {
                    return Err(improper(&answer, "another range than the one asked for"));
                }
                (0, self.end)
            }
            _ => return Err(session.refused(answer, &self.digest.to_string())),
        };
        let in_parts = answer.status.as_u16() == 206;
        let expected = end - self.offset + skip;
        if let Some(length) = answer.length().filter(|length| *length != expected) {
            return Err(RegistryError::Size {
                name: self.digest,
                wanted: self.size,
                found: length.saturating_add(self.offset - skip),
            });
        }
        let mut stream = answer.stream();
        let skipped = io::copy(&mut (&mut stream).take(skip), &mut io::sink());
        let host = || session.url("").map(|url| url.origin().authority());
        match skipped {
            Ok(count) if count == skip => Ok((Box::new(stream), in_parts)),
            Ok(_) => {
                Err(ExchangeError::new(host()?, Fault::Broken("it ended early".to_owned())).into())
            }
            Err(error) => Err(ExchangeError::new(host()?, Fault::from(error)).into()),
        }
    }

    /// Checks size and digest once all that the descriptor promised is here.
    fn finish(&mut self) -> Result<(), RegistryError> {
        // Seeing its end keeps the connection for the next. An error here is the connection's, and the bytes are complete.
        if let Some(mut stream) = self.stream.take()
            && self.exact
            && stream.read(&mut [0]).is_ok_and(|count| count > 0)
        {
            return Err(RegistryError::Size {
                name: self.digest,
                wanted: self.size,
                found: self.size.saturating_add(1),
            });
        }
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        let found = hasher.finish();
        if found != self.digest {
            return Err(RegistryError::Digest {
                name: format!("Blob {}", self.digest),
                wanted: self.digest,
                found,
            });
        }
        Ok(())
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(io::Error::from)
    }
}

/// The first byte of a `Content-Range`.
fn range_start(answer: &Answer) -> Option<u64> {
    let value = answer.header(&header::CONTENT_RANGE)?;
    let range = value.trim().strip_prefix("bytes")?.trim_start();
    range.split('-').next()?.trim().parse().ok()
}
