//! Puts a kernel, its initramfs and the PVH boot tables into guest memory (Xen's PVH boot protocol, version 1).
//!
//! The files are the host's own, yet every number in them is checked: `--kernel` takes any file.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};

use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use rustix::fs::fstat;
use rustix::io::pread;
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::memory::GuestMemory;
use super::{layout, registers};

mod elf;

pub(crate) use elf::ElfError;

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
/// Size of start_info; the one module and the memory map follow it.
const START_INFO: u64 = 56;
const MODULE: u64 = 32;
/// Size of a line of the memory map.
const MAP_LINE: usize = 24;
const PAGE: u64 = 4096;

/// What keeps a kernel from being put into memory.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// Not a kernel that this machine can start.
    #[error("The kernel cannot be started")]
    Kernel(#[from] ElfError),
    /// Reading failed.
    #[error("Reading the {0} failed")]
    Read(&'static str, #[source] io::Error),
    /// Memory is too small.
    #[error("Kernel and initramfs need {need} bytes, the machine has {have} bytes of memory")]
    Memory {
        /// Where the last byte would be.
        need: u64,
        /// What there is.
        have: u64,
    },
    /// A boot table did not fit into memory; that cannot be.
    #[error("Writing boot tables to guest memory failed")]
    Tables(#[from] GuestMemoryError),
}

/// Loads everything the first instruction needs; gives its address.
pub(crate) fn load(
    memory: &GuestMemory,
    kernel: &File,
    initramfs: &File,
    command_line: &[u8],
    mp_table: &[u8],
) -> Result<u64, LoadError> {
    let image = elf::parse(kernel)?;
    let low = memory.size().bytes().min(layout::LOW_MEMORY_END);
    if image.end > low {
        return Err(LoadError::Memory {
            need: image.end,
            have: low,
        });
    }
    for segment in &image.segments {
        copy(
            memory.view(),
            kernel,
            segment.offset,
            segment.address,
            segment.length,
        )
        .map_err(|error| LoadError::Read("kernel", error))?;
    }
    let size = fstat(initramfs)
        .map_err(|error| LoadError::Read("initramfs", error.into()))?
        .st_size;
    let size = u64::try_from(size).unwrap_or(0);
    // Right behind the kernel: what the boot touches lies close together.
    let start = image.end.next_multiple_of(PAGE);
    if size > low || start + size > low {
        return Err(LoadError::Memory {
            need: start.saturating_add(size),
            have: low,
        });
    }
    copy(memory.view(), initramfs, 0, start, size)
        .map_err(|error| LoadError::Read("initramfs", error))?;
    write_tables(memory, command_line, mp_table, (start, size))?;
    Ok(image.entry)
}

/// Writes code that needs nothing but segment descriptors.
pub(crate) fn write_code(memory: &GuestMemory, code: &[u8]) -> Result<(), GuestMemoryError> {
    write_descriptors(memory)?;
    memory
        .view()
        .write_slice(code, GuestAddress(layout::HIGH_MEMORY))
}

fn write_descriptors(memory: &GuestMemory) -> Result<(), GuestMemoryError> {
    let descriptors = registers::DESCRIPTORS.iter();
    let bytes: Vec<u8> = descriptors.flat_map(|entry| entry.to_le_bytes()).collect();
    memory.view().write_slice(&bytes, GuestAddress(layout::GDT))
}

/// Reads a part of a file straight into guest memory.
fn copy(
    memory: &GuestMemoryMmap,
    mut file: &File,
    offset: u64,
    address: u64,
    length: u64,
) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::Start(offset))?;
    let length = usize::try_from(length).map_err(io::Error::other)?;
    memory
        .read_exact_volatile_from(GuestAddress(address), &mut file, length)
        .map_err(io::Error::other)
}

/// Segment descriptors, MP table, command line, start_info with one module and the memory map.
fn write_tables(
    memory: &GuestMemory,
    command_line: &[u8],
    mp_table: &[u8],
    (initramfs, initramfs_size): (u64, u64),
) -> Result<(), GuestMemoryError> {
    let view = memory.view();
    write_descriptors(memory)?;
    view.write_slice(mp_table, GuestAddress(layout::MP_TABLE))?;
    view.write_slice(command_line, GuestAddress(layout::COMMAND_LINE))?;

    let map = layout::memory_map(memory.size());
    let modules = layout::START_INFO + START_INFO;
    let lines = modules + MODULE;
    let info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        nr_modules: 1,
        modlist_paddr: modules,
        cmdline_paddr: layout::COMMAND_LINE,
        memmap_paddr: lines,
        memmap_entries: u32::try_from(map.len()).unwrap_or(0),
        // No flags, no ACPI.
        ..hvm_start_info::default()
    };
    view.write_obj(info, GuestAddress(layout::START_INFO))?;
    let module = hvm_modlist_entry {
        paddr: initramfs,
        size: initramfs_size,
        ..hvm_modlist_entry::default()
    };
    view.write_obj(module, GuestAddress(modules))?;
    for (range, address) in map.iter().zip((lines..).step_by(MAP_LINE)) {
        let line = hvm_memmap_table_entry {
            addr: range.start,
            size: range.length,
            type_: range.kind as u32,
            ..hvm_memmap_table_entry::default()
        };
        view.write_obj(line, GuestAddress(address))?;
    }
    Ok(())
}

/// Reads exactly `buffer.len()` bytes at `offset`, or says that the file ends before.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<(), ElfError> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.checked_add(done as u64).ok_or(ElfError::Truncated)?;
        match pread(file, rest, at) {
            Ok(0) => return Err(ElfError::Truncated),
            Ok(count) => done += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ElfError::Read(error.into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
