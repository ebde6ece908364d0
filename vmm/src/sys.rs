//! The package's only `unsafe`: raw descriptors, guest memory mappings, and the few KVM calls that take pointers.
//!
//! Every function here is safe to call with any argument; each block says why. Knows no policy.
#![expect(unsafe_code, reason = "the one place for it")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::{NonNull, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use kvm_bindings::{
    kvm_irqchip, kvm_irqchip__bindgen_ty_1, kvm_run, kvm_userspace_memory_region, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MmapRegion,
};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

mod jail;
mod part;
mod tap;

pub(crate) use jail::{
    can_kill_by_filter, clone_mount, close_range, execute, filter_calls, forbid, landlock_version,
    mount_nowhere, restrict_mount, spawn, unshare,
};
pub(crate) use part::{part, wait_for_no_children};
pub(crate) use tap::attach_tap;

/// Size of a page, and of the guards around guest memory.
pub(crate) const PAGE: usize = 4096;
/// Host address and guest address of memory agree modulo this, so that KVM can use large pages.
pub(crate) const LARGE_PAGE: usize = 2 << 20;

/// Instead of glibc's: std asks it about each thread's stack, to call a fault in the page below an overflow. glibc reads
/// `/proc/self/maps` for that, at each start, with a scanner that makes the program 80 KB larger. A sanitizer needs the answer.
#[cfg(not(any(test, sanitized)))]
// SAFETY: nothing else of the program has this name. Whoever gets an error does not look at the attributes.
#[unsafe(no_mangle)]
extern "C" fn pthread_getattr_np(_: libc::pthread_t, _: *mut libc::pthread_attr_t) -> libc::c_int {
    libc::ENOSYS
}

/// KVM from a descriptor that somebody else opened. Calls on a descriptor of anything else fail.
pub(crate) fn kvm(descriptor: OwnedFd) -> Kvm {
    // SAFETY: the descriptor is open and ours alone: `OwnedFd` gave it up. KVM calls on another kind of file return ENOTTY.
    unsafe { Kvm::from_raw_fd(descriptor.into_raw_fd()) }
}

/// Another descriptor of the same KVM.
pub(crate) fn duplicate(kvm: &Kvm) -> io::Result<OwnedFd> {
    let descriptor = borrow(kvm, kvm.as_raw_fd()).ok_or(io::ErrorKind::InvalidInput)?;
    descriptor.try_clone_to_owned()
}

/// Borrows the descriptor behind a number for as long as `owner`, which promises that the number stays open.
pub(crate) fn borrow<T: ?Sized>(_owner: &T, descriptor: RawFd) -> Option<BorrowedFd<'_>> {
    if descriptor < 0 {
        return None;
    }
    // SAFETY: not -1. Should the owner break its promise, calls on it fail with EBADF or reach another descriptor of this
    // process; no memory is touched through it.
    Some(unsafe { BorrowedFd::borrow_raw(descriptor) })
}

/// One piece of guest memory: where the guest sees it, where it lies in the file, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Guest-physical address.
    pub(crate) guest: u64,
    /// Offset in the file.
    pub(crate) offset: u64,
    /// Length.
    pub(crate) length: usize,
}

/// Maps guest memory, each piece between two guard pages: zeros in large pages where the host has them, and over them those
/// `ranges` of `file`, which begin and end large pages. What is written stays in this process.
///
/// The mappings stay for the process's life: a VMM process has one guest, and devices keep handles on its memory.
pub(crate) fn map_guest_memory(
    pieces: &[Piece],
    file: Option<BorrowedFd<'_>>,
    ranges: &[Range<u64>],
) -> io::Result<GuestMemoryMmap> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let mut regions = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let room = piece
            .length
            .checked_add(2 * LARGE_PAGE)
            .ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: an anonymous reservation at an address of the kernel's choice touches no memory of this process.
        let reserved = unsafe { mmap_anonymous(null_mut(), room, ProtFlags::empty(), flags) }?;
        let lead = LARGE_PAGE - reserved.addr() % LARGE_PAGE;
        let address = reserved.wrapping_byte_add(lead);
        let fixed = flags | MapFlags::FIXED;
        // SAFETY: `address .. address + length` lies inside the reservation made above (`lead` is 1 to LARGE_PAGE),
        // which nobody else knows of, with at least one page of it left on either side.
        unsafe { mmap_anonymous(address, piece.length, protection, fixed) }?;
        // In large pages a guest takes a fraction of the faults. A host without them goes on with small ones.
        // SAFETY: advice about the mapping just made, which changes no content.
        let _ = unsafe { madvise(address, piece.length, Advice::LinuxHugepage) };
        let end = piece.offset + piece.length as u64;
        for (file, range) in file
            .iter()
            .flat_map(|file| ranges.iter().map(move |range| (file, range)))
        {
            let (start, end) = (range.start.max(piece.offset), range.end.min(end));
            if start >= end {
                continue;
            }
            let within = |offset: u64| usize::try_from(offset - piece.offset).unwrap_or(0);
            let (place, length) = (
                address.wrapping_byte_add(within(start)),
                within(end) - within(start),
            );
            // SAFETY: a part of the mapping just made, for both ends were cut to it.
            unsafe { mmap(place, length, protection, fixed, file, start) }?;
        }
        // SAFETY: exactly that mapping, readable and writable, never unmapped.
        let region = unsafe {
            MmapRegion::build_raw(
                address.cast(),
                piece.length,
                bits(protection),
                bits_of_map(flags),
            )
        }
        .map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(region, GuestAddress(piece.guest));
        regions.push(region.ok_or(io::ErrorKind::InvalidInput)?);
    }
    GuestMemoryMmap::from_regions(regions).map_err(io::Error::other)
}

/// Which pages of `length` bytes of guest memory at `guest` are in the host's memory, one byte each, bit 0. Pages of a mapped
/// file count when the file's are.
pub(crate) fn resident(memory: &GuestMemoryMmap, guest: u64, length: usize) -> io::Result<Vec<u8>> {
    let slice = memory
        .get_slice(GuestAddress(guest), length)
        .map_err(io::Error::other)?;
    let mut pages = vec![0; length.div_ceil(PAGE)];
    let address = slice.ptr_guard().as_ptr();
    // SAFETY: the range is mapped (`get_slice` checked it), and `pages` has a byte for each of its pages; the address begins
    // a page, or the call fails.
    match unsafe { libc::mincore(address.cast_mut().cast(), length, pages.as_mut_ptr()) } {
        0 => Ok(pages),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes pages of guest memory this process's own, as if each had been written.
pub(crate) fn populate(memory: &GuestMemoryMmap, guest: u64, length: usize) -> io::Result<()> {
    let slice = memory
        .get_slice(GuestAddress(guest), length)
        .map_err(io::Error::other)?;
    let address = slice.ptr_guard_mut().as_ptr();
    // SAFETY: the range is mapped (`get_slice` checked it) and writable, and advice changes no content.
    unsafe { madvise(address.cast(), length, Advice::LinuxPopulateWrite) }?;
    Ok(())
}

/// Has a file's bytes from `offset`, which begins a large page, kept in a large page.
pub(crate) fn make_large(file: &File, offset: u64) -> io::Result<()> {
    let (none, read) = (ProtFlags::empty(), ProtFlags::READ);
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let room = 2 * LARGE_PAGE;
    // SAFETY: an anonymous reservation at an address of the kernel's choice touches no memory of this process.
    let reserved = unsafe { mmap_anonymous(null_mut(), room, none, flags) }?;
    let address = reserved.wrapping_byte_add(LARGE_PAGE - reserved.addr() % LARGE_PAGE);
    let fixed = MapFlags::SHARED | MapFlags::FIXED;
    // SAFETY: the large page lies in the reservation just made, which nobody else knows of.
    let made = unsafe { mmap(address, LARGE_PAGE, read, fixed, file, offset) }
        // SAFETY: advice about that mapping, which changes no content.
        .map(|mapped| unsafe { libc::madvise(mapped, LARGE_PAGE, libc::MADV_COLLAPSE) });
    let result = match made {
        Ok(0) => Ok(()),
        Ok(_) => Err(io::Error::last_os_error()),
        Err(error) => Err(error.into()),
    };
    // SAFETY: all of the reservation, of which nobody has an address.
    let _ = unsafe { munmap(reserved, room) };
    result
}

fn bits(protection: ProtFlags) -> i32 {
    protection.bits().cast_signed()
}

fn bits_of_map(flags: MapFlags) -> i32 {
    flags.bits().cast_signed()
}

/// Makes every region of `memory` a memory slot of `vm`.
pub(crate) fn give_memory(vm: &VmFd, memory: &GuestMemoryMmap) -> io::Result<()> {
    for (slot, region) in (0..).zip(memory.iter()) {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr().addr() as u64,
        };
        // SAFETY: the range is a mapping made for guest memory alone (`map_guest_memory`) that is never unmapped.
        unsafe { vm.set_user_memory_region(region) }?;
    }
    Ok(())
}

/// Sets the extended processor state of a vCPU.
pub(crate) fn set_xsave(vcpu: &VcpuFd, xsave: &kvm_xsave) -> io::Result<()> {
    // SAFETY: KVM reads sizeof(kvm_xsave) bytes, unless the process was granted dynamically enabled features (AMX), which
    // nothing in this program asks for.
    unsafe { vcpu.set_xsave(xsave) }?;
    Ok(())
}

/// State of one of KVM's interrupt controllers (`KVM_IRQCHIP_*`) as bytes.
pub(crate) fn interrupt_controller(vm: &VmFd, which: u32) -> io::Result<Vec<u8>> {
    let mut chip = kvm_irqchip {
        chip_id: which,
        ..Default::default()
    };
    vm.get_irqchip(&mut chip)?;
    // SAFETY: every member of the union is plain numbers, and this one spans it.
    let bytes = unsafe { chip.chip.dummy };
    Ok(bytes.map(i8::cast_unsigned).to_vec())
}

/// Sets what [`interrupt_controller`] gave. Bytes that are missing are zero.
pub(crate) fn set_interrupt_controller(vm: &VmFd, which: u32, bytes: &[u8]) -> io::Result<()> {
    let mut dummy = [0; 512];
    for (to, from) in dummy.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    vm.set_irqchip(&kvm_irqchip {
        chip_id: which,
        chip: kvm_irqchip__bindgen_ty_1 { dummy },
        ..Default::default()
    })?;
    Ok(())
}

/// After `VcpuExit::InternalError`: KVM's number for it, and the instruction's bytes if KVM gave them.
pub(crate) fn internal_error(vcpu: &mut VcpuFd) -> (u32, Vec<u8>) {
    const HAS_INSTRUCTION: u64 = 1;
    // SAFETY: every member of the union is plain numbers, so whatever KVM left there is valid for each of them.
    let internal = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal };
    let [flags, first, second, ..] = internal.data;
    let mut bytes = first.to_le_bytes().into_iter().chain(second.to_le_bytes());
    let length = if internal.ndata >= 3 && flags & HAS_INSTRUCTION != 0 {
        bytes.next().unwrap_or(0)
    } else {
        0
    };
    (internal.suberror, bytes.take(length.into()).collect())
}

/// The switch that makes a vCPU leave the guest: a second view of its `kvm_run` page.
#[derive(Debug)]
pub(crate) struct ExitSwitch {
    page: NonNull<kvm_run>,
}

// SAFETY: the page is reached through one atomic byte only, which any thread may store to.
unsafe impl Send for ExitSwitch {}
// SAFETY: as above.
unsafe impl Sync for ExitSwitch {}

impl ExitSwitch {
    /// A switch for this vCPU. It may outlive the vCPU; then it switches nothing.
    pub(crate) fn new(vcpu: &VcpuFd) -> io::Result<Self> {
        let Some(descriptor) = borrow(vcpu, vcpu.as_raw_fd()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // SAFETY: a new mapping at an address of the kernel's choice. KVM allows any number of views of a vCPU's page.
        let page = unsafe {
            mmap(
                null_mut(),
                PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                descriptor,
                0,
            )
        }?;
        Ok(Self {
            page: NonNull::new(page.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
        })
    }

    /// Sets or clears `immediate_exit`. Set, every `KVM_RUN` returns EINTR at once; one that is under way needs a signal.
    pub(crate) fn set(&self, leave: bool) {
        // SAFETY: the mapping is one page, `kvm_run` begins it, and it lives until `self` is dropped.
        let byte = unsafe { &raw mut (*self.page.as_ptr()).immediate_exit };
        // SAFETY: valid as above; a byte is always aligned; user space only ever stores whole bytes to it, the kernel reads it.
        unsafe { AtomicU8::from_ptr(byte) }.store(leave.into(), Ordering::SeqCst);
    }
}

impl Drop for ExitSwitch {
    fn drop(&mut self) {
        // SAFETY: made by `mmap` in `new` with this length; no reference into it outlives a call of `set`.
        let _ = unsafe { munmap(self.page.as_ptr().cast(), PAGE) };
    }
}

extern "C" fn end(signal: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: ends the process, which a handler may do at any moment.
    unsafe { libc::_exit(128 + signal) }
}

/// What ends any other process ends this one too: the first of a PID namespace hears only what it has asked for.
pub(crate) fn end_when_told() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        // Fails for no signal that there is.
        let _ = register_signal_handler(signal, end);
    }
}

/// The signal that makes `KVM_RUN` return does nothing else.
extern "C" fn leave_guest(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    #[cfg(feature = "hostile")]
    crate::jail::taken_over::interrupted();
}

/// Lets [`kick`] interrupt threads instead of ending the process.
pub(crate) fn make_kick_harmless() -> io::Result<()> {
    static DONE: OnceLock<Result<(), i32>> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        register_signal_handler(SIGRTMIN(), leave_guest).map_err(|error| error.errno())
    });
    done.map_err(io::Error::from_raw_os_error)
}

/// Interrupts whatever system call a thread is in, once.
pub(crate) fn kick<T>(thread: &JoinHandle<T>) {
    // Fails only for a thread that is gone.
    let _ = thread.kill(SIGRTMIN());
}

/// A file's bytes as a `File`, for those who want one.
pub(crate) fn file(descriptor: OwnedFd) -> File {
    File::from(descriptor)
}

/// A process in the background may set the terminal's mode instead of being stopped for it.
pub(crate) fn ignore_background_output() {
    // SAFETY: SIG_IGN runs no code of ours in a handler.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
}

/// Which of the two processes after a fork this is.
pub(crate) enum Forked {
    /// The old one.
    Parent,
    /// The new one, with one thread and a copy of everything.
    Child,
}

/// Makes a second process of this one. To be called while there is one thread: what another one had locked would stay
/// locked in the child.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: with one thread, every lock and every allocation is whole in the copy; descriptors are shared, not moved.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        _ => Ok(Forked::Parent),
    }
}

/// What a system call gave, or its error.
fn made(result: i64) -> io::Result<i64> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// The descriptor that a system call gave.
fn owned(result: i64) -> io::Result<OwnedFd> {
    let descriptor = RawFd::try_from(made(result)?).map_err(io::Error::other)?;
    // SAFETY: the callers' system calls return a new descriptor, which nobody else knows of.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Processes that do what must be refused to them.
#[cfg(any(test, feature = "hostile"))]
pub(crate) mod hostile {
    use std::io;
    #[cfg(test)]
    use std::os::unix::process::ExitStatusExt;
    #[cfg(test)]
    use std::process::ExitStatus;

    /// Makes a system call and gives its result or the error's number.
    pub(crate) fn call(number: u32, arguments: [u64; 6]) -> Result<i64, i32> {
        let [a, b, c, d, e, f] = arguments;
        // SAFETY: only for a process that ends right after, whatever the call did to it.
        match unsafe { libc::syscall(number.into(), a, b, c, d, e, f) } {
            -1 => Err(io::Error::last_os_error().raw_os_error().unwrap_or(255)),
            result => Ok(result),
        }
    }

    /// How a child ended that did `act`: with the error's number as its code, or 0.
    #[cfg(test)]
    pub(crate) fn in_child(act: impl FnOnce() -> Result<i64, i32>) -> ExitStatus {
        // SAFETY: the child uses only its own thread, an allocator that survives forks, and ends below.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            let code = match result {
                Ok(Ok(_)) => 0,
                Ok(Err(error)) => error,
                Err(_) => 254,
            };
            // SAFETY: ends the process without running anything of its parent's.
            unsafe { libc::_exit(code) };
        }
        assert!(child > 0);
        let mut status = 0;
        // SAFETY: `status` lives for the call, which writes an int to it.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(waited, child);
        ExitStatus::from_raw(status)
    }

    /// The same with `act` in a second thread of the child, started after `prepare`.
    #[cfg(test)]
    pub(crate) fn in_other_child(
        prepare: impl FnOnce(),
        act: impl FnOnce() -> Result<i64, i32> + Send,
    ) -> ExitStatus {
        in_child(|| {
            prepare();
            std::thread::scope(|scope| scope.spawn(act).join().unwrap_or(Err(254)))
        })
    }
}
