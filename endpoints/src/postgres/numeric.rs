//! `numeric` between its binary form (base-10000 digits) and the text that the server prints.

use trem_engine::{Class, Error, Result};

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;
const MAX_SCALE: usize = 0x3FFF;

/// Appends the text that `numeric_out` prints for a binary value.
pub fn decode(wire: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let (Some(header), Some(body)) = (wire.get(..8), wire.get(8..)) else { return Err(malformed()) };
    let field = |i: usize| u16::from_be_bytes([header[i * 2], header[i * 2 + 1]]);
    let (count, weight, sign, scale) = (field(0) as usize, field(1) as i16, field(2), field(3) as usize);
    match sign {
        NAN => out.extend_from_slice(b"NaN"),
        INFINITY => out.extend_from_slice(b"Infinity"),
        NEGATIVE_INFINITY => out.extend_from_slice(b"-Infinity"),
        0 | NEGATIVE if body.len() == count * 2 => {
            if sign == NEGATIVE {
                out.push(b'-');
            }
            write_digits(body, i32::from(weight), scale, out);
        }
        _ => return Err(malformed()),
    }
    Ok(())
}

fn write_digits(body: &[u8], weight: i32, scale: usize, out: &mut Vec<u8>) {
    let digit = |i: i32| {
        let at = usize::try_from(i).ok().map(|i| i * 2);
        at.and_then(|a| body.get(a..a + 2)).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
    };
    if weight < 0 {
        out.push(b'0');
    } else {
        let first = four(digit(0));
        let zeros = first.iter().take(3).take_while(|b| **b == b'0').count();
        out.extend_from_slice(&first[zeros..]);
        for i in 1..=weight {
            out.extend_from_slice(&four(digit(i)));
        }
    }
    if scale > 0 {
        out.push(b'.');
        let end = out.len() + scale;
        // Groups before the first stored one are zero.
        let mut at = weight + 1;
        while out.len() < end {
            out.extend_from_slice(&four(digit(at)));
            at += 1;
        }
        out.truncate(end);
    }
}

fn four(value: u16) -> [u8; 4] {
    let d = |n: u16| b'0' + (n % 10) as u8;
    [d(value / 1000), d(value / 100), d(value / 10), d(value)]
}

/// Appends the binary form of canonical text.
pub fn encode(text: &str, out: &mut Vec<u8>) -> Result<()> {
    let special = match text {
        "NaN" => Some((NAN, 0)),
        "Infinity" => Some((INFINITY, 0x20)),
        "-Infinity" => Some((NEGATIVE_INFINITY, 0x20)),
        _ => None,
    };
    if let Some((sign, scale)) = special {
        put(out, &[0, 0, sign, scale]);
        return Ok(());
    }
    let (sign, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (NEGATIVE, rest),
        [b'+', rest @ ..] => (0, rest),
        all => (0, all),
    };
    let point = digits.iter().position(|b| *b == b'.').unwrap_or(digits.len());
    let (whole, fraction) = (&digits[..point], digits.get(point + 1..).unwrap_or_default());
    let only_digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
    if !only_digits || whole.len() + fraction.len() == 0 || fraction.len() > MAX_SCALE {
        return Err(not_numeric(text));
    }
    let start = out.len();
    put(out, &[0, 0, sign, fraction.len() as u16]);
    let (count, weight) = put_groups(whole, fraction, out);
    let weight = i16::try_from(weight).map_err(|_| not_numeric(text))?;
    let count = u16::try_from(count).map_err(|_| not_numeric(text))?;
    if count == 0 {
        // Zero has no sign in a numeric.
        out[start + 4..start + 6].fill(0);
    }
    out[start..start + 2].copy_from_slice(&count.to_be_bytes());
    out[start + 2..start + 4].copy_from_slice(&weight.to_be_bytes());
    Ok(())
}

/// Appends the binary form of an integer.
pub fn encode_u64(value: u64, out: &mut Vec<u8>) {
    let (mut groups, mut count, mut rest) = ([0u16; 5], 0, value);
    while rest > 0 {
        groups[4 - count] = (rest % 10_000) as u16;
        (rest, count) = (rest / 10_000, count + 1);
    }
    let zeros = groups.iter().rev().take(count).take_while(|g| **g == 0).count();
    put(out, &[(count - zeros) as u16, count.saturating_sub(1) as u16, 0, 0]);
    put(out, &groups[5 - count..5 - zeros]);
}

/// Appends the base-10000 groups without zero groups at either end; returns their number and the first one's weight.
fn put_groups(whole: &[u8], fraction: &[u8], out: &mut Vec<u8>) -> (usize, i32) {
    let head = whole.len() % 4;
    let mut weight = whole.len().div_ceil(4) as i32 - 1;
    let first = out.len();
    let mut significant = first;
    let mut add = |group: &[u8], pad: u32, out: &mut Vec<u8>| {
        let value = group.iter().fold(0u16, |v, b| v * 10 + u16::from(b - b'0')) * 10u16.pow(pad);
        if value == 0 && out.len() == first {
            weight -= 1;
            return;
        }
        out.extend_from_slice(&value.to_be_bytes());
        if value != 0 {
            significant = out.len();
        }
    };
    if head > 0 {
        add(&whole[..head], 0, out);
    }
    for group in whole[head..].chunks(4) {
        add(group, 0, out);
    }
    for group in fraction.chunks(4) {
        add(group, 4 - group.len() as u32, out);
    }
    out.truncate(significant);
    let count = (significant - first) / 2;
    (count, if count == 0 { 0 } else { weight })
}

fn put(out: &mut Vec<u8>, words: &[u16]) {
    for w in words {
        out.extend_from_slice(&w.to_be_bytes());
    }
}

fn malformed() -> Error {
    Error::new(Class::Table, "the server sent a numeric value that is not in the documented binary form")
}

fn not_numeric(text: &str) -> Error {
    let shown: String = text.chars().take(40).collect();
    Error::new(Class::Table, format!("`{shown}` is not a number that a numeric column can hold"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn round(text: &str) -> String {
        let mut wire = Vec::new();
        encode(text, &mut wire).unwrap();
        let mut out = Vec::new();
        decode(&wire, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn edges() {
        for text in [
            "0",
            "0.00",
            "1",
            "-1",
            "1.50",
            "10000",
            "100000000",
            "0.0001",
            "0.00001",
            "0.000000001",
            "-0.5",
            "12345.6789",
            "99999999.99999999",
            "NaN",
            "Infinity",
            "-Infinity",
            "1000000000000000000000.000",
            "0.00000000000001230",
        ] {
            assert_eq!(round(text), text);
        }
        assert_eq!(round("-0.00"), "0.00");
        assert_eq!(round(".5"), "0.5");
    }

    #[test]
    fn the_wire_form_is_the_servers() {
        let mut wire = Vec::new();
        encode("-12345.678", &mut wire).unwrap();
        assert_eq!(wire, [0, 3, 0, 1, 0x40, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c]);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".", "1e5", "1.2.3", "x", "--1"] {
            assert!(encode(text, &mut Vec::new()).is_err(), "{text}");
        }
        assert!(decode(&[0, 1, 0], &mut Vec::new()).is_err());
        assert!(decode(&[0, 2, 0, 0, 0, 0, 0, 0, 0, 1], &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn an_integer_is_encoded_as_its_text(value: u64, zeros in 0u32..20) {
            for value in [value, value / 10u64.pow(zeros) * 10u64.pow(zeros), value >> (zeros * 3), 0] {
                let (mut direct, mut by_text) = (Vec::new(), Vec::new());
                encode_u64(value, &mut direct);
                encode(&value.to_string(), &mut by_text).unwrap();
                prop_assert_eq!(direct, by_text);
            }
        }

        #[test]
        fn text_survives(text in "-?(0|[1-9][0-9]{0,60})(\\.[0-9]{1,40})?") {
            let zero = text.bytes().all(|b| !(b'1'..=b'9').contains(&b));
            let want = if zero { text.trim_start_matches('-').to_owned() } else { text.clone() };
            prop_assert_eq!(round(&text), want);
        }
    }
}
