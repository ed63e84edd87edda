//! Dates and times of the calendar that the server has: years 0 to 9999.

/// Microseconds of a second.
pub(crate) const SECOND: i64 = 1_000_000;

/// Days since 1970-01-01 of a day of the proleptic Gregorian calendar; `None` for a day that there is not, which the
/// server may store all the same (MySQL manual, "The DATE, DATETIME, and TIMESTAMP Types": zero in date).
pub(crate) fn days(year: u32, month: u32, day: u32) -> Option<i32> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=last).contains(&day) || year > 9999 {
        return None;
    }
    // Years begin in March, so that the leap day is the last one of its year.
    let (year, month) = if month > 2 { (year as i32, month as i32 - 3) } else { (year as i32 - 1, month as i32 + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day as i32 - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Microseconds since 1970-01-01 of a moment of that calendar.
pub(crate) fn micros(
    (year, month, day): (u32, u32, u32),
    (hour, minute, second): (u32, u32, u32),
    micros: u32,
) -> Option<i64> {
    let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    Some((i64::from(days(year, month, day)?) * 86_400 + seconds) * SECOND + i64::from(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted() {
        for (date, expected) in [
            ((1970, 1, 1), Some(0)),
            ((1969, 12, 31), Some(-1)),
            ((2000, 2, 29), Some(11_016)),
            ((2024, 3, 1), Some(19_783)),
            ((9999, 12, 31), Some(2_932_896)),
            ((1, 1, 1), Some(-719_162)),
            ((0, 1, 1), Some(-719_528)),
            ((2023, 2, 29), None),
            ((1900, 2, 29), None),
            ((0, 0, 0), None),
            ((2024, 0, 10), None),
            ((2024, 2, 0), None),
            ((2023, 2, 31), None),
        ] {
            assert_eq!(days(date.0, date.1, date.2), expected, "{date:?}");
        }
    }
}
