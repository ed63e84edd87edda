//! Chunks of the full load: LOAD DATA from memory where the server allows it, or statements of many rows; by way of a
//! temporary table where rows are kept.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::unfold;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use trem_engine::change::{ChangeBatch, RowRef};
use trem_engine::ports::Loader;
use trem_engine::record::{Epoch, RecordChange, TableRecord};
use trem_engine::schema::TableSchema;
use trem_engine::{Class, Error, Result};

use super::session::{Session, told};
use super::statements::{self, warned};
use super::writer::Writer;
use super::{bookkeeping, encode};
use crate::failpoint::{self, Point};
use crate::mysql::quote;
use crate::view::Views;

/// Bytes that are handed to the connection at a time, and how many of those may wait.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

const STAGED: &str = "trem.`load`";

/// A connection that loads chunks.
pub(super) struct MyLoader {
    /// Away while it takes in a stream.
    session: Option<Session>,
    task: String,
    epoch: Epoch,
    /// The table of the last chunk.
    known: Option<Arc<Writer>>,
    open: Option<OpenChunk>,
}

struct OpenChunk {
    writer: Arc<Writer>,
    keeps_rows: bool,
    stream: Option<Stream>,
    sent: u64,
}

type Receiver = mpsc::Receiver<std::io::Result<Bytes>>;

/// A LOAD DATA that is under way.
struct Stream {
    pieces: mpsc::Sender<std::io::Result<Bytes>>,
    done: JoinHandle<(Session, Result<String>)>,
}

impl MyLoader {
    pub(super) fn open(session: Session, task: &str, epoch: Epoch) -> Self {
        Self { session: Some(session), task: task.to_owned(), epoch, known: None, open: None }
    }

    fn session(&mut self) -> Result<&mut Session> {
        self.session.as_mut().ok_or_else(|| Error::fatal("internal: the loader's connection is in use"))
    }

    async fn writer(&mut self, table: &Arc<TableSchema>) -> Result<Arc<Writer>> {
        if let Some(writer) = self.known.as_ref().filter(|w| w.schema == *table) {
            return Ok(Arc::clone(writer));
        }
        let writers = Writer::open_all(self.session()?, std::slice::from_ref(table), 0).await?;
        let writer = Arc::new(writers.into_iter().next().ok_or_else(|| Error::fatal("internal: a table's writer"))?);
        self.known = Some(Arc::clone(&writer));
        Ok(writer)
    }

    /// Begins to stream into a table.
    fn stream(&mut self, sql: String) -> Result<Stream> {
        let mut session =
            self.session.take().ok_or_else(|| Error::fatal("internal: the loader's connection is in use"))?;
        let (pieces, received) = mpsc::channel(PIECES);
        let received =
            unfold(received, |mut received: Receiver| async move { Some((received.recv().await?, received)) });
        session.conn.set_infile_handler(async move { Ok(received.boxed()) });
        let done = tokio::spawn(async move {
            let loaded = load(&mut session, sql).await;
            (session, loaded)
        });
        Ok(Stream { pieces, done })
    }

    /// Takes the connection back; what the server says of the stream.
    async fn ended(&mut self, stream: Stream) -> Result<String> {
        drop(stream.pieces);
        let (session, loaded) =
            stream.done.await.map_err(|e| Error::fatal("internal: loading has been cut off").cause(e))?;
        self.session = Some(session);
        loaded
    }

    /// Sends a piece; if nobody takes it any more, why.
    async fn send(&mut self, stream: Stream, piece: Vec<u8>) -> Result<Stream> {
        if stream.pieces.send(Ok(Bytes::from(piece))).await.is_ok() {
            return Ok(stream);
        }
        self.ended(stream).await?;
        Err(Error::fatal("internal: loading has ended before its rows"))
    }

    /// The rows as statements, for servers that take no LOAD DATA.
    async fn insert(&mut self, writer: &Writer, into: &str, views: &Views<'_>, rows: usize) -> Result<()> {
        let session = self.session()?;
        let head = format!("INSERT INTO {into} ({}) VALUES ", writer.names(&writer.all()));
        let mut sql = Vec::new();
        for row in 0..rows {
            sql.extend_from_slice(if sql.is_empty() { head.as_bytes() } else { b"," });
            writer.put_row(views, RowRef { batch: 0, row: row as u32 }, &mut sql)?;
            if row + 1 == rows || sql.len() > session.packet {
                statements::run(session, &sql).await.map_err(|(_, error)| error)?;
                sql.clear();
            }
        }
        Ok(())
    }

    async fn load_rows(&mut self, open: &mut OpenChunk, rows: &ChangeBatch) -> Result<()> {
        let w = Arc::clone(&open.writer);
        let into = if open.keeps_rows { STAGED.to_owned() } else { w.name.clone() };
        let views = Views::of(std::iter::once(&rows.rows), &w.types)?;
        open.sent += rows.len() as u64;
        let streams = open.stream.is_some() || self.session()?.local_infile;
        if !streams {
            return self.insert(&w, &into, &views, rows.len()).await;
        }
        let mut stream = match open.stream.take() {
            Some(stream) => stream,
            None => self.stream(load_data(&w, &into))?,
        };
        let mut piece = Vec::with_capacity(PIECE + PIECE / 4);
        for row in 0..rows.len() {
            for (i, column) in w.columns.iter().enumerate() {
                if i > 0 {
                    piece.push(b'\t');
                }
                encode::put_field(views.at(0, i), column.form, row, &mut piece)
                    .map_err(|e| e.context(&w.schema.columns[i].name))?;
            }
            piece.push(b'\n');
            if piece.len() >= PIECE {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE + PIECE / 4));
                stream = self.send(stream, full).await?;
            }
        }
        open.stream = Some(self.send(stream, piece).await?);
        Ok(())
    }

    /// Puts rows in beside those that are there. No key but the table's own says which they are.
    async fn merge(&mut self, w: &Writer) -> Result<()> {
        let on = |n: &str| format!("t.{n} = s.{n}");
        let key: Vec<String> = w.schema.key.iter().map(|k| on(&w.columns[*k].name)).collect();
        let set: Vec<String> = w.columns.iter().map(|c| on(&c.name)).collect();
        let (key, names) = (key.join(" AND "), w.names(&w.all()));
        let session = self.session()?;
        for sql in [
            format!("UPDATE {} AS t JOIN {STAGED} AS s ON {key} SET {}", w.name, set.join(", ")),
            format!(
                "INSERT INTO {name} ({names}) SELECT {names} FROM {STAGED} AS s \
                 WHERE NOT EXISTS (SELECT 1 FROM {name} AS t WHERE {key})",
                name = w.name
            ),
            format!("DROP TEMPORARY TABLE {STAGED}"),
        ] {
            statements::run(session, sql.as_bytes()).await.map_err(|(_, error)| error)?;
        }
        Ok(())
    }
}

/// The statement that takes a stream in. With REPLACE a value that does not fit ends it, which otherwise is only warned
/// of. (MySQL manual, "LOAD DATA Statement": LOCAL means IGNORE.)
fn load_data(w: &Writer, into: &str) -> String {
    let place = |(i, column): (usize, &super::writer::WriterColumn)| {
        if column.converted { format!("@c{i}") } else { column.name.clone() }
    };
    let places: Vec<String> = w.columns.iter().enumerate().map(place).collect();
    let converted = w.columns.iter().enumerate().filter(|(_, c)| c.converted);
    let set: Vec<String> = converted.map(|(i, c)| format!("{} = CONVERT(@c{i} USING utf8mb4)", c.name)).collect();
    let set = if set.is_empty() { String::new() } else { format!(" SET {}", set.join(", ")) };
    format!(
        "LOAD DATA LOCAL INFILE 'trem' REPLACE INTO TABLE {into} CHARACTER SET binary \
         FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({}){set}",
        places.join(", ")
    )
}

async fn load(session: &mut Session, sql: String) -> Result<String> {
    session.execute(sql).await?;
    if session.conn.get_warnings() > 0 {
        return Err(warned(session).await);
    }
    Ok(session.conn.info().into_owned())
}

#[async_trait]
impl Loader for MyLoader {
    async fn start_chunk(&mut self, record: &TableRecord) -> Result<()> {
        let (table, keeps_rows) = (&record.target, record.origin.keeps_rows);
        if self.open.is_some() {
            return Err(Error::fatal("internal: a chunk begins before the last one has ended").target_table(&table.id));
        }
        let writer = self.writer(table).await?;
        let session = self.session()?;
        session.execute("START TRANSACTION").await?;
        if keeps_rows {
            let key = writer.names(&table.key);
            let sql = format!(
                "CREATE TEMPORARY TABLE {STAGED} (PRIMARY KEY ({key})) ENGINE = InnoDB SELECT {} FROM {} LIMIT 0",
                writer.names(&writer.all()),
                quote::table(&table.id)
            );
            session.execute(sql).await?;
        }
        self.open = Some(OpenChunk { writer, keeps_rows, stream: None, sent: 0 });
        Ok(())
    }

    async fn load(&mut self, rows: ChangeBatch) -> Result<()> {
        let mut open = self.open.take().ok_or_else(|| Error::fatal("internal: rows outside of a chunk"))?;
        let loaded = self.load_rows(&mut open, &rows).await.map_err(|e| e.target_table(&open.writer.schema.id));
        self.open = Some(open);
        loaded
    }

    async fn finish_chunk(&mut self, changes: &[RecordChange]) -> Result<()> {
        let open = self.open.take().ok_or_else(|| Error::fatal("internal: the end of a chunk that has not begun"))?;
        let id = open.writer.schema.id.clone();
        let at = |e: Error| e.target_table(&id);
        if let Some(stream) = open.stream {
            let info = self.ended(stream).await.map_err(at)?;
            let (records, replaced) = (told(&info, "Records: "), told(&info, "Deleted: "));
            if records != open.sent || replaced > 0 {
                let what = format!("of {} rows sent the server took {records}, and {replaced} were there", open.sent);
                return Err(at(Error::new(Class::Table, what).remedy("see who else changes the target")));
            }
        }
        if open.keeps_rows {
            self.merge(&open.writer).await.map_err(at)?;
        }
        let (task, epoch) = (self.task.clone(), self.epoch);
        let session = self.session()?;
        bookkeeping::fence(session, &task, epoch).await?;
        for change in changes {
            bookkeeping::write(session, &task, change).await?;
        }
        session.execute("COMMIT").await?;
        failpoint::crash(Point::LoaderAfterCommit);
        Ok(())
    }
}
