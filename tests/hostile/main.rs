//! A guest that means harm, alone on its machine: whatever can be said to a virtio device over registers and rings, it says,
//! well-formed, nearly so and at random, from two processors at once. Refuses to know what is right.
//!
//! What it does follows from a seed, which it finds, with the number of steps, in its initramfs ([`Orders`]). It ends by
//! telling the steps in a kernel's last words. A step is an access to a register, a descriptor, a kick or a request.
#![no_std]
#![no_main]

mod device;
mod random;
mod requests;
mod sys;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use self::device::{DEVICES, Device, WINDOW};
use self::random::Random;
use self::requests::Requests;

/// What the initramfs says: seed, steps, processors, and whether to lie to the host's end of the agent protocol, which ends a
/// run early.
struct Orders([u64; 4]);

static SEED: AtomicU64 = AtomicU64::new(0);
static WANTED: AtomicU64 = AtomicU64::new(0);
static LIES: AtomicU64 = AtomicU64::new(0);
static STEPS: AtomicU64 = AtomicU64::new(0);
/// Steps of the second processor alone.
static SECOND: AtomicU64 = AtomicU64::new(0);
static FOUND: AtomicU32 = AtomicU32::new(0);
/// The device that both processors do their worst to, or [`CALM`] and the one that is spoken to in its own language alone:
/// what comes after good manners is not reached without them.
static SUBJECT: AtomicU64 = AtomicU64::new(0);
const CALM: u64 = 1 << 32;
/// Most deeds to one device in a row.
const LONGEST: u64 = 2000;

/// The end of an orderly life: words that the host shows, and the keyboard controller's reset line.
fn end(words: &str) -> ! {
    // The line control register may have hidden the data register.
    sys::write_port(0x3fb, 0);
    say("\nKernel panic - not syncing: ");
    finish(words)
}

/// The end of the last line.
fn finish(words: &str) -> ! {
    say(words);
    say("\n");
    loop {
        sys::write_port(0x64, 0xfe);
    }
}

fn say(words: &str) {
    for byte in words.bytes() {
        sys::write_port(0x3f8, byte);
    }
}

fn say_number(mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        length += 1;
        if number == 0 {
            break;
        }
    }
    for digit in digits.iter().skip(digits.len() - length) {
        sys::write_port(0x3f8, *digit);
    }
}

fn main(processor: u32, start_info: u64) -> ! {
    if processor == 0 {
        let module: u64 = sys::read(sys::read::<u64>(start_info + 16));
        let Orders([seed, steps, processors, lies]) = Orders(sys::read(module));
        SEED.store(seed, Ordering::SeqCst);
        WANTED.store(steps, Ordering::SeqCst);
        LIES.store(lies, Ordering::SeqCst);
        let windows = (0..19).map(|number| DEVICES + number * WINDOW);
        let found = windows.take_while(|window| sys::read::<u32>(*window) == 0x7472_6976);
        FOUND.store(found.count() as u32, Ordering::SeqCst);
        if processors > 1 {
            sys::start_second();
        }
    }
    let seed = SEED.load(Ordering::SeqCst) * 2 + u64::from(processor);
    let mut hostile = Hostile {
        processor,
        left: 0,
        random: Random::new(seed),
        requests: Requests::new(processor, LIES.load(Ordering::SeqCst) != 0),
    };
    loop {
        let steps = hostile.act();
        if processor == 1 {
            SECOND.fetch_add(steps, Ordering::Relaxed);
        }
        let done = STEPS.fetch_add(steps, Ordering::Relaxed) + steps;
        if done >= WANTED.load(Ordering::Relaxed) {
            while processor != 0 {
                core::hint::spin_loop();
            }
            // The line control register may hide the data register, and the ports' garbage have begun a line.
            sys::write_port(0x3fb, 0);
            say("\nKernel panic - not syncing: hostile guest: ");
            say_number(STEPS.load(Ordering::Relaxed));
            say(" steps, ");
            say_number(SECOND.load(Ordering::Relaxed));
            say(" of the second processor, on ");
            say_number(FOUND.load(Ordering::Relaxed).into());
            finish(" devices");
        }
    }
}

/// One processor's way through it.
struct Hostile {
    processor: u32,
    /// Deeds until the next subject.
    left: u64,
    random: Random,
    requests: Requests,
}

impl Hostile {
    /// Does something to some device; so many steps.
    fn act(&mut self) -> u64 {
        let random = &mut self.random;
        let found = u64::from(FOUND.load(Ordering::Relaxed));
        if self.processor == 0 {
            if self.left == 0 {
                self.left = random.below(LONGEST);
                let calm = if random.once_in(2) { CALM } else { 0 };
                SUBJECT.store(random.below(found) | calm, Ordering::Relaxed);
            }
            self.left -= 1;
        }
        let subject = SUBJECT.load(Ordering::Relaxed);
        let device = Device {
            number: subject % CALM,
        };
        if subject < CALM {
            return self.harm(device);
        }
        if self.processor == 0 {
            return self.talk(device, true);
        }
        match random.below(found) {
            number if number == device.number => ports(random),
            number => self.harm(Device { number }),
        }
    }

    /// A request, to a device that is up.
    fn talk(&mut self, device: Device, calm: bool) -> u64 {
        let mut steps = 1;
        if !device.is_up() {
            steps += device.bring_up(calm, &mut self.random);
            steps += self.requests.greet(device, &mut self.random);
        }
        steps + self.requests.send(device, calm, &mut self.random)
    }

    fn harm(&mut self, device: Device) -> u64 {
        let random = &mut self.random;
        match random.below(32) {
            0 if random.once_in(4) => device.bring_up(false, random),
            0 | 1 => device.write_register(random),
            2 => device.read_register(random),
            3 | 4 => device.descriptor(random),
            5 | 6 => device.publish(random),
            7 => device.flood(random),
            // A request that the device is at when it is reset, and one that it was told of too late.
            8 if random.once_in(4) => {
                let count = random.below(8);
                let steps: u64 = (0..count).map(|_| self.talk(device, false)).sum();
                steps + device.reset(&mut self.random)
            }
            9 => device.scribble(random),
            10 => ports(random),
            _ => self.talk(device, false),
        }
    }
}

/// Ports, except the reset line's and those of KVM's interrupt controller, whose use would end it.
fn ports(random: &mut Random) -> u64 {
    let port = match random.below(4) {
        0 => random.next() as u16,
        _ => 0x3f8 + random.below(8) as u16,
    };
    // A line that looks like the last words would be taken for them: whole lines are short.
    if !matches!(port, 0x60..=0x64 | 0x20..=0x21 | 0xa0..=0xa1 | 0x4d0..=0x4d1 | 0x40..=0x43) {
        match random.below(2) {
            0 => sys::write_port(port, random.next() as u8),
            _ => drop(sys::read_port(port)),
        }
    }
    1
}
