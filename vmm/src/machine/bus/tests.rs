//! Who answers where.

use std::os::fd::RawFd;

use virtio::StateError;

use super::*;

/// Answers with the offset, and remembers the last write.
#[derive(Default)]
struct Echo(Mutex<Option<(u64, Vec<u8>)>>);

impl Slot for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }
    fn kernel_option(&self) -> &'static str {
        "CONFIG_ECHO"
    }
    fn queue_count(&self) -> usize {
        0
    }
    fn blocks(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(u8::try_from(offset & 0xff).unwrap());
    }
    fn write(&self, offset: u64, data: &[u8]) {
        *self.0.lock().unwrap() = Some((offset, data.to_vec()));
    }
    fn kick(&self, _: usize) {}
    fn host_fd(&self) -> Option<RawFd> {
        None
    }
    fn host_ready(&self) {}
    fn started(&self) -> bool {
        false
    }
    fn save(&self) -> Result<Vec<u8>, StateError> {
        Ok(Vec::new())
    }
    fn restore(&self, _: &[u8]) -> Result<(), StateError> {
        Ok(())
    }
}

#[test]
fn windows_follow_one_another() {
    let (first, second) = (Arc::new(Echo::default()), Arc::new(Echo::default()));
    let bus = Bus::new(vec![first.clone(), second.clone()], Uart::new(false));
    let mut data = [0; 4];
    bus.read(layout::DEVICES + 0x1010, &mut data);
    assert_eq!(data, [0x10; 4]);
    bus.write(layout::DEVICES + 0x1050, &[1, 0, 0, 0]);
    assert_eq!(*first.0.lock().unwrap(), None);
    assert_eq!(*second.0.lock().unwrap(), Some((0x50, vec![1, 0, 0, 0])));
}

#[test]
fn nobody_answers_with_ones() {
    let bus = Bus::new(vec![Arc::new(Echo::default())], Uart::new(false));
    let last = layout::DEVICES + WINDOW;
    for address in [
        0,
        layout::DEVICES - 1,
        last - 2,
        last,
        0xfee0_0000,
        u64::MAX,
        u64::MAX - 7,
    ] {
        let mut data = [0; 8];
        bus.read(address, &mut data);
        assert_eq!(data, [0xff; 8], "{address:#x}");
        bus.write(address, &data);
    }
    let mut data = [0; 4];
    bus.port_read(0xcfc, &mut data);
    assert_eq!(data, [0xff; 4]);
    assert_eq!(bus.port_write(0xcf8, &data), None);
}

#[test]
fn one_byte_on_one_port_resets() {
    let bus = Bus::new(Vec::new(), Uart::new(false));
    let mut status = [0xff];
    bus.port_read(0x64, &mut status);
    assert_eq!(status, [0]);
    assert_eq!(bus.port_write(0x64, &[0xfe]), Some(Reset));
    assert_eq!(bus.port_write(0x64, &[0xff]), None);
    assert_eq!(bus.port_write(0x60, &[0xfe]), None);
    assert_eq!(bus.port_write(0x64, &[0xfe, 0xfe]), None);
}

#[test]
fn last_words_arrive() {
    let bus = Bus::new(Vec::new(), Uart::new(false));
    for byte in b"Kernel panic - not syncing: no init\n" {
        bus.port_write(0x3f8, &[*byte]);
    }
    assert_eq!(bus.panic().as_deref(), Some("no init"));
}
