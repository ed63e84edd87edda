//! Messages of the `pgoutput` plugin: bytes in, message out.
//!
//! Messages borrow from the frame they came in. All that protocol versions 1 to 4 can send outside of streamed
//! blocks is known here; streamed and prepared transactions are not asked for, so their messages are an error.

use super::reader::{Malformed, Reader};

/// What a replication connection sends inside CopyData.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Envelope<'a> {
    /// A piece of the log.
    XLogData {
        /// Where the server's log ends now.
        server_end: u64,
        /// The plugin's message.
        payload: &'a [u8],
    },
    /// Nothing to send, but the server is alive.
    Keepalive {
        /// Everything before this has been sent.
        server_end: u64,
        /// The server wants an answer now.
        reply: bool,
    },
}

impl<'a> Envelope<'a> {
    /// Decodes the content of a CopyData message.
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader(body);
        match r.u8("a replication message")? {
            b'w' => {
                r.u64("XLogData")?;
                let server_end = r.u64("XLogData")?;
                r.i64("XLogData")?;
                Ok(Self::XLogData { server_end, payload: r.0 })
            }
            b'k' => {
                let server_end = r.u64("a keepalive")?;
                r.i64("a keepalive")?;
                Ok(Self::Keepalive { server_end, reply: r.u8("a keepalive")? != 0 })
            }
            _ => Err(Malformed("a replication message of unknown kind")),
        }
    }
}

/// One message of the plugin.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message<'a> {
    /// A transaction begins.
    Begin(Begin),
    /// A transaction has committed.
    Commit(Commit),
    /// The transaction was itself replicated from elsewhere.
    Origin,
    /// The shape of a table, before the first change of it.
    Relation(Relation),
    /// The name of a type that is not built in.
    Type,
    /// A new row.
    Insert {
        /// The table's number.
        relation: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A changed row.
    Update {
        /// The table's number.
        relation: u32,
        /// What identified it, if that changed, or all of the old row.
        old: Option<OldTuple<'a>>,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row that is gone.
    Delete {
        /// The table's number.
        relation: u32,
        /// What identified it, or all of it.
        old: OldTuple<'a>,
    },
    /// Emptied tables.
    Truncate {
        /// The tables' numbers.
        relations: Vec<u32>,
        /// Referring tables too.
        cascade: bool,
        /// Sequences start again.
        restart_identity: bool,
    },
    /// A message written with `pg_logical_emit_message`.
    Logical,
}

/// A transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    /// Where its commit record begins.
    pub(crate) final_lsn: u64,
    /// When it committed, in microseconds since 2000.
    pub(crate) time: i64,
    /// Its number.
    pub(crate) xid: u32,
}

/// A transaction has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Where its commit record begins.
    pub(crate) commit_lsn: u64,
    /// Where its commit record ends.
    pub(crate) end_lsn: u64,
    /// When, in microseconds since 2000.
    pub(crate) time: i64,
}

/// The shape of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    /// `pg_class.oid`.
    pub(crate) id: u32,
    /// The schema's name.
    pub(crate) schema: String,
    /// The table's name.
    pub(crate) name: String,
    /// `pg_class.relreplident`: d, n, f or i.
    pub(crate) replica_identity: u8,
    /// The columns published, in table order.
    pub(crate) columns: Vec<RelationColumn>,
}

/// A column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelationColumn {
    /// Part of the replica identity.
    pub(crate) key: bool,
    /// The name.
    pub(crate) name: String,
    /// `pg_attribute.atttypid`.
    pub(crate) type_id: u32,
    /// `pg_attribute.atttypmod`.
    pub(crate) modifier: i32,
}

/// What is known of an old row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum OldTuple<'a> {
    /// The identity's columns; the others are NULL in it.
    Key(Tuple<'a>),
    /// All columns.
    Full(Tuple<'a>),
}

impl<'a> OldTuple<'a> {
    /// The columns, whichever they are.
    pub(crate) fn tuple(self) -> Tuple<'a> {
        match self {
            Self::Key(t) | Self::Full(t) => t,
        }
    }
}

/// The values of a row; checked when it was decoded, so that walking over it cannot fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tuple<'a> {
    columns: u16,
    fields: &'a [u8],
}

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    /// NULL.
    Null,
    /// A TOASTed value that was not changed and is not sent.
    Unchanged,
    /// As the type's output function prints it.
    Text(&'a [u8]),
    /// As the type's send function gives it.
    Binary(&'a [u8]),
}

impl<'a> Tuple<'a> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, Malformed> {
        let columns = r.u16("a row")?;
        let start = r.0;
        for _ in 0..columns {
            field(r)?;
        }
        Ok(Self { columns, fields: &start[..start.len() - r.0.len()] })
    }

    /// Number of columns.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// The values in order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let mut r = Reader(self.fields);
        (0..self.columns).map_while(move |_| field(&mut r).ok())
    }

    /// Bytes of the values.
    pub(crate) fn bytes(&self) -> usize {
        self.fields.len()
    }
}

fn field<'a>(r: &mut Reader<'a>) -> Result<Field<'a>, Malformed> {
    const WHAT: &str = "a column of a row";
    let kind = r.u8(WHAT)?;
    match kind {
        b'n' => Ok(Field::Null),
        b'u' => Ok(Field::Unchanged),
        b't' | b'b' => {
            let length = usize::try_from(r.i32(WHAT)?).map_err(|_| Malformed(WHAT))?;
            let value = r.take(length, WHAT)?;
            Ok(if kind == b't' { Field::Text(value) } else { Field::Binary(value) })
        }
        _ => Err(Malformed("a column of unknown kind")),
    }
}

impl<'a> Message<'a> {
    /// Decodes one message.
    pub(crate) fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader(payload);
        let message = match r.u8("a message")? {
            b'B' => {
                let final_lsn = r.u64("Begin")?;
                Self::Begin(Begin { final_lsn, time: r.i64("Begin")?, xid: r.u32("Begin")? })
            }
            b'C' => {
                r.u8("Commit")?;
                let (commit_lsn, end_lsn) = (r.u64("Commit")?, r.u64("Commit")?);
                Self::Commit(Commit { commit_lsn, end_lsn, time: r.i64("Commit")? })
            }
            b'O' => return Ok(Self::Origin),
            b'Y' => return Ok(Self::Type),
            b'M' => return Ok(Self::Logical),
            b'R' => Self::Relation(relation(&mut r)?),
            b'I' => {
                let relation = r.u32("Insert")?;
                expect_new(&mut r)?;
                Self::Insert { relation, new: Tuple::decode(&mut r)? }
            }
            b'U' => {
                let relation = r.u32("Update")?;
                let old = old(&mut r)?;
                if old.is_some() {
                    expect_new(&mut r)?;
                }
                Self::Update { relation, old, new: Tuple::decode(&mut r)? }
            }
            b'D' => {
                let relation = r.u32("Delete")?;
                let old = old(&mut r)?.ok_or(Malformed("Delete without an old row"))?;
                Self::Delete { relation, old }
            }
            b'T' => {
                let count = r.u32("Truncate")?;
                let options = r.u8("Truncate")?;
                let relations = (0..count).map(|_| r.u32("Truncate")).collect::<Result<_, _>>()?;
                Self::Truncate { relations, cascade: options & 1 != 0, restart_identity: options & 2 != 0 }
            }
            _ => return Err(Malformed("a message of unknown kind")),
        };
        if r.0.is_empty() { Ok(message) } else { Err(Malformed("a message longer than it should be")) }
    }
}

/// The table whose rows a message has, if it has any.
pub(crate) fn relation_of_rows(payload: &[u8]) -> Option<u32> {
    let mut r = Reader(payload);
    matches!(r.u8("a message"), Ok(b'I' | b'U' | b'D')).then(|| r.u32("a message").ok()).flatten()
}

/// A message with rows, without the columns at these places, which are in ascending order.
pub(crate) fn without_columns(payload: &[u8], places: &[usize]) -> Result<Vec<u8>, Malformed> {
    // The kind of message, and the table.
    const HEAD: usize = 5;
    let mut r = Reader(payload);
    let mut out = Vec::with_capacity(payload.len());
    out.extend_from_slice(r.take(HEAD, "a message")?);
    while !r.0.is_empty() {
        out.push(r.u8("a row")?);
        let columns = r.u16("a row")?;
        let kept = (0..columns).filter(|at| places.binary_search(&usize::from(*at)).is_err()).fold(0u16, |n, _| n + 1);
        out.extend_from_slice(&kept.to_be_bytes());
        for at in 0..usize::from(columns) {
            let start = r.0;
            field(&mut r)?;
            if places.binary_search(&at).is_err() {
                out.extend_from_slice(&start[..start.len() - r.0.len()]);
            }
        }
    }
    Ok(out)
}

fn expect_new(r: &mut Reader<'_>) -> Result<(), Malformed> {
    if r.u8("a row")? == b'N' { Ok(()) } else { Err(Malformed("a row that is not new")) }
}

/// The old row, or `None` after the tag of a new one.
fn old<'a>(r: &mut Reader<'a>) -> Result<Option<OldTuple<'a>>, Malformed> {
    Ok(match r.u8("an old row")? {
        b'K' => Some(OldTuple::Key(Tuple::decode(r)?)),
        b'O' => Some(OldTuple::Full(Tuple::decode(r)?)),
        b'N' => None,
        _ => return Err(Malformed("a row of unknown kind")),
    })
}

fn relation(r: &mut Reader<'_>) -> Result<Relation, Malformed> {
    const WHAT: &str = "Relation";
    let id = r.u32(WHAT)?;
    // An empty name stands for pg_catalog.
    let schema = match r.text(WHAT)? {
        "" => "pg_catalog".to_owned(),
        name => name.to_owned(),
    };
    let name = r.text(WHAT)?.to_owned();
    let replica_identity = r.u8(WHAT)?;
    let count = r.u16(WHAT)?;
    let mut columns = Vec::with_capacity(usize::from(count).min(r.0.len()));
    for _ in 0..count {
        let key = r.u8(WHAT)? & 1 != 0;
        let name = r.text(WHAT)?.to_owned();
        columns.push(RelationColumn { key, name, type_id: r.u32(WHAT)?, modifier: r.i32(WHAT)? });
    }
    Ok(Relation { id, schema, name, replica_identity, columns })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    fn update() -> Vec<u8> {
        let mut m = b"U\0\0\x40\x01K\0\x02t\0\0\0\x011nN\0\x02b\0\0\0\x012u".to_vec();
        m.truncate(m.len());
        m
    }

    #[test]
    fn an_update_with_its_old_key() {
        let bytes = update();
        let Message::Update { relation, old: Some(OldTuple::Key(old)), new } = Message::decode(&bytes).unwrap() else {
            panic!("not an update")
        };
        assert_eq!(relation, 16385);
        assert_eq!(old.fields().collect::<Vec<_>>(), [Field::Text(b"1"), Field::Null]);
        assert_eq!(new.fields().collect::<Vec<_>>(), [Field::Binary(b"2"), Field::Unchanged]);
    }

    #[test]
    fn every_cut_of_a_message_is_an_error() {
        let bytes = update();
        for end in 0..bytes.len() {
            assert!(Message::decode(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_relation_with_its_key() {
        let bytes = b"R\0\0\0\x07s\0t\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0v\0\0\0\x06\xa4\0\0\0\x0e";
        let Message::Relation(r) = Message::decode(bytes).unwrap() else { panic!("not a relation") };
        assert_eq!((r.id, r.schema.as_str(), r.name.as_str(), r.replica_identity), (7, "s", "t", b'd'));
        let columns: Vec<_> = r.columns.iter().map(|c| (c.key, c.name.as_str(), c.type_id, c.modifier)).collect();
        assert_eq!(columns, [(true, "id", 23, -1), (false, "v", 1700, 14)]);
    }

    #[test]
    fn columns_are_taken_out_of_both_rows() {
        let bytes = without_columns(&update(), &[0]).unwrap();
        assert_eq!(relation_of_rows(&bytes), Some(16385));
        let Message::Update { old: Some(OldTuple::Key(old)), new, .. } = Message::decode(&bytes).unwrap() else {
            panic!("not an update")
        };
        assert_eq!(old.fields().collect::<Vec<_>>(), [Field::Null]);
        assert_eq!(new.fields().collect::<Vec<_>>(), [Field::Unchanged]);
        assert_eq!(without_columns(&update(), &[7]).unwrap(), update());
        for end in 5..bytes.len() {
            assert!(without_columns(&bytes[..end], &[0]).is_err() || Message::decode(&bytes[..end]).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            tag in proptest::sample::select(&b"BCORYIUDTMSEcAX"[..]),
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes: Vec<u8> = std::iter::once(tag).chain(rest).collect();
            if let Ok(Message::Insert { new, .. } | Message::Update { new, .. }) = Message::decode(&bytes) {
                prop_assert_eq!(new.fields().count(), new.len());
            }
            let _ = Envelope::decode(&bytes);
            let _ = without_columns(&bytes, &[0, 3]);
        }

        #[test]
        fn damage_is_an_error_or_another_message(at in 0usize..33, with in any::<u8>()) {
            let mut bytes = update();
            let at = at % bytes.len();
            bytes[at] = with;
            let _ = Message::decode(&bytes);
        }
    }
}
