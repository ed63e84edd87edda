//! Sizes (`"16MiB"`) and durations (`"50ms"`).

use std::time::Duration;

const SIZES: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// What a size looks like.
pub const SIZE: &str = "a size such as \"16MiB\" (units B, kB, KiB, MB, MiB, GB, GiB, TiB)";
/// What a duration looks like.
pub const DURATION: &str = "a duration such as \"50ms\" (units ms, s, m, h, d)";

/// Bytes.
pub fn size(text: &str) -> Option<u64> {
    scaled(text, &SIZES)
}

/// A duration.
pub fn duration(text: &str) -> Option<Duration> {
    scaled(text, &DURATIONS).map(Duration::from_millis)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}
