//! Net changes of a table with a key: deletes, moves, updates, inserts; and the order of steps that is right where a
//! row may meet another one by something else than its key.

use trem_engine::Result;
use trem_engine::change::{ColumnMask, KeyRef, Move, NetChanges, RowRef};

use super::pipe::{Pipe, What};
use super::writer::{Key, ORD, Writer};
use crate::view::{OldViews, Views};

/// Keys of one statement: the server looks each up by the index, and gives that up when they are too many.
const KEYS: usize = 500;

/// What is being applied, and to what.
struct Keyed<'a> {
    writer: &'a Writer,
    net: &'a NetChanges,
    views: &'a Views<'a>,
    old: &'a OldViews<'a>,
}

/// A row that is taken out and put in again, and the number under which what only the target knows of it is kept.
type Taken = (Option<u64>, Move, ColumnMask);

/// Applies net changes inside the open transaction.
pub(super) async fn apply(pipe: &mut Pipe<'_>, writer: &Writer, net: &NetChanges) -> Result<()> {
    let views = Views::of(net.batches.iter().map(|b| &b.rows), &writer.types)?;
    let old = OldViews::of(&writer.schema, &net.batches)?;
    let keyed = Keyed { writer, net, views: &views, old: &old };
    pipe.counts.entry(writer.schema.id.clone()).or_default().add(&net.counts());
    match writer.other_unique {
        false => keyed.in_order(pipe).await,
        true => keyed.take_out_then_put_in(pipe).await,
    }
}

impl Keyed<'_> {
    /// The cheap order.
    async fn in_order(&self, pipe: &mut Pipe<'_>) -> Result<()> {
        self.by_keys(pipe, &self.net.deletes, What::Delete).await?;
        let moves = self.taken(pipe, false);
        self.take_out(pipe, &moves).await?;
        for group in &self.net.updates {
            if group.unknown.is_empty() {
                self.put(pipe, &group.rows, What::Set).await?;
            } else {
                self.change(pipe, &group.unknown, &group.rows).await?;
            }
        }
        self.put_in(pipe, &moves).await?;
        self.put(pipe, &self.net.inserts, What::Put).await
    }

    /// All affected rows out first, then all final images in: no state in between can violate a constraint, and no row
    /// meets another one that is not its own.
    async fn take_out_then_put_in(&self, pipe: &mut Pipe<'_>) -> Result<()> {
        self.by_keys(pipe, &self.net.deletes, What::Delete).await?;
        let moves = self.taken(pipe, true);
        self.take_out(pipe, &moves).await?;
        let new: Vec<KeyRef> = self.net.inserts.iter().map(|at| KeyRef::Row(*at)).collect();
        self.by_keys(pipe, &new, What::Clear).await?;
        self.put_in(pipe, &moves).await?;
        self.put(pipe, &self.net.inserts, What::Put).await
    }

    /// The moves; with `updates`, every update too, as a move to where it is.
    fn taken(&self, pipe: &mut Pipe<'_>, updates: bool) -> Vec<Taken> {
        let moves = self.net.moves.iter().map(|m| (*m, self.net.batches[m.to.batch as usize].mask(m.to.row as usize)));
        let groups = self.net.updates.iter().filter(|_| updates);
        let updates = groups.flat_map(|group| {
            group.rows.iter().map(move |row| (Move { from: KeyRef::Row(*row), to: *row }, &group.unknown))
        });
        let number = |(one, unknown): (Move, &ColumnMask)| {
            let whole = unknown.is_empty() && self.writer.extra.is_empty();
            pipe.kept.last += 1;
            ((!whole).then_some(pipe.kept.last), one, unknown.clone())
        };
        moves.chain(updates).map(number).collect()
    }

    async fn take_out(&self, pipe: &mut Pipe<'_>, taken: &[Taken]) -> Result<()> {
        let id = &self.writer.schema.id;
        let (kept, create) = self.writer.kept_table();
        if taken.iter().any(|(number, ..)| number.is_some()) && pipe.kept.is_new(self.writer.number) {
            pipe.push(id, create.as_bytes(), What::Quiet, 0).await?;
        }
        let columns = self.writer.columns.iter().map(|c| &c.name).chain(&self.writer.extra);
        let columns = columns.map(|name| format!("t.{name}")).collect::<Vec<_>>().join(", ");
        for (number, one, unknown) in taken {
            let Some(number) = number else { continue };
            let head = format!("INSERT INTO {kept} SELECT {number}, {columns} FROM {} AS t WHERE ", self.writer.name);
            let mut sql = head.into_bytes();
            self.writer.put_key_condition(self.key(), one.from, &mut sql)?;
            let what = if unknown.is_empty() { What::KeepIfThere } else { What::Keep };
            pipe.push(id, &sql, what, 1).await?;
        }
        let (kept, plain): (Vec<&Taken>, Vec<_>) = taken.iter().partition(|(number, ..)| number.is_some());
        let from = |taken: Vec<&Taken>| taken.into_iter().map(|(_, one, _)| one.from).collect::<Vec<_>>();
        self.by_keys(pipe, &from(plain), What::Delete).await?;
        // That they are not there has been counted already.
        self.by_keys(pipe, &from(kept), What::Quiet).await
    }

    async fn put_in(&self, pipe: &mut Pipe<'_>, taken: &[Taken]) -> Result<()> {
        let (kept, plain): (Vec<&Taken>, Vec<_>) = taken.iter().partition(|(number, ..)| number.is_some());
        let moved = |taken: &[&Taken]| taken.iter().map(|(_, one, _)| KeyRef::Row(one.to)).collect::<Vec<_>>();
        self.by_keys(pipe, &moved(&kept), What::Clear).await?;
        if self.writer.other_unique {
            self.by_keys(pipe, &moved(&plain), What::Clear).await?;
        }
        for (number, one, unknown) in &kept {
            if let Some(number) = number {
                self.put_back(pipe, *number, one, unknown).await?;
            }
        }
        let plain: Vec<RowRef> = plain.into_iter().map(|(_, one, _)| one.to).collect();
        self.put(pipe, &plain, What::Put).await?;
        if !kept.is_empty() {
            let sql = format!("DELETE FROM {}", self.writer.kept_table().0);
            pipe.push(&self.writer.schema.id, sql.as_bytes(), What::Quiet, 0).await?;
        }
        Ok(())
    }

    /// A row of which the target knew more than its image does.
    async fn put_back(&self, pipe: &mut Pipe<'_>, number: u64, one: &Move, unknown: &ColumnMask) -> Result<()> {
        let (w, kept) = (self.writer, self.writer.kept_table().0);
        let mut names = vec![w.names(&w.all())];
        names.extend(w.extra.iter().cloned());
        let mut sql = format!("INSERT INTO {} ({}) SELECT ", w.name, names.join(", ")).into_bytes();
        for (i, column) in w.columns.iter().enumerate() {
            sql.extend_from_slice(if i == 0 { b"" } else { b", " });
            match unknown.contains(i) {
                true => sql.extend_from_slice(format!("k.{}", column.name).as_bytes()),
                false => w.put(self.views, one.to, i, &mut sql)?,
            }
        }
        let extra: String = w.extra.iter().map(|name| format!(", k.{name}")).collect();
        sql.extend_from_slice(format!("{extra} FROM {kept} AS k WHERE k.{ORD} = {number}").as_bytes());
        pipe.push(&w.schema.id, &sql, What::Quiet, 1).await?;
        if !unknown.is_empty() {
            return Ok(());
        }
        // It was not there to be taken out: what only the target has of it takes its default.
        let mut sql = format!("INSERT INTO {} ({}) SELECT ", w.name, w.names(&w.all())).into_bytes();
        for i in 0..w.columns.len() {
            sql.extend_from_slice(if i == 0 { b"" } else { b", " });
            w.put(self.views, one.to, i, &mut sql)?;
        }
        let unless = format!(" FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM {kept} AS k WHERE k.{ORD} = {number})");
        sql.extend_from_slice(unless.as_bytes());
        pipe.push(&w.schema.id, &sql, What::Quiet, 1).await
    }

    /// Puts whole images in; one that meets a row of its key replaces it.
    async fn put(&self, pipe: &mut Pipe<'_>, rows: &[RowRef], what: What) -> Result<()> {
        let w = self.writer;
        let (insert, upsert) = (w.insert(), if w.other_unique { "" } else { w.upsert() });
        let (mut sql, mut count) = (Vec::new(), 0);
        for (n, row) in rows.iter().enumerate() {
            sql.extend_from_slice(if count == 0 { insert.as_bytes() } else { b"," });
            w.put_row(self.views, *row, &mut sql)?;
            count += 1;
            if n + 1 == rows.len() || sql.len() > pipe.room() / 2 {
                sql.extend_from_slice(upsert.as_bytes());
                pipe.push(&w.schema.id, &sql, what, count).await?;
                sql.clear();
                count = 0;
            }
        }
        Ok(())
    }

    /// Sets what is known of rows that are there.
    async fn change(&self, pipe: &mut Pipe<'_>, unknown: &ColumnMask, rows: &[RowRef]) -> Result<()> {
        let w = self.writer;
        let known: Vec<usize> = w.all().into_iter().filter(|i| !unknown.contains(*i)).collect();
        for row in rows {
            let mut sql = format!("UPDATE {} SET ", w.name).into_bytes();
            w.put_assignments(self.views, *row, &known, &mut sql)?;
            sql.extend_from_slice(b" WHERE ");
            w.put_key_condition(self.key(), KeyRef::Row(*row), &mut sql)?;
            pipe.push(&w.schema.id, &sql, What::Change, 1).await?;
        }
        Ok(())
    }

    /// Deletes the rows of these keys.
    async fn by_keys(&self, pipe: &mut Pipe<'_>, keys: &[KeyRef], what: What) -> Result<()> {
        let w = self.writer;
        let mut rest = keys;
        while !rest.is_empty() {
            let mut sql = format!("DELETE FROM {} WHERE ", w.name).into_bytes();
            let mut count = 0;
            let single = w.schema.key.len() == 1;
            if single {
                sql.extend_from_slice(w.columns[w.schema.key[0]].name.as_bytes());
                sql.extend_from_slice(b" IN (");
            }
            for key in rest.iter().take(KEYS) {
                if count > 0 && sql.len() > pipe.room() / 2 {
                    break;
                }
                if single {
                    sql.extend_from_slice(if count == 0 { b"" } else { b"," });
                    w.put_key_value(self.key(), *key, 0, &mut sql)?;
                } else {
                    sql.extend_from_slice(if count == 0 { b"(" } else { b" OR (" });
                    w.put_key_condition(self.key(), *key, &mut sql)?;
                    sql.push(b')');
                }
                count += 1;
            }
            if single {
                sql.push(b')');
            }
            pipe.push(&w.schema.id, &sql, what, count as u64).await?;
            rest = &rest[count..];
        }
        Ok(())
    }

    fn key(&self) -> Key<'_> {
        Key { rows: self.views, old: self.old }
    }
}
