//! Options in order, and a limit.

use super::*;

#[test]
fn devices_follow_the_fixed_options() {
    let mut line = CommandLine::new(false);
    line.device(0xd000_0000, 5);
    line.device(0xd000_1000, 6);
    let text = String::from_utf8(line.finish().unwrap()).unwrap();
    assert!(text.starts_with("reboot=k panic=-1 "), "{text}");
    assert!(
        text.contains(" loglevel=1 earlyprintk=serial,0x3f8,115200,keep "),
        "{text}"
    );
    assert!(
        text.ends_with(" virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6\0"),
        "{text}"
    );
}

#[test]
fn as_many_devices_as_there_are_lines_fit() {
    let mut line = CommandLine::new(true);
    for device in 0..layout::MOST_DEVICES as u64 {
        line.device(layout::DEVICES + 0x1000 * device, 5);
    }
    assert!(line.finish().is_ok());
}

#[test]
fn too_many_options_are_refused() {
    let mut line = CommandLine::new(true);
    for _ in 0..60 {
        line.device(layout::DEVICES, 5);
    }
    assert!(matches!(line.finish(), Err(TooLong(length)) if length > 2047));
}
