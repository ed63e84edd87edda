//! Table maps: how rows of a table stand in the log.

use trem_engine::Result;

use super::bytes::Bytes;

/// What an event says of a table, whose rows follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableMap {
    /// By which the rows name it.
    pub(crate) number: u64,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) columns: Vec<Logged>,
    /// The type of a column that is not known: nothing is known of its columns then.
    pub(crate) unknown: Option<u8>,
    /// What the columns are called; none unless `binlog_row_metadata` is `FULL`.
    pub(crate) names: Vec<String>,
}

/// A column as the log has it: its type and what belongs to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) kind: u8,
    pub(crate) meta: u16,
}

/// The field of the optional metadata that has the columns' names.
const NAMES: u8 = 4;

impl TableMap {
    /// Whether it says all that it takes to read rows.
    ///
    /// # Errors
    /// What it does not say.
    pub(crate) fn is_described(&self) -> Result<(), String> {
        if let Some(kind) = self.unknown {
            return Err(format!("it has a column of type {kind} of the log, which this version does not know"));
        }
        if self.names.len() != self.columns.len() {
            return Err("its rows came without the names of their columns: binlog_row_metadata is not FULL".to_owned());
        }
        Ok(())
    }

    pub(crate) fn parse(data: &[u8]) -> Result<Self> {
        let mut bytes = Bytes::new(data);
        let number = bytes.little(6)?;
        bytes.take(2)?;
        // A zero stands behind either name.
        let mut name = || -> Result<String> {
            let text = bytes.text()?;
            bytes.take(1)?;
            Ok(text)
        };
        let (schema, table) = (name()?, name()?);
        let count = bytes.packed()?;
        let kinds = bytes.take(count)?;
        let length = bytes.packed()?;
        let mut metas = Bytes::new(bytes.take(length)?);
        let mut columns = Vec::with_capacity(count);
        for kind in kinds {
            // The table may be one that nobody follows.
            let Some(meta) = meta(*kind, &mut metas)? else {
                return Ok(Self {
                    number,
                    schema,
                    table,
                    columns: Vec::new(),
                    unknown: Some(*kind),
                    names: Vec::new(),
                });
            };
            columns.push(Logged { kind: *kind, meta });
        }
        bytes.take(count.div_ceil(8))?;
        let mut names = Vec::new();
        while !bytes.is_empty() {
            let field = bytes.byte()?;
            let length = bytes.packed()?;
            let mut value = Bytes::new(bytes.take(length)?);
            while field == NAMES && !value.is_empty() {
                names.push(value.text()?);
            }
        }
        Ok(Self { number, schema, table, columns, unknown: None, names })
    }
}

/// What stands beside a type; `None` for one that is not known. (MySQL source documentation, `Table_map_event`, column
/// metadata.)
fn meta(kind: u8, metas: &mut Bytes<'_>) -> Result<Option<u16>> {
    Ok(Some(match kind {
        // Fractions of seconds have up to six digits.
        17..=19 => match metas.byte()? {
            digits @ 0..=6 => digits.into(),
            _ => return Ok(None),
        },
        4 | 5 | 242 | 245 | 249..=252 | 255 => metas.byte()?.into(),
        // The real type comes first, or the precision.
        246..=248 | 253 | 254 => metas.big(2)? as u16,
        15 | 16 => metas.little(2)? as u16,
        0..=3 | 6..=14 => 0,
        _ => return Ok(None),
    }))
}
