//! Chunks read at a later snapshot than where the stream starts: what of the log they contain already.

use std::collections::HashMap;

use bytes::Bytes;
use trem_engine::chunk::LoadedChunk;
use trem_engine::schema::Type;
use trem_engine::time::{days_from_2000, micros_from_2000};
use trem_engine::{Class, Error, Result};

use super::lsn;
use super::range::{ChunkRange, KeyBound};
use super::visibility::Visibility;
use crate::datetime;
use crate::postgres::types::Wire;
use crate::postgres::wire::pgoutput::{Begin, Field};
use crate::postgres::{decode, numeric, quote};

/// A key, as the filter needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowKey {
    /// The first key column's value.
    pub(super) first: Option<KeyBound>,
    /// All key columns, as they came from the wire.
    pub(super) whole: Vec<u8>,
}

/// What is to be done with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What it says.
    Apply,
    /// Nothing: the rows have it, or will.
    Skip,
    /// The row left for a chunk that has it: only its old key goes.
    DeleteOld,
    /// The row comes from a chunk that never had it to one that was read before it came.
    PutNew,
}

/// So many keys may be read again: beyond, loading the table anew costs less.
const MOST_AGAIN: usize = 100_000;
/// Rows of so many bytes are held; what comes beside them is put in at once.
const MOST_HELD: usize = 64 << 20;

/// What there was under a key when it was read again.
#[derive(Debug)]
pub(super) struct Found {
    /// A COPY row, if one was there.
    pub(super) row: Option<Bytes>,
    /// What the session saw that read it.
    pub(super) seen: Visibility,
    /// All that it saw lies before.
    pub(super) until: u64,
}

/// The chunks of one table, and which place of the log each was read at.
///
/// What was read again is a chunk of its own, read later than all others: of one key, with a row or none. It may be
/// another row than was looked for, if that has moved on; so it is held until the log has come as far.
#[derive(Debug)]
pub(super) struct Overlap {
    /// For rows in none of the ranges.
    otherwise: u64,
    ranges: Vec<(Option<KeyBound>, Option<KeyBound>, u64)>,
    /// Everything that commits from here on is in none of the chunks.
    pub(super) highest: u64,
    /// Everything that committed before is in all of the chunks.
    pub(super) lowest: u64,
    /// Keys that were read again: what was seen then, and the row while it is held.
    again: HashMap<Vec<u8>, (Visibility, Option<Bytes>)>,
    /// Bytes of the rows that are held.
    held: usize,
    /// Everything that commits from here on was not seen then.
    until: u64,
}

impl Overlap {
    /// `None` where no chunk was read later than `from`. `own`: what committed before is in all of the rows.
    pub(super) fn new(chunks: &[LoadedChunk], own: Option<u64>, from: u64) -> Result<Option<Self>> {
        let least = own.unwrap_or(0);
        let mut loaded = Self {
            otherwise: least,
            ranges: Vec::new(),
            highest: least,
            lowest: if chunks.is_empty() { least } else { u64::MAX },
            again: HashMap::new(),
            held: 0,
            until: 0,
        };
        for chunk in chunks {
            let at = lsn::of(&chunk.snapshot)?.max(least);
            loaded.highest = loaded.highest.max(at);
            loaded.lowest = loaded.lowest.min(at);
            match ChunkRange::parse(&chunk.range)? {
                ChunkRange::Key { lower, upper, .. } => loaded.ranges.push((lower, upper, at)),
                ChunkRange::Whole | ChunkRange::Physical(_) => loaded.otherwise = loaded.otherwise.max(at),
            }
        }
        loaded.ranges.sort();
        Ok((loaded.highest > from).then_some(loaded))
    }

    /// Whether every chunk is older than this commit.
    pub(super) fn done(&self, commit: u64) -> bool {
        commit >= self.highest.max(self.until)
    }

    /// Whether a row was read again at a later place than `end`: no record knows of that, so no checkpoint may fall
    /// before it.
    pub(super) fn waits(&self, end: u64) -> bool {
        self.until > end
    }

    fn contains(&self, key: &RowKey, change: Begin) -> bool {
        let commit = change.final_lsn;
        if let Some((seen, _)) = self.again.get(&key.whole) {
            return seen.has(change.xid);
        }
        let Some(first) = &key.first else { return commit < self.otherwise };
        // Ranges are disjoint and sorted: the last that begins at or before the key is the one.
        let at = self.ranges.partition_point(|(lower, ..)| lower.as_ref().is_none_or(|l| l <= first));
        let range = at.checked_sub(1).and_then(|i| self.ranges.get(i));
        let range = range.filter(|(_, upper, _)| upper.as_ref().is_none_or(|u| first < u));
        commit < range.map_or(self.otherwise, |r| r.2)
    }

    pub(super) fn insert(&self, key: &RowKey, change: Begin) -> Verdict {
        if self.contains(key, change) { Verdict::Skip } else { Verdict::Apply }
    }

    pub(super) fn delete(&self, key: &RowKey, change: Begin) -> Verdict {
        self.insert(key, change)
    }

    pub(super) fn update(&self, old: &RowKey, new: &RowKey, change: Begin) -> Verdict {
        match (self.contains(old, change), self.contains(new, change)) {
            (true, true) => Verdict::Skip,
            (true, false) => Verdict::PutNew,
            (false, true) => Verdict::DeleteOld,
            (false, false) => Verdict::Apply,
        }
    }

    /// Notes what a key was found to have. The row is returned if no more can be held.
    pub(super) fn read_again(&mut self, key: &RowKey, found: Found) -> Option<Bytes> {
        let Found { mut row, seen, until } = found;
        self.until = self.until.max(until);
        let bytes = row.as_ref().map_or(0, Bytes::len);
        let at_once = row.take_if(|_| self.held + bytes > MOST_HELD);
        self.held += row.as_ref().map_or(0, Bytes::len);
        self.again.insert(key.whole.clone(), (seen, row));
        at_once
    }

    /// Whether so many were read again that it costs too much.
    pub(super) fn is_too_much(&self) -> bool {
        self.again.len() > MOST_AGAIN
    }

    /// The row that is held for a key, before a change of it that was not seen when it was read.
    pub(super) fn due(&mut self, key: &RowKey, change: Begin) -> Option<Bytes> {
        let (seen, row) = self.again.get_mut(&key.whole)?;
        let due = row.take_if(|_| !seen.has(change.xid))?;
        self.held -= due.len();
        Some(due)
    }

    /// The rows that are held, once the log has come to where all of them were read.
    pub(super) fn passed(&mut self, end: u64) -> Vec<Bytes> {
        if self.waits(end) {
            return Vec::new();
        }
        let rows = self.again.drain().filter_map(|(_, (_, row))| row).collect();
        self.emptied();
        rows
    }

    /// Notes that no row is left.
    pub(super) fn emptied(&mut self) {
        self.again.clear();
        (self.held, self.until) = (0, 0);
    }
}

/// The bound that a key column's value stands for; `None` for types that no range is made of.
pub(super) fn bound(ty: &Type, wire: Wire, field: Field<'_>) -> Result<Option<KeyBound>> {
    use Type as L;
    Ok(match field {
        Field::Binary(value) => match (wire, ty) {
            (Wire::Int2, _) => integer(value.try_into().ok().map(i16::from_be_bytes))?,
            (Wire::Int4, _) => integer(value.try_into().ok().map(i32::from_be_bytes))?,
            (Wire::Int8, _) => integer(value.try_into().ok().map(i64::from_be_bytes))?,
            (Wire::Date, _) => integer(value.try_into().ok().map(|v| days_from_2000(i32::from_be_bytes(v))))?,
            (Wire::Timestamp, _) => integer(value.try_into().ok().map(|v| micros_from_2000(i64::from_be_bytes(v))))?,
            (Wire::Uuid, _) | (Wire::Text, L::Text(_)) => Some(KeyBound::Bytes(value.to_vec())),
            _ => None,
        },
        Field::Text(value) => match ty {
            L::Int16 | L::Int32 | L::Int64 => {
                integer(std::str::from_utf8(value).ok().and_then(|t| t.parse::<i64>().ok()))?
            }
            L::Date => Some(KeyBound::Int(datetime::parse_date(value)?.into())),
            L::Timestamp(_) | L::TimestampTz(_) => Some(KeyBound::Int(datetime::parse_timestamp(value)?)),
            L::Uuid => decode::uuid(value).map(|v| KeyBound::Bytes(v.to_vec())),
            L::Text(_) => Some(KeyBound::Bytes(value.to_vec())),
            _ => None,
        },
        Field::Null | Field::Unchanged => return Err(Error::new(Class::Table, "the log has a row without its key")),
    })
}

fn integer(value: Option<impl Into<i64>>) -> Result<Option<KeyBound>> {
    let value = value.ok_or_else(|| Error::new(Class::Table, "the log has a key that cannot be read"))?;
    Ok(Some(KeyBound::Int(value.into())))
}

/// A key column's value as an SQL literal.
pub(super) fn literal(wire: Wire, field: Field<'_>) -> Result<String> {
    let unreadable = || Error::new(Class::Table, "the log has a key that cannot be read");
    let mut text = Vec::new();
    let value = match field {
        Field::Text(value) => {
            text.extend_from_slice(value);
            return String::from_utf8(text).map(|t| quote::literal(&t)).map_err(|_| unreadable());
        }
        Field::Binary(value) => value,
        Field::Null | Field::Unchanged => return Err(unreadable()),
    };
    let eight = || value.try_into().map(i64::from_be_bytes).map_err(|_| unreadable());
    let four = || value.try_into().map(i32::from_be_bytes).map_err(|_| unreadable());
    match wire {
        Wire::Bool => text.extend_from_slice(if value == [0] { b"f" } else { b"t" }),
        Wire::Int2 => {
            let n = value.try_into().map(i16::from_be_bytes).map_err(|_| unreadable())?;
            text.extend_from_slice(n.to_string().as_bytes());
        }
        Wire::Int4 => text.extend_from_slice(four()?.to_string().as_bytes()),
        Wire::Int8 => text.extend_from_slice(eight()?.to_string().as_bytes()),
        Wire::Float4 => text.extend_from_slice(f32::from_bits(four()?.cast_unsigned()).to_string().as_bytes()),
        Wire::Float8 => text.extend_from_slice(f64::from_bits(eight()?.cast_unsigned()).to_string().as_bytes()),
        Wire::Date => datetime::write_date(days_from_2000(four()?), &mut text),
        Wire::Time => datetime::write_time(eight()?, &mut text),
        Wire::Timestamp => datetime::write_timestamp(micros_from_2000(eight()?), true, &mut text),
        Wire::Numeric => numeric::decode(value, &mut text)?,
        Wire::Text => text.extend_from_slice(value),
        Wire::Jsonb => text.extend_from_slice(value.get(1..).unwrap_or_default()),
        Wire::Bytea | Wire::Uuid => {
            if wire == Wire::Bytea {
                text.extend_from_slice(b"\\x");
            }
            text.extend(value.iter().flat_map(|b| format!("{b:02x}").into_bytes()));
        }
        Wire::TextOnly => return Err(unreadable()),
    }
    String::from_utf8(text).map(|t| quote::literal(&t)).map_err(|_| unreadable())
}

#[cfg(test)]
mod tests;
