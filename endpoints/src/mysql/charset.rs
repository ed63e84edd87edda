//! Character sets: text comes from the log in that of its column.

use std::borrow::Cow;

use trem_engine::schema::Column;

/// How a column's text is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    /// UTF-8 already, or a part of it.
    Utf8,
    /// MySQL's `latin1`, which is Windows-1252, with the five places that this leaves open as control characters.
    Latin1,
}

/// Places 0x80 to 0x9F of Windows-1252. (MySQL manual, "West European Character Sets".)
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

impl Charset {
    /// That of a column; `None` for one that cannot be read yet.
    pub(super) fn of(column: &Column) -> Option<Self> {
        match column.native.detail.as_str() {
            "" | "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => Some(Self::Utf8),
            "latin1" => Some(Self::Latin1),
            _ => None,
        }
    }

    /// The text as UTF-8.
    pub(super) fn decode(self, text: &[u8]) -> Cow<'_, [u8]> {
        if self == Self::Utf8 || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let one = |byte: &u8| match byte {
            0x80..=0x9f => WINDOWS[usize::from(byte - 0x80)],
            other => char::from(*other),
        };
        Cow::Owned(text.iter().map(one).collect::<String>().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latin1_is_what_the_server_means_by_it() {
        let decoded = Charset::Latin1.decode(&[0xe9, 0x80, 0x8c, 0x8d, 0x8f, 0x90, b'a']);
        assert_eq!(decoded, "é€Œ\u{8d}\u{8f}\u{90}a".as_bytes());
        assert_eq!(Charset::Utf8.decode("日本".as_bytes()), "日本".as_bytes());
    }
}
