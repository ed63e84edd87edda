//! Digests with a key: what masks are made of.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Rounds of the network that exchanges numbers; four make it a pseudorandom permutation (Luby and Rackoff, "How to
/// Construct Pseudorandom Permutations from Pseudorandom Functions", 1988).
const ROUNDS: u8 = 4;

/// HMAC-SHA-256 (RFC 2104) with a key that has been taken in.
#[derive(Clone)]
pub(crate) struct Keyed(Hmac<Sha256>);

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed")
    }
}

impl Keyed {
    pub(crate) fn new(key: &str) -> Self {
        // Any key is taken: a long one is digested, a short one filled up.
        let mut block = [0; 64];
        match key.len() {
            0..=64 => block[..key.len()].copy_from_slice(key.as_bytes()),
            _ => block[..32].copy_from_slice(&<Sha256 as sha2::Digest>::digest(key)),
        }
        Self(Hmac::new(&block.into()))
    }

    fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    /// 64 hexadecimal digits.
    pub(crate) fn hex(&self, text: &str) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digest = self.digest(&[text.as_bytes()]);
        digest.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|n| char::from(DIGITS[usize::from(n)])).collect()
    }

    /// A UUID of version 8, whose bits are anybody's (RFC 9562, section 5.8).
    pub(crate) fn uuid(&self, bytes: &[u8]) -> [u8; 16] {
        let mut out = [0; 16];
        out.copy_from_slice(&self.digest(&[bytes])[..16]);
        out[6] = out[6] & 0x0f | 0x80;
        out[8] = out[8] & 0x3f | 0x80;
        out
    }

    /// Another number of at most so many bits. Two different ones become two different ones: a Feistel network over the
    /// next even number of bits, gone through again until the number is small enough.
    pub(crate) fn number(&self, n: u64, bits: u32) -> u64 {
        let half = bits.div_ceil(2);
        let low = (1u64 << half) - 1;
        let most = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        let mut n = n & most;
        loop {
            let (mut left, mut right) = (n >> half, n & low);
            for round in 0..ROUNDS {
                let digest = self.digest(&[&[round], &right.to_be_bytes()]);
                let mixed = digest[..8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
                (left, right) = (right, left ^ (mixed & low));
            }
            n = left << half | right;
            if n <= most {
                return n;
            }
        }
    }

    /// Other digits for digits, other letters for letters, everything else as it is.
    pub(crate) fn shape(&self, text: &str) -> String {
        let mut stream = Vec::new();
        let mut next = |at: usize| {
            while at >= stream.len() {
                let block = (stream.len() as u64).to_be_bytes();
                stream.extend(self.digest(&[text.as_bytes(), &[0], &block]));
            }
            stream[at]
        };
        let other = |(at, c): (usize, char)| {
            let of = |first: u8, count: u8, random: u8| char::from(first + random % count);
            match c {
                '0'..='9' => of(b'0', 10, next(at)),
                c if c.is_uppercase() => of(b'A', 26, next(at)),
                c if c.is_alphabetic() => of(b'a', 26, next(at)),
                c if c.is_numeric() => of(b'0', 10, next(at)),
                c => c,
            }
        };
        text.chars().enumerate().map(other).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        // RFC 4231, test case 2.
        let hex = Keyed::new("Jefe").hex("what do ya want for nothing?");
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn numbers_are_exchanged() {
        let keyed = Keyed::new("salt");
        for bits in [7, 8] {
            let all: HashSet<u64> = (0..1 << bits).map(|n| keyed.number(n, bits)).collect();
            assert_eq!(all.len(), 1 << bits);
            assert!(all.iter().all(|n| *n < 1 << bits));
        }
        assert!(keyed.number(u64::MAX, 64) != keyed.number(u64::MAX - 1, 64));
        assert!(keyed.number(u32::MAX.into(), 31) < 1 << 31);
        assert_ne!(keyed.number(5, 63), Keyed::new("pepper").number(5, 63));
    }

    #[test]
    fn the_shape_stays() {
        let shaped = Keyed::new("salt").shape("Zoë-12 / 4٣ x");
        let shape = |text: &str| -> String {
            let one = |c: char| match c {
                '0'..='9' => '9',
                'A'..='Z' => 'A',
                'a'..='z' => 'a',
                c => c,
            };
            text.chars().map(one).collect()
        };
        assert_eq!(shape(&shaped), "Aaa-99 / 99 a");
        assert_eq!(shaped, Keyed::new("salt").shape("Zoë-12 / 4٣ x"));
        // What is not exchanged takes nothing of the stream.
        let far = format!("{}7", " ".repeat(100));
        assert!(Keyed::new("salt").shape(&far).ends_with(|c: char| c.is_ascii_digit()));
    }
}
