//! Character sets: text comes from the log in that of its column, and from a load in UTF-8, as the server converts it.
//!
//! What the server makes of a byte is its own: it has characters where others have none, and none where they have one.
//! So it is asked for all of a set.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use mysql_async::Row;
use mysql_async::prelude::Queryable;
use trem_engine::schema::TableSchema;
use trem_engine::{Class, Error, Result};

use super::connect::Session;
use super::error::error;
use super::row::get;

/// Sets whose text is UTF-8 already, or a part of it. No set is that of what is no text.
const UTF8: [&str; 5] = ["", "utf8mb4", "utf8mb3", "utf8", "ascii"];
/// Sets of one byte.
const NARROW: [&str; 24] = [
    "armscii8", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "dec8", "geostd8", "greek",
    "hebrew", "hp8", "keybcs2", "koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7", "macce", "macroman", "swe7",
    "tis620",
];
/// Sets of one to three bytes.
const WIDE: [&str; 8] = ["big5", "cp932", "eucjpms", "euckr", "gb2312", "gbk", "sjis", "ujis"];

/// How text is to be read.
#[derive(Clone, Debug)]
pub(super) enum Charset {
    /// As it is.
    Utf8,
    /// As UTF-16, the most significant byte first, or last.
    Utf16 { big: bool },
    /// By what the server makes of each code.
    Asked(Arc<HashMap<u32, char>>),
}

/// Whether text of a set of this name can be read.
pub(super) fn is_known(name: &str) -> bool {
    of_name(name).is_some() || NARROW.contains(&name) || WIDE.contains(&name)
}

fn of_name(name: &str) -> Option<Charset> {
    match name {
        "utf16" | "ucs2" => Some(Charset::Utf16 { big: true }),
        "utf16le" => Some(Charset::Utf16 { big: false }),
        name => UTF8.contains(&name).then_some(Charset::Utf8),
    }
}

/// The names of the sets that these tables have text in.
pub(super) fn names<'t>(tables: impl IntoIterator<Item = &'t TableSchema>) -> Vec<String> {
    tables.into_iter().flat_map(|table| &table.columns).map(|column| column.native.detail.clone()).collect()
}

/// Sets that the server has been asked for.
#[derive(Debug, Default)]
pub(super) struct Charsets(HashMap<String, Charset>);

impl Charsets {
    /// Asks for those of these names that are not here yet.
    pub(super) async fn learn(&mut self, session: &mut Session, names: Vec<String>) -> Result<()> {
        for name in names {
            if of_name(&name).is_none() && is_known(&name) && !self.0.contains_key(&name) {
                let codes = ask(session, &name).await?;
                self.0.insert(name, Charset::Asked(Arc::new(codes)));
            }
        }
        Ok(())
    }

    /// These too.
    pub(super) fn join(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// A set; `None` for one that has not been asked for.
    pub(super) fn get(&self, name: &str) -> Option<Charset> {
        of_name(name).or_else(|| self.0.get(name).cloned())
    }
}

/// What the server makes of every code of a set; what is none is left out.
async fn ask(session: &mut Session, name: &str) -> Result<HashMap<u32, char>> {
    // A code of two bytes is one of 256 times 256; EUC-JP alone has some of three, behind 8F.
    let two = "high.n * 256 + low.n";
    let mut of = vec!["low.n".to_owned()];
    of.extend(WIDE.contains(&name).then(|| two.to_owned()));
    of.extend(["ujis", "eucjpms"].contains(&name).then(|| format!("{} + {two}", 0x8f_0000)));
    let mut codes = HashMap::new();
    for code in of {
        let highs = if code == "low.n" { "= 0" } else { "> 127" };
        let sql = format!(
            "WITH RECURSIVE bytes (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM bytes WHERE n < 255) \
             SELECT CAST({code} AS UNSIGNED), CONVERT(CHAR({code} USING {name}) USING utf8mb4) \
             FROM bytes low, bytes high WHERE high.n {highs} AND char_length(CHAR({code} USING {name})) = 1"
        );
        let rows: Vec<Row> = session.conn.query(sql).await.map_err(error)?;
        for row in &rows {
            let (code, text): (u32, String) = (get(row, 0)?, get(row, 1)?);
            codes.extend(text.chars().next().map(|character| (code, character)));
        }
    }
    Ok(codes)
}

impl Charset {
    /// The text as UTF-8.
    pub(super) fn decode<'t>(&self, text: &'t [u8]) -> Result<Cow<'t, [u8]>> {
        let decoded = match self {
            Self::Utf8 => return Ok(Cow::Borrowed(text)),
            Self::Utf16 { big } => utf16(text, *big),
            Self::Asked(codes) => by_code(text, codes),
        };
        let wrong = || {
            Error::new(Class::Table, "it has text that is not valid in its character set")
                .remedy("correct the text at the source")
        };
        decoded.map(|text| Cow::Owned(text.into_bytes())).ok_or_else(wrong)
    }
}

fn utf16(text: &[u8], big: bool) -> Option<String> {
    let (pairs, rest) = text.as_chunks::<2>();
    let unit = |pair: &[u8; 2]| if big { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
    let decoded = char::decode_utf16(pairs.iter().map(unit)).collect::<Result<String, _>>().ok();
    decoded.filter(|_| rest.is_empty())
}

/// The shortest code that there is is meant: no byte that begins a longer one is one by itself.
fn by_code(text: &[u8], codes: &HashMap<u32, char>) -> Option<String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while !rest.is_empty() {
        let code = |length: usize| {
            let bytes = rest.get(..length)?;
            Some((length, *codes.get(&bytes.iter().fold(0, |code, byte| code << 8 | u32::from(*byte)))?))
        };
        let (length, character) = (1..=3).find_map(code)?;
        out.push(character);
        rest = &rest[length..];
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn decode(charset: &Charset, text: &[u8]) -> Option<String> {
        charset.decode(text).ok().map(|text| String::from_utf8(text.into_owned()).unwrap())
    }

    #[test]
    fn text_is_read_code_by_code() {
        let codes = HashMap::from([(0x41, 'A'), (0xb0a1, '啊'), (0x8f_b0a1, '丂')]);
        let charset = Charset::Asked(Arc::new(codes));
        assert_eq!(decode(&charset, &[0x41, 0xb0, 0xa1, 0x8f, 0xb0, 0xa1]).as_deref(), Some("A啊丂"));
        assert_eq!(decode(&charset, &[0xb0]), None);
        assert_eq!(decode(&Charset::Utf16 { big: true }, &[0, b'a', 0xd8, 0x3d, 0xde, 0]).as_deref(), Some("a😀"));
        assert_eq!(decode(&Charset::Utf16 { big: false }, &[b'a', 0, b'b']), None);
        assert_eq!(decode(&Charset::Utf8, "日本".as_bytes()).as_deref(), Some("日本"));
    }

    #[test]
    fn sets_are_known_by_name() {
        assert!(is_known("latin1") && is_known("") && is_known("ujis") && is_known("ucs2"));
        assert!(!is_known("utf32") && !is_known("filename"));
    }
}
