//! Changes of a table without a key, in source order. A row is told apart by all that it has; of equal rows one is
//! taken.

use trem_engine::change::{ChangeBatch, Op, RowRef};
use trem_engine::schema::Identity;
use trem_engine::{Class, Error, Remedy, Result};

use super::pipe::{Pipe, What};
use super::writer::Writer;
use crate::view::Views;

/// Applies the batches inside the open transaction.
pub(super) async fn apply(pipe: &mut Pipe<'_>, writer: &Writer, batches: &[ChangeBatch]) -> Result<()> {
    let views = Views::of(batches.iter().map(|b| &b.rows), &writer.types)?;
    let keyless = Keyless { writer, views: &views };
    for (number, batch) in batches.iter().enumerate() {
        keyless.batch(pipe, number as u32, batch).await?;
    }
    Ok(())
}

struct Keyless<'a> {
    writer: &'a Writer,
    views: &'a Views<'a>,
}

impl Keyless<'_> {
    async fn batch(&self, pipe: &mut Pipe<'_>, number: u32, batch: &ChangeBatch) -> Result<()> {
        let id = &self.writer.schema.id;
        let mut from = 0;
        while from < batch.len() {
            let op = batch.ops[from];
            if op != Op::Insert && self.writer.schema.identity == Identity::InsertOnly {
                return Err(Error::fatal("the log changes a row of a table that has nothing to tell its rows apart"));
            }
            let run = batch.ops[from..].iter().take_while(|o| **o == op).count();
            let rows: Vec<RowRef> = (from..from + run).map(|row| RowRef { batch: number, row: row as u32 }).collect();
            let counts = pipe.counts.entry(id.clone()).or_default();
            match op {
                Op::Insert => counts.inserted += run as u64,
                Op::Delete => counts.deleted += run as u64,
                Op::Update => counts.updated += run as u64,
            }
            match op {
                Op::Insert => self.insert(pipe, &rows).await?,
                Op::Delete => self.delete(pipe, &rows).await?,
                Op::Update => self.update(pipe, batch, &rows).await?,
            }
            from += run;
        }
        Ok(())
    }

    async fn insert(&self, pipe: &mut Pipe<'_>, rows: &[RowRef]) -> Result<()> {
        let w = self.writer;
        let insert = w.insert();
        let (mut sql, mut count) = (Vec::new(), 0);
        for (n, row) in rows.iter().enumerate() {
            sql.extend_from_slice(if count == 0 { insert.as_bytes() } else { b"," });
            w.put_row(self.views, *row, &mut sql)?;
            count += 1;
            if n + 1 == rows.len() || sql.len() > pipe.room() / 2 {
                pipe.push(&w.schema.id, &sql, What::Put, count).await?;
                sql.clear();
                count = 0;
            }
        }
        Ok(())
    }

    async fn delete(&self, pipe: &mut Pipe<'_>, rows: &[RowRef]) -> Result<()> {
        for row in rows {
            let mut sql = format!("DELETE FROM {} WHERE ", self.writer.name).into_bytes();
            self.writer.put_whole_condition(self.views, *row, &mut sql)?;
            sql.extend_from_slice(b" LIMIT 1");
            pipe.push(&self.writer.schema.id, &sql, What::Delete, 1).await?;
        }
        Ok(())
    }

    /// One by one: an update may take up a row that the one before it has made.
    async fn update(&self, pipe: &mut Pipe<'_>, batch: &ChangeBatch, rows: &[RowRef]) -> Result<()> {
        let w = self.writer;
        let unsaid = || Error::fatal("the log updates a row without saying which");
        let old = batch.old.as_ref().ok_or_else(unsaid)?;
        let old_views = Views::of(std::iter::once(&old.images), &w.types)?;
        pipe.flush().await?;
        for at in rows {
            let place = batch.old_row(at.row as usize).ok_or_else(unsaid)?;
            let unknown = batch.mask(at.row as usize);
            let known: Vec<usize> = w.all().into_iter().filter(|i| !unknown.contains(*i)).collect();
            let mut sql = format!("UPDATE {} SET ", w.name).into_bytes();
            w.put_assignments(self.views, *at, &known, &mut sql)?;
            sql.extend_from_slice(b" WHERE ");
            w.put_whole_condition(&old_views, RowRef { batch: 0, row: place as u32 }, &mut sql)?;
            sql.extend_from_slice(b" LIMIT 1");
            pipe.session.execute(sql).await.map_err(|e| e.target_table(&w.schema.id))?;
            if pipe.session.matched() > 0 {
                continue;
            }
            pipe.counts.entry(w.schema.id.clone()).or_default().conflicts += 1;
            if !unknown.is_empty() {
                let what = "an updated row is not on the target, and the log does not carry all of it";
                let remedy = Remedy::from("see who else changes the target").then_reload(&w.schema.id);
                return Err(Error::new(Class::Table, what).target_table(&w.schema.id).remedy(remedy));
            }
            self.insert(pipe, std::slice::from_ref(at)).await?;
            pipe.flush().await?;
        }
        Ok(())
    }
}
