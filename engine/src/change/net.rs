//! Net effect of a table's changes: at most one delete and one put for each row, in an order that is always safe.
//!
//! A set is applied in phases (deletes, moves taken out, updates, inserts and moves put in), so that swaps and
//! chains of keys need no care at the target. Every row is followed by its *origin*, the key it had on the target
//! before the set.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_row::{RowConverter, Rows, SortField};
use arrow_select::interleave::interleave;
use hashbrown::HashMap;

use super::batch::{ChangeBatch, ColumnMask, Op};
use super::commit::Commits;
use super::counts::TableCounts;
use crate::error::{Error, Result};
use crate::schema::TableSchema;

/// A row image: a row of one of [`NetChanges::batches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowRef {
    /// Index into the batches.
    pub batch: u32,
    /// Row in the batch.
    pub row: u32,
}

/// A key as it stands on the target before the set is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyRef {
    /// The key columns of a row image.
    Row(RowRef),
    /// The key columns of an old image: `row` counts in [`super::OldImages::images`] of the batch.
    Old(RowRef),
}

/// Rows whose key stays and whose other columns are set, all but those in `unknown`.
#[derive(Clone, Debug)]
pub struct UpdateGroup {
    /// Columns that keep what the target has.
    pub unknown: ColumnMask,
    /// The images, in key order.
    pub rows: Vec<RowRef>,
}

/// A row whose key changes. What is unknown of it, and what the target alone has of it, stays with it.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Where it is on the target.
    pub from: KeyRef,
    /// What it becomes; [`ChangeBatch::mask`] of that row says what is unknown.
    pub to: RowRef,
}

/// What remains to be done for one table, in the order of the fields.
#[derive(Clone, Debug)]
pub struct NetChanges {
    /// What the references point into: the batches given and, if images had to be merged, one more made here.
    pub batches: Vec<ChangeBatch>,
    /// Rows to delete, in key order.
    pub deletes: Vec<KeyRef>,
    /// Rows to take out before the updates, keeping what only the target knows of them, and to put in again after.
    pub moves: Vec<Move>,
    /// Rows to update, grouped by what is unknown.
    pub updates: Vec<UpdateGroup>,
    /// Rows to insert, in source order.
    pub inserts: Vec<RowRef>,
    /// Changes that took effect through a later change of the same row.
    pub merged: u64,
}

impl NetChanges {
    /// Merges the changes of one table with a key (`Identity::Key` or `KeyWithFullImage`); all batches have the
    /// same shape and stand in source order.
    ///
    /// # Errors
    /// Changes that cannot follow each other, such as an update that gives a row the key of another one.
    pub fn of(batches: Vec<ChangeBatch>) -> Result<Self> {
        let Some(first) = batches.first() else {
            return Ok(Self::empty(batches));
        };
        let table = Arc::clone(&first.table);
        let keys = Keys::of(&table, &batches)?;
        let mut merge = Merge::default();
        for (b, batch) in batches.iter().enumerate() {
            for row in 0..batch.len() {
                merge
                    .change(&batches, &keys, RowRef { batch: b as u32, row: row as u32 })
                    .map_err(|e| e.target_table(&table.id))?;
            }
        }
        let total: usize = batches.iter().map(ChangeBatch::len).sum();
        let Merge { live, by_key, gone } = merge;
        drop(by_key);
        Finish { keys: &keys, table: &table, net: Self::empty(Vec::new()) }.run(live, gone, &batches, total).map(
            |(mut net, merged)| {
                net.batches = batches;
                net.batches.extend(merged);
                net
            },
        )
    }

    fn empty(batches: Vec<ChangeBatch>) -> Self {
        let (deletes, moves, updates, inserts) = Default::default();
        Self { batches, deletes, moves, updates, inserts, merged: 0 }
    }

    /// The deletes by themselves, which are left out here; `None` if there are none.
    pub(super) fn take_deletes(&mut self) -> Option<Self> {
        let deletes = std::mem::take(&mut self.deletes);
        (!deletes.is_empty()).then(|| Self { deletes, ..Self::empty(self.batches.clone()) })
    }

    /// Number of changes in the log.
    pub fn changes(&self) -> usize {
        self.counts().read() as usize
    }

    /// What these changes amount to, each change of the log counted once.
    pub fn counts(&self) -> TableCounts {
        let updates: usize = self.updates.iter().map(|g| g.rows.len()).sum();
        TableCounts {
            inserted: self.inserts.len() as u64,
            updated: (updates + self.moves.len()) as u64,
            deleted: self.deletes.len() as u64,
            merged: self.merged,
            ..TableCounts::default()
        }
    }
}

/// The keys of all rows and old images, in a form that compares and hashes as bytes.
struct Keys {
    rows: Vec<Rows>,
    old: Vec<Option<Rows>>,
}

impl Keys {
    fn of(table: &TableSchema, batches: &[ChangeBatch]) -> Result<Self> {
        if table.key.is_empty() {
            return Err(Error::fatal("internal: net changes of a table without a key").target_table(&table.id));
        }
        let fields = table.key.iter().map(|i| SortField::new(table.columns[*i].ty.arrow())).collect();
        let converter = RowConverter::new(fields).map_err(|e| internal(&e))?;
        let old_columns = table.old_columns();
        let in_old: Vec<usize> = table.key.iter().filter_map(|k| old_columns.iter().position(|c| c == k)).collect();
        let mut keys = Self { rows: Vec::new(), old: Vec::new() };
        for batch in batches {
            let columns: Vec<ArrayRef> = table.key.iter().map(|i| Arc::clone(batch.rows.column(*i))).collect();
            keys.rows.push(converter.convert_columns(&columns).map_err(|e| internal(&e))?);
            let old = batch.old.as_ref().map(|old| {
                let columns: Vec<ArrayRef> = in_old.iter().map(|i| Arc::clone(old.images.column(*i))).collect();
                converter.convert_columns(&columns).map_err(|e| internal(&e))
            });
            keys.old.push(old.transpose()?);
        }
        Ok(keys)
    }

    fn row(&self, at: RowRef) -> &[u8] {
        self.rows[at.batch as usize].row(at.row as usize).data()
    }

    fn get(&self, key: KeyRef) -> &[u8] {
        match key {
            KeyRef::Row(at) => self.row(at),
            KeyRef::Old(at) => match &self.old[at.batch as usize] {
                Some(rows) => rows.row(at.row as usize).data(),
                None => &[],
            },
        }
    }
}

fn internal(e: &arrow_schema::ArrowError) -> Error {
    Error::fatal(format!("internal: key columns: {e}"))
}

/// A row that exists after the changes seen so far.
struct Live {
    /// Its key on the target; `None` if it is not there yet.
    origin: Option<KeyRef>,
    /// The newest image, whose key is the row's key.
    image: RowRef,
    /// Older images that know columns the newest does not, newest first.
    older: Vec<RowRef>,
}

#[derive(Default)]
struct Merge<'k> {
    live: Vec<Option<Live>>,
    by_key: HashMap<&'k [u8], usize>,
    gone: Vec<KeyRef>,
}

impl<'k> Merge<'k> {
    fn change(&mut self, batches: &[ChangeBatch], keys: &'k Keys, at: RowRef) -> Result<()> {
        let batch = &batches[at.batch as usize];
        match batch.ops[at.row as usize] {
            Op::Insert => self.insert(keys.row(at), at),
            Op::Delete => {
                self.delete(keys.row(at), at);
                Ok(())
            }
            Op::Update => {
                let old = batch.old_row(at.row as usize);
                let from = old.map_or(KeyRef::Row(at), |r| KeyRef::Old(RowRef { batch: at.batch, row: r as u32 }));
                self.update(batches, keys, from, at)
            }
        }
    }

    fn insert(&mut self, key: &'k [u8], at: RowRef) -> Result<()> {
        if self.by_key.contains_key(key) {
            return Err(Error::fatal("the log inserts a row whose key is taken by another row"));
        }
        self.by_key.insert(key, self.live.len());
        self.live.push(Some(Live { origin: None, image: at, older: Vec::new() }));
        Ok(())
    }

    fn delete(&mut self, key: &'k [u8], at: RowRef) {
        match self.by_key.remove(key) {
            None => self.gone.push(KeyRef::Row(at)),
            Some(place) => {
                if let Some(origin) = self.live[place].take().and_then(|row| row.origin) {
                    self.gone.push(origin);
                }
            }
        }
    }

    fn update(&mut self, batches: &[ChangeBatch], keys: &'k Keys, from: KeyRef, at: RowRef) -> Result<()> {
        let (old_key, new_key) = (keys.get(from), keys.row(at));
        let rekeyed = old_key != new_key;
        let known = if rekeyed { self.by_key.remove(old_key) } else { self.by_key.get(old_key).copied() };
        if rekeyed && self.by_key.contains_key(new_key) {
            return Err(Error::fatal("the log gives a row the key of another row"));
        }
        let place = match known.and_then(|place| self.live[place].as_mut().map(|row| (place, row))) {
            Some((place, row)) => {
                row.overlay(batches, at);
                place
            }
            None => {
                self.live.push(Some(Live { origin: Some(from), image: at, older: Vec::new() }));
                self.live.len() - 1
            }
        };
        if rekeyed || known.is_none() {
            self.by_key.insert(new_key, place);
        }
        Ok(())
    }
}

impl Live {
    /// Puts a newer image on top, and keeps of the older ones those that know something it does not.
    fn overlay(&mut self, batches: &[ChangeBatch], newer: RowRef) {
        let mut unknown = mask(batches, newer).clone();
        let mut kept = Vec::new();
        if !unknown.is_empty() {
            for older in std::iter::once(self.image).chain(self.older.drain(..)) {
                let still = unknown.intersect(mask(batches, older));
                if still != unknown {
                    kept.push(older);
                    unknown = still;
                }
            }
        }
        self.image = newer;
        self.older = kept;
    }
}

fn mask(batches: &[ChangeBatch], at: RowRef) -> &ColumnMask {
    batches[at.batch as usize].mask(at.row as usize)
}

struct Finish<'a> {
    keys: &'a Keys,
    table: &'a Arc<TableSchema>,
    net: NetChanges,
}

impl Finish<'_> {
    fn run(
        mut self,
        live: Vec<Option<Live>>,
        gone: Vec<KeyRef>,
        batches: &[ChangeBatch],
        total: usize,
    ) -> Result<(NetChanges, Option<ChangeBatch>)> {
        let mut merged = MergedImages { batch: batches.len() as u32, rows: Vec::new() };
        let mut groups: HashMap<ColumnMask, Vec<RowRef>> = HashMap::new();
        let mut outcomes = gone.len();
        self.net.deletes = gone;
        for row in live.into_iter().flatten() {
            outcomes += 1;
            let key = self.keys.row(row.image);
            let (image, unknown) = merged.resolve(batches, &row);
            match row.origin {
                None if !unknown.is_empty() => {
                    return Err(Error::fatal("the log inserts a row with unknown columns").target_table(&self.table.id));
                }
                None => self.net.inserts.push(image),
                Some(origin) if self.keys.get(origin) == key => groups.entry(unknown).or_default().push(image),
                Some(from) => self.net.moves.push(Move { from, to: image }),
            }
        }
        self.net.merged = (total - outcomes) as u64;
        self.sort(groups, &merged);
        let batch = merged.build(batches, self.table)?;
        Ok((self.net, batch))
    }

    /// Key order, so that two connections that apply to one table never wait for each other in a circle, and the
    /// target meets its pages one after the other.
    fn sort(&mut self, groups: HashMap<ColumnMask, Vec<RowRef>>, merged: &MergedImages) {
        let keys = self.keys;
        in_key_order(&mut self.net.deletes, |at| keys.get(*at));
        self.net.updates = groups.into_iter().map(|(unknown, rows)| UpdateGroup { unknown, rows }).collect();
        for group in &mut self.net.updates {
            in_key_order(&mut group.rows, |at| keys.row(merged.newest(*at)));
        }
        self.net.updates.sort_by_key(|g| g.rows.first().copied());
    }
}

/// Sorts by the keys' first bytes, held beside what is sorted, and looks at whole keys only where those are equal.
fn in_key_order<'k, T: Copy>(items: &mut [T], key: impl Fn(&T) -> &'k [u8]) {
    let start = |key: &[u8]| {
        let mut bytes = [0; 16];
        let n = key.len().min(bytes.len());
        bytes[..n].copy_from_slice(&key[..n]);
        u128::from_be_bytes(bytes)
    };
    let mut order: Vec<(u128, T)> = items.iter().map(|item| (start(key(item)), *item)).collect();
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(&a.1).cmp(key(&b.1))));
    for (place, (_, item)) in items.iter_mut().zip(order) {
        *place = item;
    }
}

/// Images that no log entry holds as a whole: each column from the newest entry that knows it.
struct MergedImages {
    batch: u32,
    rows: Vec<(Vec<RowRef>, ColumnMask)>,
}

impl MergedImages {
    fn resolve(&mut self, batches: &[ChangeBatch], row: &Live) -> (RowRef, ColumnMask) {
        let unknown = mask(batches, row.image);
        if row.older.is_empty() {
            return (row.image, unknown.clone());
        }
        let unknown = row.older.iter().fold(unknown.clone(), |u, older| u.intersect(mask(batches, *older)));
        let sources = std::iter::once(row.image).chain(row.older.iter().copied()).collect();
        self.rows.push((sources, unknown.clone()));
        (RowRef { batch: self.batch, row: (self.rows.len() - 1) as u32 }, unknown)
    }

    /// The log entry whose key a row image has.
    fn newest(&self, at: RowRef) -> RowRef {
        if at.batch == self.batch { self.rows[at.row as usize].0[0] } else { at }
    }

    fn build(self, batches: &[ChangeBatch], table: &Arc<TableSchema>) -> Result<Option<ChangeBatch>> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let mut columns = Vec::with_capacity(table.columns.len());
        for column in 0..table.columns.len() {
            let arrays: Vec<&dyn Array> = batches.iter().map(|b| b.rows.column(column).as_ref()).collect();
            let picks: Vec<(usize, usize)> = self.rows.iter().map(|(s, _)| pick(batches, s, column)).collect();
            columns.push(interleave(&arrays, &picks).map_err(|e| internal(&e))?);
        }
        let rows = RecordBatch::try_new(table.arrow(), columns).map_err(|e| internal(&e))?;
        let mut masks = vec![ColumnMask::default()];
        let mask_of = self.rows.into_iter().map(|(_, unknown)| index_of(&mut masks, unknown)).collect();
        Ok(Some(ChangeBatch {
            table: Arc::clone(table),
            ops: vec![Op::Update; rows.num_rows()],
            rows,
            old: None,
            mask_of,
            masks,
            commits: Commits::default(),
        }))
    }
}

fn pick(batches: &[ChangeBatch], sources: &[RowRef], column: usize) -> (usize, usize) {
    let knows = sources.iter().find(|s| !mask(batches, **s).contains(column));
    let from = knows.unwrap_or(&sources[0]);
    (from.batch as usize, from.row as usize)
}

fn index_of(masks: &mut Vec<ColumnMask>, mask: ColumnMask) -> u16 {
    if let Some(i) = masks.iter().position(|m| *m == mask) {
        return i as u16;
    }
    masks.push(mask);
    (masks.len() - 1) as u16
}
