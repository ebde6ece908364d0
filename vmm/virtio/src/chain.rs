//! A descriptor chain as a reader followed by a writer. Refuses to know rings and requests.
//!
//! Guest memory is touched only through volatile slices, or by the kernel on our behalf; no reference to it ever exists.

use std::io;
use std::os::fd::BorrowedFd;

use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap, Permissions, VolatileSlice};

use crate::{ChainFault, DeviceError, sys};

/// One request: what the driver sends, then room for what it expects.
#[derive(Debug, Default)]
pub struct Chain<'m> {
    /// What the driver wrote for the device.
    pub readable: Reader<'m>,
    /// Where the device may write.
    pub writable: Writer<'m>,
}

impl<'m> Chain<'m> {
    pub(crate) fn clear(&mut self) {
        self.readable.0.clear();
        self.writable.0.clear();
    }

    /// Total length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.readable.left().saturating_add(self.writable.left())
    }

    /// Appends one descriptor's buffer.
    pub(crate) fn push(
        &mut self,
        memory: &'m GuestMemoryMmap,
        address: GuestAddress,
        length: u32,
        writable: bool,
    ) -> Result<(), ChainFault> {
        if !writable && !self.writable.0.slices.is_empty() {
            return Err(ChainFault::Order);
        }
        let length = usize::try_from(length).map_err(|_| ChainFault::TooMuch)?;
        let total = self.len().checked_add(length);
        if total.is_none_or(|total| u32::try_from(total).is_err()) {
            return Err(ChainFault::TooMuch);
        }
        let (segments, access) = match writable {
            true => (&mut self.writable.0, Permissions::Write),
            false => (&mut self.readable.0, Permissions::Read),
        };
        // A buffer may lie across regions that adjoin. None of length zero is looked up: it contributes nothing.
        for slice in memory
            .get_slices(address, length, access)
            .map_err(|_| ChainFault::Memory)?
        {
            segments.push(slice.map_err(|_| ChainFault::Memory)?);
        }
        Ok(())
    }
}

/// The device-readable part of a chain, consumed from the front.
#[derive(Debug, Default)]
pub struct Reader<'m>(Segments<'m>);

impl<'m> From<VolatileSlice<'m>> for Reader<'m> {
    fn from(slice: VolatileSlice<'m>) -> Self {
        Self(slice.into())
    }
}

impl Reader<'_> {
    /// Leaves what comes after the first `length` bytes out.
    pub fn limit(&mut self, length: usize) {
        self.0 = self.0.view(length);
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.0.left
    }

    /// Copies as much as there is and fits, and says how many bytes that was.
    pub fn read(&mut self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        self.0.take(bytes.len(), |slice| {
            let end = bytes.get_mut(done..).unwrap_or_default();
            done = done.saturating_add(slice.copy_to(end));
        });
        done
    }

    /// Reads a fixed field.
    ///
    /// # Errors
    /// [`DeviceError::RequestTooShort`] if it is not all there.
    pub fn read_array<const N: usize>(&mut self) -> Result<[u8; N], DeviceError> {
        let mut bytes = [0; N];
        match self.read(&mut bytes) {
            n if n == N => Ok(bytes),
            _ => Err(DeviceError::RequestTooShort),
        }
    }

    /// Writes up to `limit` bytes to `file` at `offset` and consumes what was written.
    ///
    /// # Errors
    /// That of `pwritev(2)`.
    pub fn write_at(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        limit: usize,
    ) -> io::Result<usize> {
        let done = sys::write_at(file, offset, self.0.first(limit))?;
        self.0.skip(done);
        Ok(done)
    }

    /// Writes up to `limit` bytes to the end of `file`, wherever that is then, and consumes what was written.
    ///
    /// # Errors
    /// That of `pwritev2(2)`.
    pub fn append_to(&mut self, file: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let done = sys::append(file, self.0.first(limit))?;
        self.0.skip(done);
        Ok(done)
    }

    /// Sends up to `limit` bytes to a stream socket without waiting, and consumes what was sent.
    ///
    /// # Errors
    /// That of `sendmsg(2)`.
    pub fn send(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let done = sys::send(socket, self.0.first(limit))?;
        self.0.skip(done);
        Ok(done)
    }
}

/// The device-writable part of a chain, filled from the front.
#[derive(Debug, Default)]
pub struct Writer<'m>(Segments<'m>);

impl<'m> From<VolatileSlice<'m>> for Writer<'m> {
    fn from(slice: VolatileSlice<'m>) -> Self {
        Self(slice.into())
    }
}

impl<'m> Writer<'m> {
    /// The first `length` bytes, or as many as there are; they stay in `self` too.
    pub fn view(&self, length: usize) -> Self {
        Self(self.0.view(length))
    }

    /// Looks at what waits in a stream socket without taking or waiting: the first bytes into `known`, up to `limit` of those
    /// that follow into the front of this, of which nothing is used up. Gives the number of all these bytes; 0 at its end.
    ///
    /// # Errors
    /// That of `recvmsg(2)`.
    pub fn peek(
        &mut self,
        socket: BorrowedFd<'_>,
        known: &mut [u8],
        limit: usize,
    ) -> io::Result<usize> {
        sys::peek(socket, known, self.0.first(limit))
    }

    /// Bytes there is still room for.
    pub fn left(&self) -> usize {
        self.0.left
    }

    /// Copies as much as fits, and says how many bytes that was.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        self.0.take(bytes.len(), |slice| {
            let end = bytes.get(done..).unwrap_or_default();
            slice.copy_from(end);
            done = done.saturating_add(slice.len());
        });
        done
    }

    /// Writes a fixed field.
    ///
    /// # Errors
    /// [`DeviceError::RequestTooShort`] if there is no room for all of it.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), DeviceError> {
        match self.write(bytes) {
            n if n == bytes.len() => Ok(()),
            _ => Err(DeviceError::RequestTooShort),
        }
    }

    /// Leaves `length` bytes (or as many as there are) as they are.
    pub fn skip(&mut self, length: usize) {
        self.0.skip(length);
    }

    /// Gives the whole pages of what is left back to the host; private memory then reads as zeros.
    pub fn discard(&mut self) {
        self.0.take(self.0.left, |slice| sys::discard(&slice));
    }

    /// Cuts the first `length` bytes off, to be filled later than what follows them.
    ///
    /// # Errors
    /// [`DeviceError::RequestTooShort`] if there are not as many.
    pub fn split_off(&mut self, length: usize) -> Result<Self, DeviceError> {
        let mut front = Segments::default();
        self.0.take(length, |slice| front.push(slice));
        match front.left == length {
            true => Ok(Self(front)),
            false => Err(DeviceError::RequestTooShort),
        }
    }

    /// Fills up to `limit` bytes from `file` at `offset`; 0 at the file's end.
    ///
    /// # Errors
    /// That of `preadv(2)`.
    pub fn read_at(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        limit: usize,
    ) -> io::Result<usize> {
        let done = sys::read_at(file, offset, self.0.first(limit))?;
        self.0.skip(done);
        Ok(done)
    }

    /// Fills up to `limit` bytes from a stream socket without waiting; 0 at its end.
    ///
    /// # Errors
    /// That of `recvmsg(2)`.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let done = sys::receive(socket, self.0.first(limit))?;
        self.0.skip(done);
        Ok(done)
    }
}

/// Slices of guest memory, used up from the front.
#[derive(Debug, Default)]
struct Segments<'m> {
    slices: Vec<VolatileSlice<'m>>,
    /// How many of `slices` are used up.
    gone: usize,
    /// Bytes in the others.
    left: usize,
}

impl<'m> From<VolatileSlice<'m>> for Segments<'m> {
    fn from(slice: VolatileSlice<'m>) -> Self {
        let mut segments = Self::default();
        segments.push(slice);
        segments
    }
}

impl<'m> Segments<'m> {
    fn view(&self, length: usize) -> Self {
        let slices: Vec<_> = self.first(length).collect();
        Self {
            slices,
            gone: 0,
            left: self.left.min(length),
        }
    }

    fn clear(&mut self) {
        self.slices.clear();
        (self.gone, self.left) = (0, 0);
    }

    fn push(&mut self, slice: VolatileSlice<'m>) {
        self.left = self.left.saturating_add(slice.len());
        self.slices.push(slice);
    }

    /// The next `limit` bytes, or as many as there are.
    fn first(&self, limit: usize) -> impl Iterator<Item = VolatileSlice<'m>> + '_ {
        let mut limit = limit;
        self.slices.iter().skip(self.gone).map_while(move |slice| {
            let length = slice.len().min(limit);
            limit = limit.saturating_sub(length);
            slice.subslice(0, length).ok().filter(|_| length != 0)
        })
    }

    /// Uses up the next `length` bytes, or as many as there are, and shows them.
    fn take(&mut self, length: usize, mut show: impl FnMut(VolatileSlice<'m>)) {
        let mut length = length;
        while length != 0
            && let Some(slice) = self.slices.get_mut(self.gone)
        {
            let (front, back) = match slice.split_at(length.min(slice.len())) {
                Ok(halves) => halves,
                Err(_) => return,
            };
            length = length.saturating_sub(front.len());
            self.left = self.left.saturating_sub(front.len());
            *slice = back;
            if back.is_empty() {
                self.gone = self.gone.saturating_add(1);
            }
            show(front);
        }
    }

    fn skip(&mut self, length: usize) {
        self.take(length, |_| ());
    }
}
