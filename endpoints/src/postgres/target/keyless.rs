//! Changes of a table without a key, in source order. A row is told apart by its whole text as the target prints it,
//! which is exact for every type (1.0 is not 1.00, and json has no equality of its own); of equal rows one is taken.

use trem_engine::change::{ChangeBatch, Op, RowRef, TableCounts};
use trem_engine::schema::Identity;
use trem_engine::{Class, Error, Remedy, Result};

use super::copy::CopyWriter;
use super::failure::{CHANGED, Tried};
use super::session::Session;
use super::writer::{Feed, Writer};
use crate::view::Views;

/// Up to so many rows an insert goes by arrays; above, COPY costs less.
const ARRAY_INSERTS: usize = 50;
const ARRAY_BYTES: usize = 1 << 20;
/// Rows of one delete statement, which reads the table once.
const ARRAY_ROWS: usize = 10_000;

/// Applies the batches inside the open transaction.
pub(super) async fn apply(session: &mut Session, writer: &Writer, batches: &[ChangeBatch]) -> Result<TableCounts> {
    let views = Views::of(batches.iter().map(|b| &b.rows), &writer.types)?;
    let searches = batches.iter().any(|b| b.ops.iter().any(|op| *op != Op::Insert));
    if searches {
        session.plan_freely(true).await.map_err(|f| Error::from(f).target_table(&writer.schema.id))?;
    }
    let mut keyless = Keyless { session, writer, views, counts: TableCounts::default() };
    for (number, batch) in batches.iter().enumerate() {
        keyless.batch(number as u32, batch).await.map_err(|f| Error::from(f).target_table(&writer.schema.id))?;
    }
    let counts = keyless.counts;
    if searches {
        session.plan_freely(false).await.map_err(|f| Error::from(f).target_table(&writer.schema.id))?;
    }
    Ok(counts)
}

struct Keyless<'a> {
    session: &'a mut Session,
    writer: &'a Writer,
    views: Views<'a>,
    counts: TableCounts,
}

impl Keyless<'_> {
    async fn batch(&mut self, number: u32, batch: &ChangeBatch) -> Tried<()> {
        let mut from = 0;
        while from < batch.len() {
            let op = batch.ops[from];
            if op != Op::Insert && self.writer.schema.identity == Identity::InsertOnly {
                return Err(
                    Error::fatal("the log changes a row of a table that has nothing to tell its rows apart").into()
                );
            }
            let run = batch.ops[from..].iter().take_while(|o| **o == op).count();
            let rows: Vec<RowRef> = (from..from + run).map(|row| RowRef { batch: number, row: row as u32 }).collect();
            match op {
                Op::Insert => self.insert(&rows).await?,
                Op::Delete => self.delete(&rows).await?,
                Op::Update => self.update(batch, &rows).await?,
            }
            from += run;
        }
        Ok(())
    }

    async fn insert(&mut self, rows: &[RowRef]) -> Tried<()> {
        let w = self.writer;
        let all = w.all();
        self.counts.inserted += rows.len() as u64;
        if rows.len() > ARRAY_INSERTS || w.weight(&self.views, &all, rows) > ARRAY_BYTES {
            let into = format!("{} ({})", w.name, w.names(&all));
            let mut copy = CopyWriter::start(&self.session.client, &into, w.copy_columns(&all)).await?;
            copy.rows(&self.views, rows.iter().copied()).await?;
            let taken = copy.finish().await?;
            self.counts.conflicts += (rows.len() as u64).saturating_sub(taken);
            return Ok(());
        }
        let feed = Feed::Arrays { columns: &all, ord: false };
        let values: Vec<String> = all.iter().map(|i| w.value(*i, &feed)).collect();
        let sql = format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
            w.name,
            w.names(&all),
            values.join(", "),
            w.from(&feed)
        );
        let arrays = w.arrays(&self.views, &all, rows)?;
        let taken = self.session.execute(&sql, &arrays).await?;
        self.counts.conflicts += (rows.len() as u64).saturating_sub(taken);
        Ok(())
    }

    /// Deletes as many rows of each text as there are deletes of it.
    async fn delete(&mut self, rows: &[RowRef]) -> Tried<()> {
        let w = self.writer;
        let all = w.all();
        let feed = Feed::Arrays { columns: &all, ord: false };
        let sql = self.delete_sql(&feed);
        for part in rows.chunks(ARRAY_ROWS) {
            let gone = if w.weight(&self.views, &all, part) > ARRAY_BYTES {
                let staged = stage(self.session, w, "staged", &all, &self.views, part).await?;
                let gone = self.session.execute(&self.delete_sql(&Feed::Table(&staged)), &[]).await?;
                self.session.client.batch_execute(&format!("TRUNCATE {staged}")).await?;
                gone
            } else {
                self.session.execute(&sql, &w.arrays(&self.views, &all, part)?).await?
            };
            self.counts.deleted += part.len() as u64;
            self.counts.conflicts += (part.len() as u64).saturating_sub(gone);
        }
        Ok(())
    }

    fn delete_sql(&self, feed: &Feed<'_>) -> String {
        let w = self.writer;
        let (sent, stored) = (self.sent(feed), self.stored());
        format!(
            "WITH wanted AS MATERIALIZED (SELECT {sent} AS whole, count(*) AS n FROM {from} GROUP BY 1), \
             found AS MATERIALIZED (SELECT t.tableoid AS rel, t.ctid AS place, {stored} AS whole FROM {name} AS t), \
             counted AS (SELECT rel, place, whole, row_number() OVER (PARTITION BY whole) AS n FROM found \
             WHERE whole IN (SELECT whole FROM wanted)) \
             DELETE FROM {name} AS t USING counted AS c, wanted AS d \
             WHERE c.whole = d.whole AND c.n <= d.n AND t.ctid = c.place AND t.tableoid = c.rel",
            from = w.from(feed),
            name = w.name,
        )
    }

    /// The text of a row sent. Each value passes through the column's type, as a stored one has.
    fn sent(&self, feed: &Feed<'_>) -> String {
        let w = self.writer;
        let one = |i: usize| format!("({})::{}", w.value(i, feed), w.columns[i].ty);
        format!("ROW({})::text", w.all().into_iter().map(one).collect::<Vec<_>>().join(", "))
    }

    /// The text of a row stored.
    fn stored(&self) -> String {
        let one = |c: &super::writer::WriterColumn| format!("t.{}", c.name);
        format!("ROW({})::text", self.writer.columns.iter().map(one).collect::<Vec<_>>().join(", "))
    }

    /// One by one: an update may take up a row that the one before it has made.
    async fn update(&mut self, batch: &ChangeBatch, rows: &[RowRef]) -> Tried<()> {
        let w = self.writer;
        let Some(old) = &batch.old else {
            return Err(Error::fatal("the log updates a row without saying which").into());
        };
        let old_views = Views::of(std::iter::once(&old.images), &w.types)?;
        for at in rows {
            let place = batch.old_row(at.row as usize);
            let place = place.ok_or_else(|| Error::fatal("the log updates a row without saying which"))?;
            let unknown = batch.mask(at.row as usize);
            let known: Vec<usize> = w.all().into_iter().filter(|i| !unknown.contains(*i)).collect();
            let old_row = RowRef { batch: 0, row: place as u32 };
            let met = self.update_one(&old_views, old_row, *at, &known).await?;
            self.counts.updated += 1;
            if met == 0 {
                self.counts.conflicts += 1;
                if !unknown.is_empty() {
                    let what = "an updated row is not on the target, and the log does not carry all of it";
                    let e = Error::new(Class::Table, what);
                    return Err(e.remedy(Remedy::from(CHANGED).then_reload(&w.schema.id)).into());
                }
                self.insert(std::slice::from_ref(at)).await?;
                self.counts.inserted -= 1;
            }
        }
        Ok(())
    }

    async fn update_one(&mut self, old: &Views<'_>, from: RowRef, to: RowRef, known: &[usize]) -> Tried<u64> {
        let w = self.writer;
        let all = w.all();
        let weight = w.weight(old, &all, &[from]).saturating_add(w.weight(&self.views, known, &[to]));
        if weight > ARRAY_BYTES {
            let staged = stage(self.session, w, "staged", &all, old, &[from]).await?;
            let next = stage(self.session, w, "next", known, &self.views, &[to]).await?;
            let sql = self.update_sql(known, &Feed::Table(&staged), &format!("{next} AS n"));
            let met = self.session.execute(&sql, &[]).await?;
            self.session.client.batch_execute(&format!("TRUNCATE {staged}, {next}")).await?;
            return Ok(met);
        }
        let mut arrays = w.arrays(old, &all, &[from])?;
        arrays.extend(w.arrays(&self.views, known, &[to])?);
        let feed = Feed::Arrays { columns: &all, ord: false };
        let sql = self.update_sql(known, &feed, &w.unnest(known, false, all.len(), "n"));
        self.session.execute(&sql, &arrays).await
    }

    fn update_sql(&self, known: &[usize], feed: &Feed<'_>, next: &str) -> String {
        let w = self.writer;
        let set: Vec<String> = known
            .iter()
            .map(|i| format!("{} = {}", w.columns[*i].name, w.value(*i, feed).replacen("s.", "n.", 1)))
            .collect();
        format!(
            "UPDATE {name} AS t SET {set} FROM {next} WHERE (t.tableoid, t.ctid) = \
             (SELECT t.tableoid, t.ctid FROM {name} AS t, {from} WHERE {stored} = {sent} LIMIT 1)",
            name = w.name,
            set = set.join(", "),
            from = w.from(feed),
            stored = self.stored(),
            sent = self.sent(feed),
        )
    }
}

/// Copies these columns of rows into a temporary table: a large value goes piece by piece.
async fn stage(
    session: &Session,
    writer: &Writer,
    role: &str,
    columns: &[usize],
    views: &Views<'_>,
    rows: &[RowRef],
) -> Tried<String> {
    let (staged, create) = writer.staged_table(role);
    session.client.batch_execute(&create).await?;
    let names = columns.iter().map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
    let mut copy =
        CopyWriter::start(&session.client, &format!("{staged} ({names})"), writer.copy_columns(columns)).await?;
    copy.rows(views, rows.iter().copied()).await?;
    copy.finish().await?;
    Ok(staged)
}
