//! Tables of another database's dialect on the PostgreSQL target: every canonical type that has a form there arrives
//! with its values, what has none is refused in the plan.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int16Array, RecordBatch, UInt64Array};
use trem_endpoints::datetime;
use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::target::PostgresTarget;
use trem_engine::change::{BatchBuilder, ChangeBatch, ColumnBuilder, ColumnMask, Op, Step};
use trem_engine::chunk::Chunk;
use trem_engine::ports::{Finding, Severity, Target};
use trem_engine::record::TaskRecord;
use trem_engine::schema::Type as T;
use trem_engine::schema::{
    Catalog, Column, Dialect, Identity, Length, Native, SchemaChange, SchemaChangeKind, TableId, TableSchema,
    TypeDefinition,
};
use trem_engine::task::OnExisting;
use trem_engine::testkit::dialects::every_type;
use trem_tests::{Db, PgCluster, PgOptions};

use crate::rig::{Keeper, checkpoint, set};

/// A type, what it is there, and values as the target prints them.
type Case = (T, &'static str, &'static [&'static str]);

fn cases() -> Vec<Case> {
    let labels = || vec!["a".to_owned(), "b c".to_owned()];
    vec![
        (T::Bool, "boolean", &["t", "f"]),
        (T::Int8, "smallint", &["-128", "127"]),
        (T::Int16, "smallint", &["-32768", "32767"]),
        (T::Int32, "integer", &["-2147483648"]),
        (T::Int64, "bigint", &["-9223372036854775808"]),
        (T::UInt8, "smallint", &["255", "0"]),
        (T::UInt16, "integer", &["65535"]),
        (T::UInt32, "bigint", &["4294967295"]),
        (T::UInt64, "numeric(20,0)", &["18446744073709551615", "0", "10000", "10000000000000000000"]),
        (T::Decimal(Some((65, 30))), "numeric(65,30)", &["0.000000000000000000000000000001"]),
        (T::Decimal(Some((3, -2))), "numeric", &["12300"]),
        (T::Decimal(None), "numeric", &["1.50", "NaN"]),
        (T::Float32, "real", &["0.1", "-0"]),
        (T::Float64, "double precision", &["0.1", "NaN"]),
        (T::Text(Length::Unlimited), "text", &["", "日本\t\\"]),
        (T::Text(Length::AtMost(3)), "character varying(3)", &["日本é"]),
        (T::Text(Length::Exactly(3)), "character(3)", &["ab "]),
        (T::Binary(Length::Unlimited), "bytea", &["\\x", "\\x00ff"]),
        (T::Binary(Length::Exactly(2)), "bytea", &["\\x00ff"]),
        (T::Bit(Length::Exactly(3)), "bit(3)", &["101"]),
        (T::Bit(Length::AtMost(64)), "bit varying(64)", &["", "10"]),
        (T::Date, "date", &["0001-01-01", "9999-12-31"]),
        (T::Time(0), "time(0) without time zone", &["23:59:59"]),
        (T::Time(6), "time(6) without time zone", &["23:59:59.999999"]),
        (T::Duration(0), "interval(0)", &["-838:59:59", "838:59:59"]),
        (T::Duration(6), "interval(6)", &["00:00:00", "-00:00:00.000001", "25:00:00.5"]),
        (T::Timestamp(3), "timestamp(3) without time zone", &["2026-11-22 01:02:03.004"]),
        (T::TimestampTz(6), "timestamp(6) with time zone", &["2026-11-22 01:02:03.004+00"]),
        (T::Year, "smallint", &["0", "1901", "2155"]),
        (T::Interval, "interval", &["1 year 2 mons -3 days +04:05:06.7"]),
        (T::Uuid, "uuid", &["00000000-0000-0000-0000-0000000000ff"]),
        (T::Json, "json", &["{\"b\" :  1, \"a\": [null]}"]),
        (T::Xml, "xml", &["<a>b</a>"]),
        (T::Enum(labels()), "text", &["b c"]),
        (T::Set(labels()), "text", &["", "a,b c"]),
        (T::Array(Box::new(T::Int32)), "integer[]", &["{1,NULL,3}", "{}"]),
        (T::Array(Box::new(T::Enum(labels()))), "text[]", &["{\"b c\",a}"]),
        (T::Geometry(None), "bytea", &["\\x010100000000000000000000000000000000000000"]),
    ]
}

fn foreign(name: &str) -> Native {
    Native { dialect: Dialect::new("test"), name: format!("no {name} here"), detail: "opaque".to_owned() }
}

fn column(name: &str, ty: T) -> Column {
    Column { name: name.to_owned(), native: foreign(name), ty, nullable: name != "id", omissible: false }
}

fn table(name: &str, types: impl IntoIterator<Item = T>, key: Vec<usize>) -> Arc<TableSchema> {
    let mut columns = vec![column("id", T::UInt32)];
    columns.extend(types.into_iter().enumerate().map(|(n, ty)| column(&format!("c{n}"), ty)));
    key.iter().for_each(|k| columns[*k].nullable = false);
    let identity = if key.is_empty() { Identity::Full } else { Identity::Key };
    let (id, primary_key) = (TableId::new("public", name), key.clone());
    Arc::new(TableSchema {
        id,
        native_id: None,
        columns,
        key,
        primary_key,
        identity,
        generated: Vec::new(),
        history: Default::default(),
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).unwrap()).collect()
}

/// A span as the target prints it.
fn micros(text: &str) -> i64 {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |t| (-1, t));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = whole.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap());
    sign * (seconds * 1_000_000 + format!("{fraction:0<6}").parse::<i64>().unwrap())
}

fn push(builder: &mut ColumnBuilder, ty: &T, text: &str) {
    let raw = text.as_bytes();
    match ty {
        T::Bool => builder.push_bool(text == "t"),
        T::Int8 | T::UInt8 | T::Int16 | T::Year => builder.push_i16(text.parse().unwrap()),
        T::Int32 | T::UInt16 => builder.push_i32(text.parse().unwrap()),
        T::Int64 | T::UInt32 => builder.push_i64(text.parse().unwrap()),
        T::UInt64 => builder.push_u64(text.parse().unwrap()),
        T::Float32 => builder.push_f32(text.parse().unwrap()),
        T::Float64 => builder.push_f64(text.parse().unwrap()),
        T::Binary(_) | T::Geometry(_) => builder.push_slice(&bytes(&text[2..])),
        T::Uuid => builder.push_16(&bytes(&text.replace('-', "")).try_into().unwrap()),
        T::Date => builder.push_i32(datetime::parse_date(raw).unwrap()),
        T::Time(_) => builder.push_i64(datetime::parse_time(raw).unwrap()),
        T::Duration(_) => builder.push_i64(micros(text)),
        T::Timestamp(_) | T::TimestampTz(_) => builder.push_i64(datetime::parse_timestamp(raw).unwrap()),
        _ => builder.push_slice(raw),
    }
    .unwrap();
}

/// Row `r` holds of each case the `r`-th value, past the last one NULL.
fn rows(table: &Arc<TableSchema>, cases: &[Case], ids: std::ops::Range<u32>, op: Op) -> ChangeBatch {
    let mut builder = BatchBuilder::new(Arc::clone(table));
    for id in ids {
        builder.columns()[0].push_i64(id.into()).unwrap();
        for (n, (ty, _, values)) in cases.iter().enumerate() {
            let column = &mut builder.columns()[n + 1];
            match values.get(id as usize % 5) {
                Some(text) => push(column, ty, text),
                None => column.push_null(),
            }
        }
        builder.end_row(op, &ColumnMask::default()).unwrap();
    }
    builder.finish().unwrap()
}

async fn apply(lane: &mut Keeper, step: Step) -> u64 {
    let applied = lane.apply(set(vec![step], 1)).await.unwrap_or_else(|e| panic!("{e}"));
    applied.tables.iter().map(|(_, c)| c.conflicts).sum()
}

async fn check(db: &Db, name: &str, cases: &[Case]) {
    for (n, (ty, native, values)) in cases.iter().enumerate() {
        let sql = format!(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
             WHERE attrelid = '{name}'::regclass AND attname = 'c{n}'"
        );
        assert_eq!(db.one(&sql).await, *native, "{ty}");
        for r in 0..5 {
            let value = format!("CASE WHEN num_nulls(c{n}) = 0 THEN format('%s', c{n}) END");
            let found = db.rows(&format!("SELECT DISTINCT {value} FROM {name} WHERE id % 5 = {r}")).await;
            assert_eq!(found, [[values.get(r).map(|v| (*v).to_owned())]], "{name} {ty} {r}");
        }
    }
}

async fn start() -> (PgCluster, Db, PostgresTarget, Keeper) {
    let server = PgCluster::start(PgOptions::default());
    let db = server.create_database("t").await;
    let target = PostgresTarget::new(PgConfig::parse(&server.url("t")).unwrap(), "dialects");
    let mut lane = Keeper::take_over(&target).await.unwrap();
    lane.begin(&checkpoint(0).lineage).await.unwrap();
    (server, db, target, lane)
}

async fn findings(target: &PostgresTarget, record: &TaskRecord, table: &Arc<TableSchema>) -> Vec<Finding> {
    let catalog = Catalog { tables: vec![Arc::clone(table)], ..Catalog::default() };
    target.plan(&catalog, record, OnExisting::Refuse, true).await.unwrap().remove(0).findings
}

#[test]
fn every_kind_of_type_has_a_case() {
    let cases = cases();
    let kind = std::mem::discriminant::<T>;
    let missing = |ty: &T| !matches!(ty, T::Named(_)) && cases.iter().all(|c| kind(&c.0) != kind(ty));
    assert_eq!(every_type().into_iter().find(missing), None);
}

#[tokio::test]
async fn every_canonical_type_arrives_by_changes() {
    let (_server, db, target, mut lane) = start().await;
    let cases = cases();
    let table = table("changed", cases.iter().map(|c| c.0.clone()), vec![0]);
    assert_eq!(findings(&target, &lane.record(), &table).await, []);
    lane.prepare(&table, OnExisting::Refuse, false).await.unwrap();
    // A few rows go as arrays, many by COPY.
    apply(&mut lane, Step::Rows(rows(&table, &cases, 0..10, Op::Insert))).await;
    apply(&mut lane, Step::Rows(rows(&table, &cases, 10..500, Op::Insert))).await;
    check(&db, "changed", &cases).await;
    db.exec("UPDATE changed SET (c0, c4, c8, c25) = (NULL, NULL, NULL, NULL)").await;
    assert_eq!(apply(&mut lane, Step::Rows(rows(&table, &cases, 0..500, Op::Update))).await, 0);
    check(&db, "changed", &cases).await;
    assert_eq!(findings(&target, &lane.record(), &table).await, [], "the task knows its table");
}

#[tokio::test]
async fn every_canonical_type_arrives_by_a_load_and_is_found_without_a_key() {
    let (_server, db, target, mut lane) = start().await;
    let cases = cases();
    let table = table("loaded", cases.iter().map(|c| c.0.clone()), Vec::new());
    lane.prepare(&table, OnExisting::Refuse, true).await.unwrap();
    let chunk = Chunk { id: 0, range: "all".to_owned(), survives: false, rows: 0 };
    lane.plan_chunks(&table, std::slice::from_ref(&chunk), false).await.unwrap();
    let mut loader = lane.open_loader(&target).await.unwrap();
    loader.start_chunk(&table, &chunk).await.unwrap();
    loader.load(rows(&table, &cases, 0..20, Op::Insert)).await.unwrap();
    loader.finish_chunk(&checkpoint(1).position).await.unwrap();
    lane.finish_table(&table).await.unwrap();
    check(&db, "loaded", &cases).await;
    assert_eq!(apply(&mut lane, Step::Rows(rows(&table, &cases, 0..20, Op::Delete))).await, 0);
    assert_eq!(db.number("SELECT count(*) FROM loaded").await, 0);
}

#[tokio::test]
async fn keys_of_every_canonical_type_find_their_rows() {
    let (_server, db, _target, mut lane) = start().await;
    let cases = cases();
    for (n, case) in cases.iter().enumerate().filter(|(_, c)| !matches!(c.0, T::Json | T::Xml)) {
        let (one, count) = (std::slice::from_ref(case), case.2.len() as u32);
        let table = table(&format!("k{n}"), [case.0.clone()], vec![1]);
        lane.prepare(&table, OnExisting::Refuse, false).await.unwrap();
        apply(&mut lane, Step::Rows(rows(&table, one, 0..count, Op::Insert))).await;
        assert_eq!(apply(&mut lane, Step::Rows(rows(&table, one, 0..count, Op::Update))).await, 0, "{}", case.0);
        assert_eq!(apply(&mut lane, Step::Rows(rows(&table, one, 0..count, Op::Delete))).await, 0, "{}", case.0);
        assert_eq!(db.number(&format!("SELECT count(*) FROM k{n}")).await, 0, "{}", case.0);
    }
}

#[tokio::test]
async fn what_has_no_form_or_would_lose_is_refused() {
    let (_server, db, target, mut lane) = start().await;
    let types = [T::Named("own".to_owned()), T::Int8, T::Geometry(Some(4326))];
    let table = table("refused", types, vec![0]);
    let found = findings(&target, &lane.record(), &table).await;
    let said: Vec<(&str, &str)> = found.iter().map(|f| (f.subject.as_str(), f.message.as_str())).collect();
    let [("public.refused.c0", none), ("public.refused.c2", lossy)] = said[..] else { panic!("{found:?}") };
    assert!(none.contains("no c0 here (test)") && lossy.contains("reference system 4326 is not kept"), "{said:?}");
    assert!(found.iter().all(|f| f.severity == Severity::Error && f.remedy.is_some()));
    let refused = lane.prepare(&table, OnExisting::Refuse, false).await.unwrap_err();
    assert!(refused.message().contains("c0"), "{refused}");
    assert_eq!(db.one("SELECT coalesce(to_regclass('refused')::text, 'none')").await, "none");
    // A table that is there does not make it any better.
    db.exec("CREATE TABLE refused (id bigint PRIMARY KEY, c0 text, c1 smallint, c2 bytea)").await;
    assert_eq!(findings(&target, &lane.record(), &table).await.len(), 2);
}

#[tokio::test]
async fn types_and_defaults_of_another_dialect_are_not_taken_for_sql() {
    let (_server, db, _target, mut lane) = start().await;
    let id = TableId::new("public", "colour");
    let ddl = "CREATE OR WHATEVER".to_owned();
    let definition =
        TypeDefinition { dialect: Dialect::new("test"), id, ddl, labels: vec!["red".to_owned()], users: Vec::new() };
    lane.lane.prepare_types(&[definition]).await.unwrap();

    let before = table("grown", [], vec![0]);
    lane.prepare(&before, OnExisting::Refuse, false).await.unwrap();
    apply(&mut lane, Step::Rows(rows(&before, &[], 0..2, Op::Insert))).await;
    let next = table("grown", [T::UInt64, T::Year, T::Int8], vec![0]);
    let values: [(&str, ArrayRef); 3] = [
        ("c0", Arc::new(UInt64Array::from(vec![u64::MAX]))),
        ("c1", Arc::new(Int16Array::from(vec![1999]))),
        ("c2", Arc::new(Int16Array::from(vec![None::<i16>]))),
    ];
    let existing = RecordBatch::try_from_iter(values).unwrap();
    let kind = SchemaChangeKind::AddColumns { next: Arc::clone(&next), existing };
    apply(&mut lane, Step::Schema(SchemaChange { table: before, kind })).await;
    let found = db.rows("SELECT id::text, c0::text, c1::text, c2::text FROM grown ORDER BY id").await;
    let row = |id: &str| vec![Some(id.to_owned()), Some(u64::MAX.to_string()), Some("1999".to_owned()), None];
    assert_eq!(found, [row("0"), row("1")]);
}
