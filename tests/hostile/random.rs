//! Numbers that follow from a seed, and those among them that tend to be a mistake. Knows no device.

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len() as u64) as usize]
    }

    /// Sometimes: once in so many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A number that a device may have to do with.
    pub(crate) fn word(&mut self) -> u32 {
        match self.below(8) {
            0 => 0,
            1 => 1,
            2 | 3 => self.below(16) as u32,
            4 => u32::MAX - self.below(2) as u32,
            5 => 1 << self.below(32),
            6 => self.address() as u32,
            _ => self.next() as u32,
        }
    }

    /// An address where it is worth pointing: anywhere in memory that this program does not live in, around its end, in the
    /// windows of devices, near where addresses wrap.
    pub(crate) fn address(&mut self) -> u64 {
        match self.below(16) {
            0 => self.below(0x500),
            1 => (64 << 20) - self.below(0x2000),
            2 => (64 << 20) + self.below(0x2000),
            3 => 0xd000_0000 + self.below(0x1_0000),
            4 => u64::MAX - self.below(0x2000),
            5 => self.next() << 32,
            6 => 0xfee0_0000 + self.below(0x1000),
            _ => (16 << 20) + self.below(48 << 20),
        }
    }

    pub(crate) fn length(&mut self) -> u32 {
        match self.below(8) {
            0 => 0,
            1 => u32::MAX - self.below(16) as u32,
            2 => self.next() as u32,
            3 | 4 => self.below(64) as u32,
            _ => self.below(0x2000) as u32,
        }
    }
}
