//! The pages that every copy of a machine writes on its way to its first process: known from a rehearsal, and made the copy's
//! own at once. That costs half of what it takes to let the guest read each first and to copy it when it is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::GuestMemory;
use crate::machine::layout;
use crate::sparse::next_data;
use crate::sys;

/// No more than this is made a copy's own before it asks for it: 8 MiB.
const MOST: u32 = 2048;
/// Two numbers.
const RUN: usize = 8;
/// How often a large page is tried of which somebody has hold.
const TRIES: usize = 2;

/// Runs of pages: the first one's number in the memory file, and how many.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pages(Vec<(u32, u32)>);

impl Pages {
    /// Those that differ in two memory files of one size, of which the second is a copy's that had begun with the first.
    pub(crate) fn written(before: &File, after: &File) -> io::Result<Self> {
        let (mut pages, mut at, mut count) = (Self::default(), 0, 0);
        let (mut old, mut new) = ([0; sys::PAGE], [0; sys::PAGE]);
        while let Some((data, hole)) = next_data(after, at)? {
            for offset in (data..hole).step_by(sys::PAGE) {
                before.read_exact_at(&mut old, offset)?;
                after.read_exact_at(&mut new, offset)?;
                if old != new && count < MOST {
                    count += 1;
                    pages.add(u32::try_from(offset / sys::PAGE as u64).unwrap_or(u32::MAX));
                }
            }
            at = hole;
        }
        Ok(pages)
    }

    /// Has the host keep those large pages of the memory file of which a copy writes nothing in one piece, where it can: a guest
    /// then takes one fault for each. tmpfs can. What somebody has hold of just now stays as it is.
    pub(crate) fn leave_large(&self, memory: &File) -> io::Result<()> {
        let large = sys::LARGE_PAGE as u64;
        let mut at = 0;
        while let Some((data, hole)) = next_data(memory, at)? {
            for start in (data.next_multiple_of(large)..hole).step_by(sys::LARGE_PAGE) {
                let end = start + large;
                if end <= hole && !self.touches(start, end) {
                    let mut tries = (0..TRIES).map(|_| sys::make_large(memory, start));
                    tries.find(|made| !is_busy(made)).transpose()?;
                }
            }
            at = hole;
        }
        Ok(())
    }

    /// Whether one of them lies between these offsets of the file.
    fn touches(&self, start: u64, end: u64) -> bool {
        let page = sys::PAGE as u64;
        let lies = |(first, count): &(u32, u32)| {
            let first = u64::from(*first) * page;
            first < end && start < first + u64::from(*count) * page
        };
        self.0.iter().any(lies)
    }

    fn add(&mut self, page: u32) {
        match self.0.last_mut() {
            Some((first, count)) if first.checked_add(*count) == Some(page) => *count += 1,
            _ => self.0.push((page, 1)),
        }
    }

    /// As bytes of a file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let numbers = self.0.iter().flat_map(|(first, count)| [*first, *count]);
        numbers.flat_map(u32::to_le_bytes).collect()
    }

    /// Any bytes mean something: it is advice, and bounded.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut left = MOST;
        let runs = bytes.chunks_exact(RUN).map_while(|run| {
            let (first, count) = run.split_first_chunk::<4>()?;
            let first = u32::from_le_bytes(*first);
            let count = u32::from_le_bytes(*count.first_chunk()?);
            left = left.checked_sub(count)?;
            Some((first, count))
        });
        Self(runs.collect())
    }
}

impl GuestMemory {
    /// Makes these pages this process's own. What lies outside of memory is left out; a page that cannot be had now is had, or
    /// missed, when the guest asks for it.
    pub(crate) fn own(&self, pages: &Pages) {
        for (first, count) in &pages.0 {
            let page = sys::PAGE as u64;
            let (start, length) = (u64::from(*first) * page, u64::from(*count) * page);
            for piece in layout::pieces(self.size) {
                let end = piece.offset + piece.length as u64;
                if piece.offset <= start && start + length <= end {
                    let guest = piece.guest + (start - piece.offset);
                    let length = usize::try_from(length).unwrap_or(0);
                    let _ = sys::populate(&self.map, guest, length);
                }
            }
        }
    }
}

/// Whether somebody has hold of a page, of which the host can make no large one then.
fn is_busy(made: &io::Result<()>) -> bool {
    let error = made.as_ref().err().map(io::Error::kind);
    error == Some(io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VmConfig;

    /// A file of the machine's length whose pages begin with these bytes.
    fn memory(filled: &[(u64, u8)]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(VmConfig::default().memory.bytes()).unwrap();
        for (page, byte) in filled {
            file.write_all_at(&[*byte], page * sys::PAGE as u64)
                .unwrap();
        }
        file
    }

    #[test]
    fn what_a_copy_has_written_is_found_and_survives_its_encoding() {
        let before = memory(&[(1, 1), (7, 1), (8, 1), (9, 1)]);
        let after = memory(&[(1, 1), (7, 2), (8, 2), (9, 1), (60_000, 5)]);
        let pages = Pages::written(&before, &after).unwrap();
        assert_eq!(pages.0, [(7, 2), (60_000, 1)]);
        assert_eq!(Pages::decode(&pages.encode()), pages);
    }

    #[test]
    fn large_pages_that_are_written_are_known() {
        let pages = Pages(vec![(511, 1), (1536, 2)]);
        let touches = |block: u64| pages.touches(block << 21, (block + 1) << 21);
        assert_eq!([0, 1, 2, 3].map(touches), [true, false, false, true]);
    }

    /// kB of the files of this name that this process has mapped in large pages.
    fn large(name: &str) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let of_file = maps
            .split_inclusive("VmFlags")
            .filter(|map| map.contains(name));
        let size = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
        let lines = of_file.flat_map(str::lines);
        lines
            .filter_map(|line| size(line.strip_prefix("ShmemPmdMapped").and(Some(line))?))
            .sum()
    }

    #[test]
    fn a_page_that_somebody_has_hold_of_keeps_no_other_small() {
        const NAME: &str = "memory-in-large-pages";
        let size = VmConfig::default().memory;
        let file = rustix::fs::memfd_create(NAME, rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let memory = File::from(file);
        memory.set_len(size.bytes()).unwrap();
        memory
            .write_all_at(&vec![1; 3 * sys::LARGE_PAGE], 0)
            .unwrap();
        // A pipe has hold of one.
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let flags = rustix::pipe::SpliceFlags::empty();
        rustix::pipe::splice(&memory, Some(&mut 0), &writer, None, sys::PAGE, flags).unwrap();
        let mapped = || {
            let before = large(NAME);
            Pages(Vec::new()).leave_large(&memory).unwrap();
            let copy = GuestMemory::copy_of(size, memory.try_clone().unwrap().into()).unwrap();
            for page in 0..3 {
                let address = vm_memory::GuestAddress(page * sys::LARGE_PAGE as u64);
                vm_memory::Bytes::read_slice(&**copy.view(), &mut [0], address).unwrap();
            }
            large(NAME) - before
        };
        assert_eq!(mapped(), 2 * 2048);
        drop((reader, writer));
        assert_eq!(mapped(), 3 * 2048);
    }

    #[test]
    fn any_bytes_are_bounded_advice() {
        let memory = GuestMemory::new(VmConfig::default().memory).unwrap();
        for bytes in [
            &[0xff; 64][..],
            &[1, 2, 3],
            &[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0],
        ] {
            memory.own(&Pages::decode(bytes));
        }
        assert_eq!(memory.touched().unwrap(), 0);
        let much = Pages(vec![(0, MOST), (0, 1)]);
        assert_eq!(Pages::decode(&much.encode()).0, [(0, MOST)]);
    }

    #[test]
    fn a_page_made_ones_own_has_the_files_content() {
        let file = memory(&[(3, 9)]);
        let size = VmConfig::default().memory;
        let copy = GuestMemory::copy_of(size, file.try_clone().unwrap().into()).unwrap();
        copy.own(&Pages(vec![(3, 1)]));
        // Not the file's any more.
        file.write_all_at(&[1], 3 * sys::PAGE as u64).unwrap();
        let mut byte = [0];
        let address = vm_memory::GuestAddress(3 * sys::PAGE as u64);
        vm_memory::Bytes::read_slice(&**copy.view(), &mut byte, address).unwrap();
        assert_eq!(byte, [9]);
    }
}
