//! Options in order, and a limit.

use super::*;
use crate::config::Memory;

fn text(line: CommandLine) -> String {
    String::from_utf8(line.finish().unwrap()).unwrap()
}

#[test]
fn devices_follow_the_fixed_options() {
    let mut line = CommandLine::new(&VmConfig::default());
    line.device(0xd000_0000, 5);
    line.device(0xd000_1000, 6);
    assert_eq!(
        text(line),
        "loglevel=1 earlyprintk=serial,0x3f8,115200,keep reboot=k panic=-1 cgroup.memory=nokmem \
         virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6\0"
    );
}

#[test]
fn the_shape_of_the_machine_adds_options() {
    let config = VmConfig {
        memory: Memory::mib(3073).unwrap(),
        cpus: Cpus::new(2).unwrap(),
        kernel_log: true,
        ..VmConfig::default()
    };
    let text = text(CommandLine::new(&config));
    assert!(
        text.starts_with("ignore_loglevel earlyprintk=serial,0x3f8,115200 console=hvc0 "),
        "{text}"
    );
    assert!(
        text.ends_with(" rcupdate.rcu_expedited=1 swiotlb=noforce\0"),
        "{text}"
    );
}

#[test]
fn a_log_of_initcalls_is_not_written_letter_by_letter() {
    let config = VmConfig {
        kernel_log: true,
        initcalls: true,
        ..VmConfig::default()
    };
    let text = text(CommandLine::new(&config));
    assert!(
        text.contains("initcall_debug") && !text.contains("earlyprintk"),
        "{text}"
    );
}

#[test]
fn as_many_devices_as_there_are_lines_fit() {
    let mut line = CommandLine::new(&VmConfig::default());
    for device in 0..layout::MOST_DEVICES as u64 {
        line.device(layout::DEVICES + 0x1000 * device, 5);
    }
    assert!(line.finish().is_ok());
}

#[test]
fn too_many_options_are_refused() {
    let mut line = CommandLine::new(&VmConfig::default());
    for _ in 0..60 {
        line.device(layout::DEVICES, 5);
    }
    assert!(matches!(line.finish(), Err(TooLong(length)) if length > 2047));
}
