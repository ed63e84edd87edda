//! Random worlds: tables, and transactions that succeed on them. Small key spaces, so that rows meet often.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::model::{Database, Event, Key, ModelTable, Row, Value};
use crate::schema::TableId;

/// One to three tables with keys of one or two columns.
pub fn tables(rng: &mut StdRng) -> Vec<ModelTable> {
    let count = rng.random_range(1..=3);
    (0..count).map(|i| table(rng, TableId::new("public", format!("t{i}")))).collect()
}

/// One table of this name.
pub fn table(rng: &mut StdRng, id: TableId) -> ModelTable {
    let keys = rng.random_range(1..=2);
    let values = rng.random_range(1..=4);
    let mut columns: Vec<(String, bool)> = (0..keys).map(|i| (format!("k{i}"), i == 0 || rng.random())).collect();
    columns.extend((0..values).map(|i| (format!("v{i}"), rng.random())));
    let texts = (keys..keys + values).filter(|i| !columns[*i].1);
    let big = texts.filter(|_| rng.random_bool(0.6)).collect();
    ModelTable { id, columns, key: (0..keys).collect(), big, full_image: rng.random_bool(0.3) }
}

/// A transaction that succeeds on `now`, which it changes. Empty ones occur.
pub fn transaction(rng: &mut StdRng, tables: &[ModelTable], now: &mut Database) -> Vec<Event> {
    let wanted = if rng.random_bool(0.1) { rng.random_range(20..60) } else { rng.random_range(0..8) };
    let mut events = Vec::new();
    for _ in 0..wanted {
        let model = tables.choose(rng).expect("at least one table");
        let more = match rng.random_range(0..100) {
            0..40 => insert(rng, model, now),
            40..65 => update(rng, model, now),
            65..75 => rekey(rng, model, now),
            75..82 => swap(rng, model, now),
            82..99 => delete(rng, model, now),
            _ => vec![Event::Truncate(vec![model.id.clone()])],
        };
        more.iter().for_each(|e| now.apply(tables, e));
        events.extend(more);
    }
    events
}

fn value(rng: &mut StdRng, model: &ModelTable, column: usize) -> Option<Value> {
    let key = model.key.contains(&column);
    if !key && rng.random_bool(0.15) {
        return None;
    }
    let n = rng.random_range(0..12);
    Some(match (model.columns[column].1, key) {
        (true, _) => Value::Int(n),
        (false, true) => Value::Text(format!("k{}", n % 4)),
        (false, false) if model.big.contains(&column) => Value::Text(format!("{n}-").repeat(700)),
        (false, false) => Value::Text(format!("text {n}")),
    })
}

fn free_key(rng: &mut StdRng, model: &ModelTable, now: &mut Database) -> Option<Key> {
    let key: Key = model.key.iter().map(|c| value(rng, model, *c)).collect();
    (!now.table(&model.id).contains_key(&key)).then_some(key)
}

fn some_key(rng: &mut StdRng, model: &ModelTable, now: &mut Database) -> Option<Key> {
    let rows = now.table(&model.id);
    let nth = rng.random_range(0..rows.len().max(1));
    rows.keys().nth(nth).cloned()
}

fn insert(rng: &mut StdRng, model: &ModelTable, now: &mut Database) -> Vec<Event> {
    let Some(key) = free_key(rng, model, now) else { return Vec::new() };
    let mut row: Row = (0..model.columns.len()).map(|c| value(rng, model, c)).collect();
    model.key.iter().zip(key).for_each(|(c, v)| row[*c] = v);
    vec![Event::Insert(model.id.clone(), row)]
}

fn some_values(rng: &mut StdRng, model: &ModelTable) -> BTreeMap<usize, Option<Value>> {
    let columns = (0..model.columns.len()).filter(|c| !model.key.contains(c));
    let touched: Vec<usize> = columns.filter(|_| rng.random_bool(0.5)).collect();
    touched.into_iter().map(|c| (c, value(rng, model, c))).collect()
}

fn update(rng: &mut StdRng, model: &ModelTable, now: &mut Database) -> Vec<Event> {
    let Some(key) = some_key(rng, model, now) else { return Vec::new() };
    vec![Event::Update(model.id.clone(), key, some_values(rng, model))]
}

fn key_change(model: &ModelTable, from: &Key, to: &Key, mut set: BTreeMap<usize, Option<Value>>) -> Event {
    set.extend(model.key.iter().copied().zip(to.iter().cloned()));
    Event::Update(model.id.clone(), from.clone(), set)
}

fn rekey(rng: &mut StdRng, model: &ModelTable, now: &mut Database) -> Vec<Event> {
    match (some_key(rng, model, now), free_key(rng, model, now)) {
        (Some(from), Some(to)) => vec![key_change(model, &from, &to, some_values(rng, model))],
        _ => Vec::new(),
    }
}

fn swap(rng: &mut StdRng, model: &ModelTable, now: &mut Database) -> Vec<Event> {
    let (a, b, free) = (some_key(rng, model, now), some_key(rng, model, now), free_key(rng, model, now));
    match (a, b, free) {
        (Some(a), Some(b), Some(free)) if a != b => vec![
            key_change(model, &a, &free, BTreeMap::new()),
            key_change(model, &b, &a, some_values(rng, model)),
            key_change(model, &free, &b, BTreeMap::new()),
        ],
        _ => Vec::new(),
    }
}

fn delete(rng: &mut StdRng, model: &ModelTable, now: &mut Database) -> Vec<Event> {
    some_key(rng, model, now).map(|key| Event::Delete(model.id.clone(), key)).into_iter().collect()
}
