//! The events that a follower of the log has to know.

use std::borrow::Cow;

use trem_engine::{Error, Remedy, Result};

use super::bytes::Bytes;
use super::compressed::inflated;
use super::table_map::TableMap;

/// Flag of an event's header: whoever does not know the event may pass over it.
const IGNORABLE: u16 = 0x80;
/// Flags of MariaDB's GTID event: the transaction is one event alone; it is prepared by XA, and decided later.
const STANDALONE: u8 = 1;
const PREPARED: u8 = 64;

/// What happened to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Insert,
    Update,
    Delete,
}

/// An event.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A transaction of MariaDB begins. `standalone`: it is the next event alone.
    Gtid { domain: u32, sequence: u64, standalone: bool, prepared: bool },
    /// What rows that follow are made of.
    TableMap(TableMap),
    /// Rows of a table.
    Rows(Rows<'a>),
    /// A statement.
    Query { schema: String, sql: String },
    /// The transaction has committed.
    Commit,
    /// The log goes on in this file, from this place.
    Rotate { file: String, offset: u64 },
    /// Nothing that a follower has to do something about.
    Nothing,
}

/// Rows as they stand in an event.
#[derive(Clone, Debug)]
pub(crate) struct Rows<'a> {
    pub(crate) change: Change,
    pub(crate) table: u64,
    /// Columns of the table.
    pub(crate) columns: usize,
    /// Which of them are in the image before, or of an insert in the only one; a bit for each.
    pub(crate) first: &'a [u8],
    /// Which of them are in the image after an update.
    pub(crate) second: &'a [u8],
    pub(crate) data: Cow<'a, [u8]>,
}

impl<'a> Event<'a> {
    /// Takes an event apart: its type, its header's flags, and what is behind the header, without checksum.
    ///
    /// # Errors
    /// An event that is not known and may not be passed over: what it says would be lost.
    pub(crate) fn parse(kind: u8, flags: u16, data: &'a [u8]) -> Result<Self> {
        let mut bytes = Bytes::new(data);
        match kind {
            2 | 165 => query(bytes, kind == 165),
            4 => {
                let offset = bytes.little(8)?;
                Ok(Self::Rotate { file: String::from_utf8_lossy(bytes.rest()).into_owned(), offset })
            }
            16 => Ok(Self::Commit),
            19 => TableMap::parse(data).map(Self::TableMap),
            20..=25 | 30..=32 => rows(kind, bytes, false).map(Self::Rows),
            // The same three of either version, compressed.
            166..=168 => rows(kind - 166 + 23, bytes, true).map(Self::Rows),
            169..=171 => rows(kind - 169 + 30, bytes, true).map(Self::Rows),
            26 => Err(Error::lineage("the source says that its log has a gap (an incident)")
                .remedy(Remedy::from("look into the source's error log").then(Remedy::StartAnew))),
            162 => {
                let (sequence, domain, flags) = (bytes.little(8)?, bytes.little(4)? as u32, bytes.byte()?);
                let (standalone, prepared) = (flags & STANDALONE != 0, flags & PREPARED != 0);
                Ok(Self::Gtid { domain, sequence, standalone, prepared })
            }
            // Stop, format, heartbeats, text of statements, checkpoints and lists of GTIDs, keys of encryption.
            3 | 15 | 27 | 29 | 35 | 41 | 160 | 161 | 163 | 164 => Ok(Self::Nothing),
            _ if flags & IGNORABLE != 0 => Ok(Self::Nothing),
            _ => {
                let what = format!("the binary log has an event of type {kind}, which this version does not know");
                Err(Error::fatal(what).remedy("report it, with the version of the source"))
            }
        }
    }
}

fn query<'a>(mut bytes: Bytes<'a>, compressed: bool) -> Result<Event<'a>> {
    bytes.take(8)?;
    let schema = usize::from(bytes.byte()?);
    bytes.take(2)?;
    let variables = bytes.little(2)? as usize;
    bytes.take(variables)?;
    let schema = String::from_utf8_lossy(bytes.take(schema)?).into_owned();
    bytes.take(1)?;
    let sql = if compressed { Cow::Owned(inflated(bytes)?) } else { Cow::Borrowed(bytes.rest()) };
    Ok(Event::Query { schema, sql: String::from_utf8_lossy(&sql).into_owned() })
}

fn rows<'a>(kind: u8, mut bytes: Bytes<'a>, compressed: bool) -> Result<Rows<'a>> {
    let change = match kind {
        20 | 23 | 30 => Change::Insert,
        21 | 24 | 31 => Change::Update,
        _ => Change::Delete,
    };
    let table = bytes.little(6)?;
    bytes.take(2)?;
    if kind >= 30 {
        // What else the second version has to say counts itself.
        let more = bytes.little(2)? as usize;
        bytes.take(more.saturating_sub(2))?;
    }
    let columns = bytes.packed()?;
    let first = bytes.take(columns.div_ceil(8))?;
    let second = if change == Change::Update { bytes.take(columns.div_ceil(8))? } else { first };
    let data = if compressed { Cow::Owned(inflated(bytes)?) } else { Cow::Borrowed(bytes.rest()) };
    Ok(Rows { change, table, columns, first, second, data })
}
