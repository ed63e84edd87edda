//! Rows into a COPY, whatever their size: buffered when small, shared when large.

use std::pin::Pin;

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::{Client, CopyInSink};
use trem_engine::change::RowRef;
use trem_engine::{Error, Result};

use super::encode::{Form, escape, put_hex};
use super::failure::Tried;
use crate::view::{View, Views};

/// Bytes gathered before they are handed to the connection, and the size of the pieces of larger values.
const PIECE: usize = 64 << 10;

/// One column of a COPY.
#[derive(Clone, Copy, Debug)]
pub(super) struct CopyColumn {
    /// Index into the batch's columns.
    pub(super) index: usize,
    /// Its binary form, if it has one.
    pub(super) form: Option<Form>,
}

/// A COPY that is under way. Dropped before it is finished, it fails at the server.
pub(super) struct CopyWriter {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    columns: Vec<CopyColumn>,
    binary: bool,
    buf: Vec<u8>,
}

impl CopyWriter {
    /// Starts `COPY into FROM STDIN`, binary if every column has a binary form.
    pub(super) async fn start(client: &Client, into: &str, columns: Vec<CopyColumn>) -> Tried<Self> {
        let binary = columns.iter().all(|c| c.form.is_some());
        let format = if binary { "(FORMAT binary)" } else { "(FORMAT text)" };
        let sink = client.copy_in(&format!("COPY {into} FROM STDIN {format}")).await?;
        let mut buf = Vec::with_capacity(PIECE + PIECE / 4);
        if binary {
            buf.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        }
        Ok(Self { sink: Box::pin(sink), columns, binary, buf })
    }

    /// Writes rows.
    pub(super) async fn rows(&mut self, views: &Views<'_>, rows: impl Iterator<Item = RowRef> + Send) -> Tried<()> {
        let columns = std::mem::take(&mut self.columns);
        for at in rows {
            self.row(views, at, &columns).await?;
            if self.buf.len() >= PIECE {
                self.flush().await?;
            }
        }
        self.columns = columns;
        Ok(())
    }

    async fn row(&mut self, views: &Views<'_>, at: RowRef, columns: &[CopyColumn]) -> Tried<()> {
        let (batch, row) = (at.batch as usize, at.row as usize);
        if self.binary {
            self.buf.extend_from_slice(&(columns.len() as i16).to_be_bytes());
        }
        for (i, column) in columns.iter().enumerate() {
            let view = views.at(batch, column.index);
            if !self.binary && i > 0 {
                self.buf.push(b'\t');
            }
            if view.len(row) > PIECE {
                self.large(view, column.form, row).await?;
                continue;
            }
            match column.form {
                Some(form) if self.binary => view.put_binary(form, row, &mut self.buf)?,
                _ => view.put_copy_text(row, &mut self.buf),
            }
        }
        if !self.binary {
            self.buf.push(b'\n');
        }
        Ok(())
    }

    async fn large(&mut self, view: &View<'_>, form: Option<Form>, row: usize) -> Tried<()> {
        let (Some(value), false) = (view.shared(row), view.is_null(row)) else {
            return Err(Error::fatal("internal: a large value that is neither text nor bytes").into());
        };
        let hex = matches!(view, View::Bytes(_));
        match (self.binary, form) {
            (true, Some(Form::Numeric)) => {
                if let Some(form) = form {
                    view.put_binary(form, row, &mut self.buf)?;
                }
                return Ok(());
            }
            (true, Some(Form::Jsonb)) => {
                self.buf.extend_from_slice(&(value.len() as i32 + 1).to_be_bytes());
                self.buf.push(1);
            }
            (true, _) => self.buf.extend_from_slice(&(value.len() as i32).to_be_bytes()),
            (false, _) if hex => self.buf.extend_from_slice(b"\\\\x"),
            (false, _) => {}
        }
        self.flush().await?;
        let mut rest = value;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(PIECE));
            if self.binary {
                self.sink.feed(piece).await?;
                continue;
            }
            if hex {
                put_hex(&piece, &mut self.buf);
            } else {
                escape(&piece, &mut self.buf);
            }
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Tried<()> {
        let full = std::mem::replace(&mut self.buf, Vec::with_capacity(PIECE + PIECE / 4));
        self.sink.feed(Bytes::from(full)).await?;
        Ok(())
    }

    /// Ends the COPY; returns the rows written.
    pub(super) async fn finish(mut self) -> Tried<u64> {
        if self.binary {
            self.buf.extend_from_slice(&(-1i16).to_be_bytes());
        }
        self.flush().await?;
        Ok(self.sink.as_mut().finish().await?)
    }
}

/// Rows `0..count` of batch 0.
pub(super) fn all_rows(count: usize) -> impl Iterator<Item = RowRef> + Send {
    (0..count as u32).map(|row| RowRef { batch: 0, row })
}

/// The views of one batch.
pub(super) fn views_of<'a>(
    batch: &'a arrow_array::RecordBatch,
    types: &[trem_engine::schema::Type],
) -> Result<Views<'a>> {
    Views::of(std::iter::once(batch), types)
}
