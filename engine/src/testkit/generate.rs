//! Random worlds: tables, and transactions that succeed on them. Small key spaces, so that rows meet often.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::model::{Database, Event, Key, ModelTable, Row, Value};
use crate::schema::{Length, TableId, Type};

const TEXT: Type = Type::Text(Length::Unlimited);

/// One to three tables with keys of one or two columns, of integers and texts.
pub fn tables(rng: &mut StdRng) -> Vec<ModelTable> {
    tables_of(rng, &[Type::Int64, TEXT])
}

/// As [`tables`], of these types.
pub fn tables_of(rng: &mut StdRng, types: &[Type]) -> Vec<ModelTable> {
    let count = rng.random_range(1..=3);
    (0..count).map(|i| table_of(rng, TableId::new("public", format!("t{i}")), types)).collect()
}

/// A column added to a table, which gets it.
pub fn added_column(rng: &mut StdRng, model: &mut ModelTable, types: &[Type]) -> Event {
    let column = (format!("a{}", model.columns.len()), types.choose(rng).expect("a type").clone());
    model.columns.push(column.clone());
    Event::AddColumn(model.id.clone(), column, value(rng, model, model.columns.len() - 1))
}

/// One table of this name, of integers and texts.
pub fn table(rng: &mut StdRng, id: TableId) -> ModelTable {
    table_of(rng, id, &[Type::Int64, TEXT])
}

/// One table of this name, of these types, the first of which is that of most keys.
pub fn table_of(rng: &mut StdRng, id: TableId, types: &[Type]) -> ModelTable {
    let keys = rng.random_range(1..=2);
    let values = rng.random_range(1..=4);
    let first = types.len() <= 2 || rng.random_bool(0.6);
    let mut ty = |first: bool| if first { types[0].clone() } else { types.choose(rng).expect("a type").clone() };
    let mut columns: Vec<(String, Type)> = (0..keys).map(|i| (format!("k{i}"), ty(first && i == 0))).collect();
    columns.extend((0..values).map(|i| (format!("v{i}"), ty(false))));
    let omissible = (keys..keys + values).filter(|i| columns[*i].1 == TEXT || types.len() > 2);
    let big = omissible.filter(|_| rng.random_bool(0.6)).collect();
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

/// One of few values of a type.
pub fn example(ty: &Type, n: u8) -> Value {
    match ty {
        Type::Bool => Value::Int(i64::from(n % 2)),
        Type::UInt64 => Value::Unsigned(u64::MAX - u64::from(n)),
        Type::Float32 => Value::Float(f32::from(n).to_bits().into()),
        Type::Float64 => Value::Float(f64::from(n).to_bits()),
        Type::Year => Value::Int(1900 + i64::from(n)),
        Type::Uuid => Value::Bytes(vec![n; 16]),
        // A point.
        Type::Geometry(_) => Value::Bytes([&[1, 1, 0, 0, 0][..], &f64::from(n).to_le_bytes(), &[0; 8]].concat()),
        Type::Binary(Length::AtMost(length) | Length::Exactly(length)) => Value::Bytes(vec![n; *length as usize]),
        Type::Binary(Length::Unlimited) => Value::Bytes(vec![0, n]),
        Type::Bit(Length::Exactly(length) | Length::AtMost(length)) => {
            Value::Text((0..*length).map(|bit| if n >> (bit % 8) & 1 == 1 { '1' } else { '0' }).collect())
        }
        Type::Bit(Length::Unlimited) => Value::Text(format!("{n:b}")),
        Type::Text(Length::AtMost(length) | Length::Exactly(length)) => {
            Value::Text(format!("{n:é>width$}", width = *length as usize))
        }
        Type::Text(Length::Unlimited) => Value::Text(format!("text {n}")),
        Type::Decimal(None) => Value::Text(format!("{n}.50")),
        Type::Decimal(Some((_, scale))) => {
            let scale = usize::try_from(*scale).unwrap_or(0);
            Value::Text(if scale == 0 { n.to_string() } else { format!("{}.{n:0scale$}", n % 2) })
        }
        Type::Interval => Value::Text(format!("{} days", u16::from(n) + 2)),
        Type::Json => Value::Text(format!("{{\"a\": {n}}}")),
        Type::Xml => Value::Text(format!("<a>{n}</a>")),
        Type::Enum(labels) => Value::Text(labels[usize::from(n) % labels.len()].clone()),
        Type::Set(labels) => Value::Text(labels[..usize::from(n) % (labels.len() + 1)].join(",")),
        // Of numbers.
        Type::Array(_) => Value::Text(format!("{{{n},NULL}}")),
        Type::Time(digits) | Type::Duration(digits) | Type::Timestamp(digits) | Type::TimestampTz(digits) => {
            Value::Int(i64::from(n) * 10_i64.pow(6 - u32::from(*digits)))
        }
        Type::Named(_) => Value::Text(format!("of its own {n}")),
        _ => Value::Int(i64::from(n)),
    }
}

fn value(rng: &mut StdRng, model: &ModelTable, column: usize) -> Option<Value> {
    let key = model.key.contains(&column);
    if !key && rng.random_bool(0.15) {
        return None;
    }
    let n: u8 = rng.random_range(0..12);
    Some(match (&model.columns[column].1, key) {
        (Type::Text(Length::Unlimited), true) => Value::Text(format!("k{}", n % 4)),
        (Type::Text(Length::Unlimited), false) if model.big.contains(&column) => {
            Value::Text(format!("{n}-").repeat(700))
        }
        (ty, _) => example(ty, n),
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
