//! Dates and times between the ISO text that servers print and the numbers of the engine: years before
//! Christ and far beyond 9999, infinities, 24:00:00, zone offsets.

use trem_engine::time::{days_from_2000, days_to_2000, micros_from_2000, micros_to_2000};
use trem_engine::{Class, Error, Result};

const DAY: i64 = 86_400_000_000;
/// Days from 0000-03-01 (the proleptic year 0) to 2000-01-01.
const EPOCH_FROM_MARCH_0: i64 = 730_425;

/// A date's text as days since 1970.
pub fn parse_date(text: &[u8]) -> Result<i32> {
    match text {
        b"infinity" => return Ok(i32::MAX),
        b"-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    let (text, bc) = strip_bc(text);
    let mut cursor = Cursor(text);
    let days = cursor.date(bc).filter(|_| cursor.0.is_empty());
    let days = days.and_then(|d| i32::try_from(d).ok()).ok_or_else(|| malformed("date", text))?;
    Ok(days_from_2000(days))
}

/// A time's text as microseconds since midnight.
pub fn parse_time(text: &[u8]) -> Result<i64> {
    let mut cursor = Cursor(text);
    cursor.time().filter(|_| cursor.0.is_empty()).ok_or_else(|| malformed("time", text))
}

/// A timestamp's text, with or without a zone offset, as microseconds since 1970 (UTC if there is an offset).
pub fn parse_timestamp(text: &[u8]) -> Result<i64> {
    match text {
        b"infinity" => return Ok(i64::MAX),
        b"-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let (inner, bc) = strip_bc(text);
    let mut cursor = Cursor(inner);
    cursor.timestamp(bc).map(micros_from_2000).ok_or_else(|| malformed("timestamp", text))
}

/// Appends the text of a date.
pub fn write_date(days: i32, out: &mut Vec<u8>) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            if put_date(i64::from(days_to_2000(days)), out) {
                out.extend_from_slice(b" BC");
            }
        }
    }
}

/// Appends the text of a time of day.
pub fn write_time(micros: i64, out: &mut Vec<u8>) {
    put_time(micros.unsigned_abs(), out);
}

fn put_time(micros: u64, out: &mut Vec<u8>) {
    let seconds = micros / 1_000_000;
    put_number(seconds / 3600, 2, out);
    out.push(b':');
    put_number(seconds / 60 % 60, 2, out);
    out.push(b':');
    put_number(seconds % 60, 2, out);
    let mut fraction = micros % 1_000_000;
    if fraction > 0 {
        let mut width = 6;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        out.push(b'.');
        put_number(fraction, width, out);
    }
}

/// Appends the text of a span of time in hours, minutes and seconds, as an interval without days and months has it.
pub fn write_duration(micros: i64, out: &mut Vec<u8>) {
    if micros < 0 {
        out.push(b'-');
    }
    put_time(micros.unsigned_abs(), out);
}

/// Appends the text of a timestamp, with the offset `+00` if `zoned`.
pub fn write_timestamp(micros: i64, zoned: bool, out: &mut Vec<u8>) {
    match micros {
        i64::MAX => return out.extend_from_slice(b"infinity"),
        i64::MIN => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let since_2000 = micros_to_2000(micros);
    let bc = put_date(since_2000.div_euclid(DAY), out);
    out.push(b' ');
    write_time(since_2000.rem_euclid(DAY), out);
    if zoned {
        out.extend_from_slice(b"+00");
    }
    if bc {
        out.extend_from_slice(b" BC");
    }
}

fn strip_bc(text: &[u8]) -> (&[u8], bool) {
    text.strip_suffix(b" BC").map_or((text, false), |t| (t, true))
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn number(&mut self, max_digits: usize) -> Option<i64> {
        let count = self.0.iter().take(max_digits).take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        (count > 0).then(|| digits.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    /// Days since 2000.
    fn date(&mut self, bc: bool) -> Option<i64> {
        let year = self.number(7)?;
        self.eat(b'-')?;
        let month = self.number(2).filter(|m| (1..=12).contains(m))?;
        self.eat(b'-')?;
        let day = self.number(2).filter(|d| (1..=31).contains(d))?;
        if year == 0 {
            return None;
        }
        Some(days_of(if bc { 1 - year } else { year }, month, day))
    }

    fn time(&mut self) -> Option<i64> {
        let hours = self.number(2)?;
        self.eat(b':')?;
        let minutes = self.number(2)?;
        self.eat(b':')?;
        let seconds = self.number(2)?;
        let mut micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000;
        if self.eat(b'.').is_some() {
            let before = self.0.len();
            let fraction = self.number(6)?;
            micros += fraction * 10i64.pow(6 - (before - self.0.len()) as u32);
        }
        (hours <= 24 && minutes < 60 && seconds <= 60).then_some(micros)
    }

    /// Seconds east of Greenwich.
    fn offset(&mut self) -> Option<i64> {
        let sign = match self.0.first() {
            None => return Some(0),
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(_) => return None,
        };
        self.0 = &self.0[1..];
        let mut seconds = self.number(2)? * 3600;
        for unit in [60, 1] {
            if self.eat(b':').is_some() {
                seconds += self.number(2)? * unit;
            }
        }
        Some(sign * seconds)
    }

    fn timestamp(&mut self, bc: bool) -> Option<i64> {
        let days = self.date(bc)?;
        self.eat(b' ')?;
        let time = self.time()?;
        let offset = self.offset()?;
        let micros = days.checked_mul(DAY)?.checked_add(time - offset * 1_000_000)?;
        self.0.is_empty().then_some(micros)
    }
}

/// Days since 2000 of a date of the proleptic Gregorian calendar, by counting years from March.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * m + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH_FROM_MARCH_0
}

/// Appends the date of a day since 2000; true if it is before Christ.
fn put_date(days: i64, out: &mut Vec<u8>) -> bool {
    let z = days + EPOCH_FROM_MARCH_0;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * years + years / 4 - years / 100);
    let m = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * m + 2) / 5 + 1, if m < 10 { m + 3 } else { m - 9 });
    let year = era * 400 + years + i64::from(month <= 2);
    put_number((if year > 0 { year } else { 1 - year }).unsigned_abs(), 4, out);
    out.push(b'-');
    put_number(month.unsigned_abs(), 2, out);
    out.push(b'-');
    put_number(day.unsigned_abs(), 2, out);
    year <= 0
}

fn put_number(value: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let (mut at, mut rest) = (digits.len(), value);
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}

fn malformed(what: &str, text: &[u8]) -> Error {
    let shown = String::from_utf8_lossy(&text[..text.len().min(40)]);
    Error::new(Class::Table, format!("`{shown}` is not a {what} in ISO form"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates() {
        for (shown, days) in [
            ("1970-01-01", 0),
            ("2000-01-01", 10_957),
            ("1969-12-31", -1),
            ("2024-02-29", 19_782),
            ("4714-11-24 BC", -2_440_588),
            ("0001-12-31 BC", -719_163),
            ("5874897-12-31", 2_145_042_905),
            ("infinity", i32::MAX),
            ("-infinity", i32::MIN),
        ] {
            assert_eq!(parse_date(shown.as_bytes()).unwrap(), days, "{shown}");
            assert_eq!(text(|o| write_date(days, o)), shown);
        }
    }

    #[test]
    fn timestamps() {
        for shown in [
            "1970-01-01 00:00:00",
            "2026-11-22 12:34:56.7",
            "2026-11-22 12:34:56.000001",
            "294276-12-31 23:59:59.999999",
            "4714-11-24 00:00:00 BC",
            "0044-03-15 12:00:00.5 BC",
            "10000-01-01 00:00:00",
            "infinity",
            "-infinity",
        ] {
            let value = parse_timestamp(shown.as_bytes()).unwrap();
            assert_eq!(text(|o| write_timestamp(value, false, o)), shown);
        }
        assert_eq!(parse_timestamp(b"1970-01-01 02:00:00+02").unwrap(), 0);
        assert_eq!(parse_timestamp(b"1970-01-01 00:00:00+00").unwrap(), 0);
        assert_eq!(parse_timestamp(b"1969-12-31 18:29:30-05:30:30").unwrap(), 0);
        let bc = parse_timestamp(b"0044-03-15 12:00:00+00 BC").unwrap();
        assert_eq!(text(|o| write_timestamp(bc, true, o)), "0044-03-15 12:00:00+00 BC");
        assert_eq!(text(|o| write_timestamp(0, true, o)), "1970-01-01 00:00:00+00");
    }

    #[test]
    fn times() {
        for (shown, micros) in
            [("00:00:00", 0), ("24:00:00", DAY), ("23:59:59.999999", DAY - 1), ("01:02:03.04", 3_723_040_000)]
        {
            assert_eq!(parse_time(shown.as_bytes()).unwrap(), micros);
            assert_eq!(text(|o| write_time(micros, o)), shown);
        }
    }

    #[test]
    fn durations() {
        for (micros, shown) in [
            (0, "00:00:00"),
            (-1, "-00:00:00.000001"),
            (3_020_399_000_000, "838:59:59"),
            (i64::MIN, "-2562047788:00:54.775808"),
        ] {
            assert_eq!(text(|o| write_duration(micros, o)), shown);
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for bad in ["", "2020", "2020-13-01", "2020-01-01x", "0000-01-01", "20-1-"] {
            assert!(parse_date(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["", "2020-01-01", "2020-01-01 00:00", "2020-01-01 00:00:00 AD", "2020-01-01 00:00:00+x"] {
            assert!(parse_timestamp(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_date_survives(since_2000 in -2_451_545i32..2_145_031_949) {
            let days = days_from_2000(since_2000);
            prop_assert_eq!(parse_date(text(|o| write_date(days, o)).as_bytes()).unwrap(), days);
        }

        #[test]
        fn every_timestamp_survives(since_2000 in -211_813_488_000_000_000i64..9_223_371_331_200_000_000, zoned: bool) {
            let micros = micros_from_2000(since_2000);
            prop_assert_eq!(parse_timestamp(text(|o| write_timestamp(micros, zoned, o)).as_bytes()).unwrap(), micros);
        }

        #[test]
        fn every_time_survives(micros in 0..=DAY) {
            prop_assert_eq!(parse_time(text(|o| write_time(micros, o)).as_bytes()).unwrap(), micros);
        }
    }
}
