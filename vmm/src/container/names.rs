//! Names for containers that were given none: two words of these lists.

const FIRST: [&str; 32] = [
    "able", "amber", "bold", "brave", "brisk", "calm", "clear", "clever", "crisp", "deep", "eager",
    "early", "fair", "firm", "fleet", "gentle", "grand", "keen", "light", "lively", "merry",
    "noble", "plain", "proud", "quick", "quiet", "sharp", "sound", "steady", "swift", "warm",
    "wise",
];
const SECOND: [&str; 32] = [
    "anchor", "barque", "beacon", "bow", "brig", "canoe", "capstan", "clipper", "compass",
    "cutter", "deck", "dinghy", "ferry", "galley", "harbour", "helm", "ketch", "kayak", "keel",
    "ladder", "lantern", "mast", "pilot", "pinnace", "pontoon", "raft", "rudder", "sail",
    "schooner", "sloop", "tender", "yawl",
];

/// The name that belongs to a random number.
pub(super) fn name(number: u64) -> String {
    let word = |list: &[&'static str; 32], shift: u32| {
        let index = usize::try_from((number >> shift) & 31).unwrap_or(0);
        list.get(index).copied().unwrap_or_default()
    };
    format!("{}_{}", word(&FIRST, 0), word(&SECOND, 5))
}

/// Whether docker would take it for a name.
pub(super) fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let first = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
    let rest = bytes.iter().skip(1);
    first
        && (2..=255).contains(&bytes.len())
        && rest
            .into_iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte))
}
