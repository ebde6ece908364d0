//! How much one image may ask of the host. Every bound that a conversion enforces is named here.

/// Bounds of one conversion.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Files, directories and names of one image, all layers together.
    pub entries: usize,
    /// Bytes of names, link targets, extended attributes and sparse maps kept in memory.
    pub metadata: u64,
    /// Steps of following paths and looking through directories: what bounds the time.
    pub steps: u64,
    /// Bytes of the finished image, holes included.
    pub image: u64,
    /// Bytes of all layers unpacked.
    pub unpacked: u64,
    /// How many times larger than its packed form a layer may be, beyond [`Self::free_expansion`].
    pub expansion: u64,
    /// Unpacked bytes that any layer may have, however small its packed form is.
    pub free_expansion: u64,
}

impl Default for Limits {
    /// Generous for any image that is really used, and what a small host survives: measured, an image
    /// of 900,000 files needs 210 MB of memory while it is converted, one of 50,000 files 22 MB.
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            metadata: 256 << 20,
            steps: 200_000_000,
            image: 1 << 40,
            unpacked: 256 << 30,
            expansion: 200,
            free_expansion: 4 << 30,
        }
    }
}
