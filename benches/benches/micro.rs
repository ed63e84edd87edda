//! What one core does with rows between the sockets, and how often it allocates: bytes to Arrow, compaction, Arrow to
//! bytes. Rows of 8 columns, about 120 bytes. Divide the allocations of an iteration by its rows.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher};
use trem_endpoints::postgres::source::bench::{Log, Type, copied};
use trem_endpoints::postgres::target::bench::copy_of;
use trem_engine::change::{ChangeBatch, NetChanges, Step};
use trem_engine::schema::{Column, Dialect, Identity, Length, Native, TableId, TableSchema, Type as Canonical};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// Rows of an iteration.
const ROWS: u64 = 50_000;
const RELATION: u32 = 16_384;
const TYPES: &[Type] = &[
    (20, "int8out", "int8send"),
    (23, "int4out", "int4send"),
    (1700, "numeric_out", "numeric_send"),
    (25, "textout", "textsend"),
    (16, "boolout", "boolsend"),
    (1184, "timestamptz_out", "timestamptz_send"),
];
const COLUMNS: &[(&str, Canonical, u32, &str)] = &[
    ("id", Canonical::Int64, 20, "int8recv"),
    ("customer", Canonical::Int32, 23, "int4recv"),
    ("quantity", Canonical::Int32, 23, "int4recv"),
    ("price", Canonical::Decimal(None), 1700, "numeric_recv"),
    ("name", Canonical::Text(Length::Unlimited), 25, "textrecv"),
    ("note", Canonical::Text(Length::Unlimited), 25, "textrecv"),
    ("active", Canonical::Bool, 16, "boolrecv"),
    ("changed", Canonical::TimestampTz(6), 1184, "timestamptz_recv"),
];

fn main() {
    divan::main();
}

fn table() -> Arc<TableSchema> {
    let column = |(name, ty, id, _): &(&str, Canonical, u32, &str)| Column {
        name: (*name).to_owned(),
        ty: ty.clone(),
        native: Native { dialect: Dialect::new("postgres"), name: "any".to_owned(), detail: format!("{id}:-1") },
        nullable: *name != "id",
        omissible: false,
    };
    Arc::new(TableSchema {
        id: TableId::new("public", "t"),
        native_id: Some(RELATION.into()),
        columns: COLUMNS.iter().map(column).collect(),
        key: vec![0],
        primary_key: vec![0],
        identity: Identity::Key,
        generated: Vec::new(),
        history: Default::default(),
    })
}

/// The values of a row, as the send functions give them.
fn values(id: u64) -> Vec<Vec<u8>> {
    let mut price = Vec::new();
    // Two groups of four digits, the weight of the first, positive, two digits after the point; no group is zero.
    for word in [2u16, 0, 0, 2, (id % 9998) as u16 + 1, (id % 99) as u16 * 100 + 100] {
        price.extend(word.to_be_bytes());
    }
    vec![
        id.to_be_bytes().to_vec(),
        ((id % 100_000) as u32).to_be_bytes().to_vec(),
        ((id % 7) as u32).to_be_bytes().to_vec(),
        price,
        format!("customer {id}").into_bytes(),
        format!("{:040x}", u128::from(id) * 0x9e37_79b9_7f4a_7c15).into_bytes(),
        vec![u8::from(!id.is_multiple_of(3))],
        (820_540_800_000_000 + id).to_be_bytes().to_vec(),
    ]
}

fn copy_row(id: u64) -> Bytes {
    let mut row = (COLUMNS.len() as u16).to_be_bytes().to_vec();
    for value in values(id) {
        row.extend((value.len() as u32).to_be_bytes());
        row.extend(value);
    }
    row.into()
}

fn tuple(out: &mut Vec<u8>, id: u64, key_only: bool) {
    out.extend((COLUMNS.len() as u16).to_be_bytes());
    for (n, value) in values(id).into_iter().enumerate() {
        if key_only && n > 0 {
            out.push(b'n');
            continue;
        }
        out.push(b'b');
        out.extend((value.len() as u32).to_be_bytes());
        out.extend(value);
    }
}

/// A change of the row `id`: insert, update or delete.
fn change(kind: u8, id: u64) -> Bytes {
    let mut out = vec![kind];
    out.extend(RELATION.to_be_bytes());
    out.push(if kind == b'D' { b'K' } else { b'N' });
    tuple(&mut out, id, kind == b'D');
    out.into()
}

fn begin(n: u64) -> Bytes {
    let mut out = vec![b'B'];
    out.extend((n * 1000 + 2000).to_be_bytes());
    out.extend([0; 12]);
    out.into()
}

fn commit(n: u64) -> Bytes {
    let mut out = vec![b'C', 0];
    out.extend((n * 1000 + 2000).to_be_bytes());
    out.extend((n * 1000 + 2048).to_be_bytes());
    out.extend([0; 8]);
    out.into()
}

fn relation() -> Bytes {
    let mut out = vec![b'R'];
    out.extend(RELATION.to_be_bytes());
    out.extend(b"public\0t\0d");
    out.extend((COLUMNS.len() as u16).to_be_bytes());
    for (n, (name, _, id, _)) in COLUMNS.iter().enumerate() {
        out.push(u8::from(n == 0));
        out.extend(name.as_bytes());
        out.push(0);
        out.extend(id.to_be_bytes());
        out.extend((-1i32).to_be_bytes());
    }
    out.into()
}

/// Transactions of 5 inserts, 4 updates and 1 delete; with `hot`, 10 updates of 1,000 rows.
fn log(hot: bool) -> Vec<Bytes> {
    let mut out = Vec::new();
    for n in 0..ROWS / 10 {
        out.push(begin(n));
        if n == 0 {
            out.push(relation());
        }
        let key = |i: u64| (n * 7919 + i * 104_729) % 1000;
        for i in 0..10 {
            out.push(match i {
                _ if hot => change(b'U', key(i)),
                0..=4 => change(b'I', 1_000_000 + n * 5 + i),
                5..=8 => change(b'U', 100_000 + (n * 7919 + i * 104_729) % 300_000),
                _ => change(b'D', n),
            });
        }
        out.push(commit(n));
    }
    out
}

fn bytes(messages: &[Bytes]) -> BytesCount {
    BytesCount::new(messages.iter().map(Bytes::len).sum::<usize>())
}

fn decoded(messages: &[Bytes]) -> Vec<ChangeBatch> {
    let mut log = Log::new(&table(), TYPES).unwrap();
    messages.iter().for_each(|m| log.message(m).unwrap());
    let set = log.take().unwrap().unwrap();
    let batches = set.steps.into_iter().filter_map(|s| if let Step::Rows(batch) = s { Some(batch) } else { None });
    batches.collect()
}

#[divan::bench]
fn pgoutput_to_arrow(bencher: Bencher) {
    let messages = log(false);
    assert_eq!(decoded(&messages).iter().map(ChangeBatch::len).sum::<usize>() as u64, ROWS);
    bencher.counter(ItemsCount::new(ROWS)).counter(bytes(&messages)).bench(|| decoded(&messages));
}

#[divan::bench]
fn copy_binary_to_arrow(bencher: Bencher) {
    let rows: Vec<Bytes> = (0..ROWS).map(copy_row).collect();
    let table = table();
    bencher.counter(ItemsCount::new(ROWS)).counter(bytes(&rows)).bench(|| copied(&table, TYPES, &rows).unwrap());
}

#[divan::bench]
fn arrow_to_copy_binary(bencher: Bencher) {
    let rows: Vec<Bytes> = (0..ROWS).map(copy_row).collect();
    let batch = copied(&table(), TYPES, &rows).unwrap();
    let receive: Vec<&str> = COLUMNS.iter().map(|c| c.3).collect();
    let mut out = Vec::new();
    copy_of(&batch, &receive, &mut out).unwrap();
    assert!(out == rows.concat(), "what goes in comes out");
    bencher.counter(ItemsCount::new(ROWS)).counter(bytes(&rows)).bench_local(|| {
        out.clear();
        copy_of(&batch, &receive, &mut out).unwrap();
    });
}

#[divan::bench(args = ["mix", "hot"])]
fn net_changes(bencher: Bencher, keys: &str) {
    let batches = decoded(&log(keys == "hot"));
    let size = batches.iter().map(ChangeBatch::bytes).sum::<usize>();
    bencher
        .counter(ItemsCount::new(ROWS))
        .counter(BytesCount::new(size))
        .with_inputs(|| batches.clone())
        .bench_values(|batches| NetChanges::of(batches).unwrap());
}
