//! A kernel's last words, and what a hostile one might say instead.

use super::*;

fn say(uart: &mut Uart, text: &[u8]) {
    for byte in text {
        uart.write(FIRST, *byte);
    }
}

#[test]
fn a_panic_is_found_in_its_line() {
    let mut uart = Uart::new(false);
    say(
        &mut uart,
        b"[    0.1] all is well\r\n[    0.2] Kernel panic - not syncing: VFS: no root\r\n---[ end",
    );
    assert_eq!(uart.panic(), Some("VFS: no root"));
    say(&mut uart, b"\nKernel panic - not syncing: again\n");
    assert_eq!(uart.panic(), Some("VFS: no root"));
}

#[test]
fn a_message_cannot_steer_a_terminal() {
    let mut uart = Uart::new(false);
    say(
        &mut uart,
        b"Kernel panic - not syncing: \x1b[2J\xff\x9b\xc2\x9bx\n",
    );
    assert_eq!(uart.panic(), Some("\\u{1b}[2J\\xff\\x9b\\u{9b}x"));
}

#[test]
fn endless_lines_cost_bounded_memory() {
    let mut uart = Uart::new(false);
    say(&mut uart, b"Kernel panic - not syncing: ");
    for _ in 0..100_000 {
        say(&mut uart, "é".as_bytes());
    }
    assert!(uart.line.capacity() <= 2 * LONGEST_LINE);
    say(&mut uart, b"\n");
    assert!(uart.panic().unwrap().len() <= LONGEST_MESSAGE);
}

#[test]
fn set_up_is_not_text_and_the_port_is_always_ready() {
    let mut uart = Uart::new(false);
    uart.write(FIRST + LINE_CONTROL, 0x83);
    say(&mut uart, b"\x01");
    assert_eq!(uart.read(FIRST + LINE_CONTROL), 0x83);
    uart.write(FIRST + LINE_CONTROL, 0x03);
    say(&mut uart, b"Kernel panic - not syncing: a\n");
    assert_eq!(uart.panic(), Some("a"));
    assert_eq!(uart.read(FIRST + LINE_STATUS), 0x60);
    assert_eq!(uart.read(LAST), 0);
}
