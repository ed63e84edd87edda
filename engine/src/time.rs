//! Timestamps at the edges of the range: one mapping, without loss, that every endpoint uses.
//!
//! Databases count microseconds in 64 bits from epochs of their own, so that the last decades of their range do
//! not fit after 1970 is made the origin. Those wrap to the unused far end of the past; the infinities are
//! the two extremes. Comparisons are right for every date up to the year 294246.

/// Microseconds from 1970-01-01 to 2000-01-01, which a database may count from.
pub const EPOCH_2000_MICROS: i64 = 946_684_800_000_000;
/// Days from 1970-01-01 to 2000-01-01.
pub const EPOCH_2000_DAYS: i32 = 10_957;

/// A later epoch's microseconds (extremes are infinities) as microseconds since 1970.
pub fn micros_from_2000(value: i64) -> i64 {
    match value {
        i64::MIN | i64::MAX => value,
        _ if value < i64::MAX - EPOCH_2000_MICROS => value + EPOCH_2000_MICROS,
        _ => i64::MIN + 1 + (value - (i64::MAX - EPOCH_2000_MICROS)),
    }
}

/// The inverse of [`micros_from_2000`].
pub fn micros_to_2000(value: i64) -> i64 {
    match value {
        i64::MIN | i64::MAX => value,
        _ if value <= i64::MIN + EPOCH_2000_MICROS => value - (i64::MIN + 1) + (i64::MAX - EPOCH_2000_MICROS),
        _ => value - EPOCH_2000_MICROS,
    }
}

/// Days since 2000 (extremes are infinities) as days since 1970.
pub fn days_from_2000(value: i32) -> i32 {
    match value {
        i32::MIN | i32::MAX => value,
        _ => value.saturating_add(EPOCH_2000_DAYS),
    }
}

/// The inverse of [`days_from_2000`].
pub fn days_to_2000(value: i32) -> i32 {
    match value {
        i32::MIN | i32::MAX => value,
        _ => value.saturating_sub(EPOCH_2000_DAYS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edge_survives_the_round_trip() {
        let edge = i64::MAX - EPOCH_2000_MICROS;
        for v in [i64::MIN, i64::MAX, 0, -1, 1, edge - 1, edge, edge + 1, i64::MAX - 1, -211_813_488_000_000_000] {
            assert_eq!(micros_to_2000(micros_from_2000(v)), v, "{v}");
        }
        for v in [i32::MIN, i32::MAX, 0, -2_451_545, 2_145_031_948] {
            assert_eq!(days_to_2000(days_from_2000(v)), v, "{v}");
        }
    }

    #[test]
    fn finite_values_never_become_infinite() {
        let edge = i64::MAX - EPOCH_2000_MICROS;
        for v in [edge - 1, edge, edge + 1] {
            assert!(![i64::MIN, i64::MAX].contains(&micros_from_2000(v)));
        }
    }
}
