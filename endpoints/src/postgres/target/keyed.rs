//! Net changes of a table with a key: deletes, moves, updates, inserts; and the order of steps that is always right
//! when constraints beside the key stand against that one.

mod rekey;
pub(super) mod small;

use std::sync::atomic::Ordering;

use trem_engine::change::{ColumnMask, KeyRef, Move, NetChanges, RowRef, TableCounts, UpdateGroup};
use trem_engine::{Class, Error, Remedy, Result};

use super::copy::CopyWriter;
use super::encode::{Raw, ordinals};
use super::failure::{CHANGED, Failure, Tried};
use super::session::Session;
use super::writer::{Feed, Writer};
use crate::view::{OldViews, Views};

/// Up to so many rows an insert goes by arrays; above, COPY costs less.
const ARRAY_INSERTS: usize = 50;
/// Up to so many rows an update goes by arrays; above, a temporary table costs less.
const ARRAY_UPDATES: usize = 1000;
/// But not from so many bytes a row on: a temporary table of those is written to a file and read back.
const WIDE_ROW: usize = 512;
/// Bytes of values that go into one statement's parameters.
const ARRAY_BYTES: usize = 1 << 20;
/// Rows of one statement whose parameters are keys and small values.
const ARRAY_ROWS: usize = 10_000;

/// What is being applied, and to what.
pub(super) struct Keyed<'a> {
    session: &'a mut Session,
    writer: &'a Writer,
    net: &'a NetChanges,
    views: Views<'a>,
    old: OldViews<'a>,
    conflicts: u64,
}

/// Applies net changes inside the open transaction.
pub(super) async fn apply(session: &mut Session, writer: &Writer, net: &NetChanges) -> Result<TableCounts> {
    let mut keyed = Keyed::of(session, writer, net)?;
    keyed.run().await.map_err(|f| Error::from(f).target_table(&writer.schema.id))?;
    writer.proven.store(true, Ordering::Relaxed);
    Ok(TableCounts { conflicts: keyed.conflicts, ..net.counts() })
}

impl<'a> Keyed<'a> {
    fn of(session: &'a mut Session, writer: &'a Writer, net: &'a NetChanges) -> Result<Self> {
        let views = Views::of(net.batches.iter().map(|b| &b.rows), &writer.types)?;
        let old = OldViews::of(&writer.schema, &net.batches)?;
        Ok(Self { session, writer, net, views, old, conflicts: 0 })
    }

    async fn run(&mut self) -> Tried<()> {
        let copies = self.copies(&self.net.inserts);
        let rekeys = self.rekeys();
        let guarded = self.writer.other_unique || copies || rekeys;
        if !guarded {
            return self.in_order(false, false).await.map_err(|f| self.writer.stale(f));
        }
        self.session.client.batch_execute("SAVEPOINT trem").await?;
        match self.in_order(copies, rekeys).await {
            Err(Failure::Unique(e)) => {
                tracing::debug!(table = %self.writer.schema.id, error = %e, "rows are taken out and put in again");
                self.session.client.batch_execute("ROLLBACK TO SAVEPOINT trem").await?;
                self.conflicts = 0;
                self.take_out_then_put_in().await?;
            }
            other => other?,
        }
        self.session.client.batch_execute("RELEASE SAVEPOINT trem").await?;
        Ok(())
    }

    fn copies(&self, rows: &[RowRef]) -> bool {
        rows.len() > ARRAY_INSERTS || self.writer.weight(&self.views, &self.writer.all(), rows) > ARRAY_BYTES
    }

    /// The cheap order; no two rows may swap a unique value beside the key.
    async fn in_order(&mut self, copies: bool, rekeys: bool) -> Tried<()> {
        self.delete().await?;
        let groups = if rekeys { Vec::new() } else { self.moves_by_mask(false) };
        if rekeys {
            self.rekey().await?;
        }
        for (unknown, moves) in &groups {
            self.take_out(unknown, moves).await?;
        }
        for group in 0..self.net.updates.len() {
            self.update(group).await?;
        }
        self.put_in_all(&groups).await?;
        if copies { self.copy_inserts().await } else { self.upsert(&self.net.inserts).await }
    }

    /// All affected rows out first, then all final images in: no intermediate state can violate a constraint.
    async fn take_out_then_put_in(&mut self) -> Tried<()> {
        self.delete().await?;
        let groups = self.moves_by_mask(true);
        for (unknown, moves) in &groups {
            self.take_out(unknown, moves).await?;
        }
        self.put_in_all(&groups).await?;
        self.upsert(&self.net.inserts).await
    }

    /// The moves by what is unknown of them; with `updates`, every update too, as a move to where it is.
    fn moves_by_mask(&mut self, updates: bool) -> Vec<(ColumnMask, Vec<(i32, Move)>)> {
        let mut groups: Vec<(ColumnMask, Vec<Move>)> = Vec::new();
        let mut add = |mask: &ColumnMask, one: Move| match groups.iter_mut().find(|g| g.0 == *mask) {
            Some(group) => group.1.push(one),
            None => groups.push((mask.clone(), vec![one])),
        };
        for one in &self.net.moves {
            add(self.net.batches[one.to.batch as usize].mask(one.to.row as usize), *one);
        }
        for group in self.net.updates.iter().filter(|_| updates) {
            for row in &group.rows {
                add(&group.unknown, Move { from: KeyRef::Row(*row), to: *row });
            }
        }
        let ord = &mut self.session.last_ord;
        let mut number = |m: Move| {
            *ord += 1;
            (*ord, m)
        };
        groups.into_iter().map(|(mask, moves)| (mask, moves.into_iter().map(&mut number).collect())).collect()
    }

    async fn delete(&mut self) -> Tried<()> {
        self.delete_keys(&self.net.deletes).await
    }

    async fn delete_keys(&mut self, keys: &[KeyRef]) -> Tried<()> {
        let sql = self.delete_sql();
        for keys in keys.chunks(ARRAY_ROWS) {
            let arrays = self.writer.key_arrays(&self.views, &self.old, keys)?;
            let gone = self.session.execute(&sql, &arrays).await?;
            self.conflicts += (keys.len() as u64).saturating_sub(gone);
        }
        Ok(())
    }

    fn delete_sql(&self) -> String {
        let w = self.writer;
        let from = Feed::Arrays { columns: &w.schema.key, ord: false };
        format!("DELETE FROM {} AS t USING {} WHERE {}", w.name, w.from(&from), w.by_key(&from))
    }

    /// Whether the images are all there is to know of the rows.
    fn whole(&self, unknown: &ColumnMask) -> bool {
        unknown.is_empty() && self.writer.extra.is_empty()
    }

    /// Deletes rows, keeping in a temporary table what the images do not know and what only the target has.
    async fn take_out(&mut self, unknown: &ColumnMask, moves: &[(i32, Move)]) -> Tried<()> {
        let w = self.writer;
        if let Some(hazard) = w.hazard.as_ref().filter(|_| !moves.is_empty()) {
            return Err(hazard.refusal(&w.schema.id, "a row must be taken out and put in again").into());
        }
        if self.whole(unknown) {
            let keys: Vec<KeyRef> = moves.iter().map(|(_, m)| m.from).collect();
            return self.delete_keys(&keys).await;
        }
        let kept = self.kept_table().await?;
        let lost: Vec<usize> = w.all().into_iter().filter(|i| unknown.contains(*i)).collect();
        let into: Vec<String> =
            lost.iter().map(|i| format!("c{i}")).chain((0..w.extra.len()).map(|n| format!("x{n}"))).collect();
        let returned: Vec<String> = lost
            .iter()
            .map(|i| format!("t.{}", w.columns[*i].name))
            .chain(w.extra.iter().map(|x| format!("t.{x}")))
            .collect();
        let from = Feed::Arrays { columns: &w.schema.key, ord: true };
        let sql = format!(
            "WITH gone AS (DELETE FROM {} AS t USING {} WHERE {} RETURNING {}) \
             INSERT INTO {kept} ({}) SELECT * FROM gone",
            w.name,
            w.from(&from),
            w.by_key(&from),
            std::iter::once("s.ord".to_owned()).chain(returned).collect::<Vec<_>>().join(", "),
            std::iter::once("ord".to_owned()).chain(into).collect::<Vec<_>>().join(", "),
        );
        for part in moves.chunks(ARRAY_ROWS) {
            let keys: Vec<KeyRef> = part.iter().map(|(_, m)| m.from).collect();
            let mut arrays = w.key_arrays(&self.views, &self.old, &keys)?;
            arrays.push(Raw(ordinals(part[0].0, part.len())));
            let gone = self.session.execute(&sql, &arrays).await?;
            self.missing((part.len() as u64).saturating_sub(gone), unknown)?;
        }
        Ok(())
    }

    /// Rows that should have been there: their image is the whole row, or the row is lost.
    fn missing(&mut self, count: u64, unknown: &ColumnMask) -> Result<()> {
        if count > 0 && !unknown.is_empty() {
            let what =
                format!("{count} updated rows are not on the target, and the log does not carry all of their columns");
            return Err(Error::new(Class::Table, what)
                .target_table(&self.writer.schema.id)
                .remedy(Remedy::from(CHANGED).then_reload(&self.writer.schema.id)));
        }
        self.conflicts += count;
        Ok(())
    }

    async fn put_in_all(&mut self, groups: &[(ColumnMask, Vec<(i32, Move)>)]) -> Tried<()> {
        for (unknown, moves) in groups {
            self.put_in(unknown, moves).await?;
        }
        Ok(())
    }

    async fn put_in(&mut self, unknown: &ColumnMask, moves: &[(i32, Move)]) -> Tried<()> {
        if self.whole(unknown) {
            let rows: Vec<RowRef> = moves.iter().map(|(_, m)| m.to).collect();
            return self.upsert(&rows).await;
        }
        // What was kept is found by its number, without an index.
        self.session.plan_freely(true).await?;
        self.put_in_kept(unknown, moves).await?;
        self.session.plan_freely(false).await
    }

    async fn put_in_kept(&mut self, unknown: &ColumnMask, moves: &[(i32, Move)]) -> Tried<()> {
        let w = self.writer;
        let kept = self.kept_table().await?;
        let known: Vec<usize> = w.all().into_iter().filter(|i| !unknown.contains(*i)).collect();
        let mut rest = moves;
        while !rest.is_empty() {
            let rows: Vec<RowRef> = rest.iter().map(|(_, m)| m.to).collect();
            let count = self.fitting(&known, &rows);
            let arrays = if self.heavy(&known, &rows[..count]) {
                self.stage(&known, &rows[..count]).await?;
                Vec::new()
            } else {
                let mut arrays = w.arrays(&self.views, &known, &rows[..count])?;
                arrays.push(Raw(ordinals(rest[0].0, count)));
                arrays
            };
            let staged = arrays.is_empty().then(|| w.staged_table("staged").0);
            let (from, ord) = match &staged {
                Some(staged) => (Feed::Table(staged), rest[0].0.to_string()),
                None => (Feed::Arrays { columns: &known, ord: true }, "s.ord".to_owned()),
            };
            let met = self.once_or_often(&self.put_in_sql(unknown, &from, &kept, &ord), &arrays).await?;
            if met < count as u64 && unknown.is_empty() {
                // Rows that were not there to be taken out: what only the target has of them takes its default.
                self.once_or_often(&self.put_in_new_sql(&from, &kept, &ord), &arrays).await?;
            }
            if let Some(staged) = staged {
                self.session.client.batch_execute(&format!("TRUNCATE {staged}")).await?;
            }
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Without parameters the statement names the row, and never comes again.
    async fn once_or_often(&mut self, sql: &str, arrays: &[Raw]) -> Tried<u64> {
        if arrays.is_empty() {
            return Ok(self.session.client.execute(sql, &[]).await?);
        }
        self.session.execute(sql, arrays).await
    }

    fn put_in_new_sql(&self, from: &Feed<'_>, kept: &str, ord: &str) -> String {
        let w = self.writer;
        let all = w.all();
        let values: Vec<String> = all.iter().map(|i| w.value(*i, from)).collect();
        format!(
            "INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} \
             WHERE NOT EXISTS (SELECT FROM {kept} AS k WHERE k.ord = {ord}) {}",
            w.name,
            w.names(&all),
            values.join(", "),
            w.from(from),
            w.upsert(&all),
        )
    }

    fn put_in_sql(&self, unknown: &ColumnMask, from: &Feed<'_>, kept: &str, ord: &str) -> String {
        let w = self.writer;
        let value = |i: usize| if unknown.contains(i) { format!("k.c{i}") } else { w.value(i, from) };
        let mut values: Vec<String> = w.all().into_iter().map(value).collect();
        values.extend((0..w.extra.len()).map(|n| format!("k.x{n}")));
        let mut names: Vec<&str> = w.columns.iter().map(|c| c.name.as_str()).collect();
        names.extend(w.extra.iter().map(String::as_str));
        format!(
            "INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE \
             SELECT {} FROM {} JOIN {kept} AS k ON k.ord = {ord} {}",
            w.name,
            names.join(", "),
            values.join(", "),
            w.from(from),
            w.upsert(&w.all()),
        )
    }

    /// Whether a part is one row too large for parameters, which are copied.
    fn heavy(&self, columns: &[usize], part: &[RowRef]) -> bool {
        part.len() == 1 && self.writer.weight(&self.views, columns, part) > ARRAY_BYTES
    }

    /// Copies these columns of rows into the table for images.
    async fn stage(&mut self, columns: &[usize], rows: &[RowRef]) -> Tried<String> {
        let staged = self.staged_table().await?;
        let names = columns.iter().map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
        let into = format!("{staged} ({names})");
        let mut copy = CopyWriter::start(&self.session.client, &into, self.writer.copy_columns(columns)).await?;
        copy.rows(&self.views, rows.iter().copied()).await?;
        copy.finish().await?;
        Ok(staged)
    }

    /// How many of the rows fit into one statement's parameters: at least one.
    fn fitting(&self, columns: &[usize], rows: &[RowRef]) -> usize {
        let mut bytes = 0;
        for (n, row) in rows.iter().enumerate().take(ARRAY_ROWS) {
            bytes += self.writer.weight(&self.views, columns, std::slice::from_ref(row));
            if bytes > ARRAY_BYTES && n > 0 {
                return n;
            }
        }
        rows.len().min(ARRAY_ROWS)
    }

    async fn update(&mut self, group: usize) -> Tried<()> {
        let net = self.net;
        let group = &net.updates[group];
        let known = self.known(group);
        let rows = &group.rows;
        let narrow = self.writer.weight(&self.views, &known, rows) / rows.len().max(1) < WIDE_ROW;
        let found = if rows.len() > ARRAY_UPDATES && narrow {
            self.update_staged(&known, rows).await?
        } else {
            self.update_by_arrays(&known, rows).await?
        };
        self.met_none(rows, found, &group.unknown).await
    }

    /// By way of a temporary table; how many rows were met.
    async fn update_staged(&mut self, known: &[usize], rows: &[RowRef]) -> Tried<u64> {
        let staged = self.staged_table().await?;
        let Some(sql) = self.update_sql(known, &Feed::Table(&staged)) else { return Ok(rows.len() as u64) };
        self.stage(known, rows).await?;
        let found = self.session.execute(&sql, &[]).await?;
        self.session.client.batch_execute(&format!("TRUNCATE {staged}")).await?;
        Ok(found)
    }

    /// By parameters, in parts; how many rows were met.
    async fn update_by_arrays(&mut self, known: &[usize], rows: &[RowRef]) -> Tried<u64> {
        let from = Feed::Arrays { columns: known, ord: false };
        let Some(sql) = self.update_sql(known, &from) else { return Ok(rows.len() as u64) };
        let (mut rest, mut found) = (rows, 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.fitting(known, rest));
            found += if self.heavy(known, now) {
                self.update_staged(known, now).await?
            } else {
                let arrays = self.writer.arrays(&self.views, known, now)?;
                self.session.execute(&sql, &arrays).await?
            };
            rest = later;
        }
        Ok(found)
    }

    fn known(&self, group: &UpdateGroup) -> Vec<usize> {
        self.writer.all().into_iter().filter(|i| !group.unknown.contains(*i)).collect()
    }

    fn update_sql(&self, known: &[usize], from: &Feed<'_>) -> Option<String> {
        let w = self.writer;
        let set = w.assignments(known, from);
        (!set.is_empty())
            .then(|| format!("UPDATE {} AS t SET {set} FROM {} WHERE {}", w.name, w.from(from), w.by_key(from)))
    }

    /// Updates that met no row put theirs in, if they know the whole of it.
    async fn met_none(&mut self, rows: &[RowRef], found: u64, unknown: &ColumnMask) -> Tried<()> {
        let missing = (rows.len() as u64).saturating_sub(found);
        if missing == 0 {
            return Ok(());
        }
        self.missing(missing, unknown)?;
        let before = self.conflicts;
        self.upsert(rows).await?;
        // The others of the group were met a second time by the same values.
        self.conflicts = before;
        Ok(())
    }

    async fn copy_inserts(&mut self) -> Tried<()> {
        let w = self.writer;
        let all = w.all();
        let into = format!("{} ({})", w.name, w.names(&all));
        let mut copy = CopyWriter::start(&self.session.client, &into, w.copy_columns(&all)).await?;
        copy.rows(&self.views, self.net.inserts.iter().copied()).await?;
        let taken = copy.finish().await?;
        self.kept_out(self.net.inserts.len(), taken);
        Ok(())
    }

    /// Rows that a trigger of the target has not let in.
    fn kept_out(&mut self, sent: usize, taken: u64) {
        self.conflicts += (sent as u64).saturating_sub(taken);
    }

    /// Puts whole images in; one that meets a row of its key replaces it and counts as a conflict.
    async fn upsert(&mut self, rows: &[RowRef]) -> Tried<()> {
        let all = self.writer.all();
        let by_arrays = self.upsert_sql(&all, &Feed::Arrays { columns: &all, ord: false });
        let mut rest = rows;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.fitting(&all, rest));
            let heavy = self.heavy(&all, now);
            let (sql, arrays) = if heavy {
                let staged = self.stage(&all, now).await?;
                (self.upsert_sql(&all, &Feed::Table(&staged)), Vec::new())
            } else {
                (by_arrays.clone(), self.writer.arrays(&self.views, &all, now)?)
            };
            let count = now.len() as u64;
            let new = match self.writer.partitioned {
                false => self.session.count(&sql, &arrays).await?,
                true => self.session.execute(&sql, &arrays).await?,
            };
            if new < count {
                self.conflicts += count - new;
                self.writer.meets.store(true, Ordering::Relaxed);
            }
            if heavy {
                let staged = self.staged_table().await?;
                self.session.client.batch_execute(&format!("TRUNCATE {staged}")).await?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Puts whole images in; one that meets a row of its key fails.
    fn insert_sql(&self, all: &[usize], from: &Feed<'_>) -> String {
        let w = self.writer;
        let values: Vec<String> = all.iter().map(|i| w.value(*i, from)).collect();
        format!(
            "INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
            w.name,
            w.names(all),
            values.join(", "),
            w.from(from),
        )
    }

    fn upsert_sql(&self, all: &[usize], from: &Feed<'_>) -> String {
        let w = self.writer;
        let put = format!("{} {}", self.insert_sql(all, from), w.upsert(all));
        // A partitioned table does not tell whether a row was there.
        if w.partitioned {
            return put;
        }
        format!("WITH put AS ({put} RETURNING t.xmax = 0 AS new) SELECT count(*) FILTER (WHERE new) FROM put")
    }

    async fn kept_table(&mut self) -> Tried<String> {
        let (name, sql) = self.writer.kept_table();
        self.session.client.batch_execute(&sql).await?;
        Ok(name)
    }

    async fn staged_table(&mut self) -> Tried<String> {
        let (name, sql) = self.writer.staged_table("staged");
        self.session.client.batch_execute(&sql).await?;
        Ok(name)
    }
}
