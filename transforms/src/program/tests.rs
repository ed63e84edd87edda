//! A batch is its rows: whatever the rules, what becomes of all rows at once is what becomes of each alone.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;
use trem_engine::change::{BatchBuilder, ChangeBatch, ColumnMask, Commit, Op};
use trem_engine::ports::Rules;
use trem_engine::position::Position;
use trem_engine::route::Mapped;
use trem_engine::schema::{Column, Dialect, Identity, Length, Native, TableId, TableSchema, Type};
use trem_engine::task::{NameGlob, Pattern};

use crate::{
    Action, ColumnPattern, Columns, Formula, Masking, Naming, OnMisfit, OnRowError, Rule, RuleList, Salt, TableEntry,
    To,
};

const TEXT: Type = Type::Text(Length::Unlimited);

/// `s.t (id int, n int, v text, d decimal)`.
fn table(identity: Identity) -> Arc<TableSchema> {
    let column = |(name, ty): (&str, Type)| {
        let native = Native { dialect: Dialect::new("d"), name: ty.to_string(), detail: String::new() };
        Column { name: name.to_owned(), ty, native, nullable: name != "id", omissible: false }
    };
    let columns = [("id", Type::Int32), ("n", Type::Int32), ("v", TEXT), ("d", Type::Decimal(None))];
    let key = if identity == Identity::Full { Vec::new() } else { vec![0] };
    Arc::new(TableSchema {
        id: TableId::new("s", "t"),
        native_id: None,
        columns: columns.into_iter().map(column).collect(),
        primary_key: key.clone(),
        key,
        identity,
        generated: Vec::new(),
        history: Default::default(),
    })
}

type Values = (i32, Option<i32>, Option<&'static str>, Option<&'static str>);

fn any_values() -> impl Strategy<Value = Values> {
    let n = prop::option::of(prop::sample::select(vec![0, 1, -7, 300, 70_000, i32::MAX]));
    let v = prop::option::of(prop::sample::select(vec!["", "12", "-400", "abc", "Zoë@example.org", "1e3"]));
    let d = prop::option::of(prop::sample::select(vec!["1.50", "-0.5", "99999999999.9", "NaN"]));
    (0..6i32, n, v, d)
}

#[derive(Clone, Debug)]
struct Change {
    op: Op,
    row: Values,
    old: Option<Values>,
    unknown: bool,
    loaded: bool,
}

fn any_change() -> impl Strategy<Value = Change> {
    let op = prop::sample::select(vec![Op::Insert, Op::Update, Op::Delete]);
    (op, any_values(), prop::option::of(any_values()), any::<bool>(), any::<bool>()).prop_map(
        |(op, row, old, unknown, loaded)| Change {
            op,
            row,
            old: old.filter(|_| op == Op::Update),
            unknown: unknown && op == Op::Update,
            loaded: loaded && op == Op::Insert,
        },
    )
}

fn batch(identity: Identity, changes: &[Change]) -> ChangeBatch {
    let table = table(identity);
    let mut builder = BatchBuilder::new(Arc::clone(&table));
    let commit = |n: usize| {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64);
        Arc::new(Commit { position: Position::new(n as u128, n.to_string()), at: Some(at), transaction: n.to_string() })
    };
    let mut current = commit(0);
    for (at, change) in changes.iter().enumerate() {
        if at % 3 == 0 {
            current = commit(at);
        }
        let mut mask = ColumnMask::default();
        let known = |column: usize| match change.op {
            Op::Delete => table.old_columns().contains(&column),
            _ => !(change.unknown && column == 2),
        };
        for column in 0..4 {
            if !known(column) && change.op == Op::Update {
                mask.insert(column);
            }
            push(builder.columns().get_mut(column).unwrap(), column, &change.row, known(column));
        }
        if let Some(old) = &change.old
            && identity != Identity::InsertOnly
        {
            for (place, column) in table.old_columns().into_iter().enumerate() {
                push(builder.old_columns().0.get_mut(place).unwrap(), column, old, true);
            }
            builder.end_old();
        }
        if !change.loaded {
            builder.of_commit(&current, (at % 3) as u64);
        }
        builder.end_row(change.op, &mask).unwrap();
    }
    builder.finish().unwrap()
}

fn push(builder: &mut trem_engine::change::ColumnBuilder, column: usize, (id, n, v, d): &Values, known: bool) {
    let number = if column == 0 { Some(*id) } else { *n };
    let text = if column == 2 { *v } else { *d };
    match (column, number, text) {
        _ if !known => builder.push_null(),
        (0 | 1, Some(number), _) => builder.push_i32(number).unwrap(),
        (2 | 3, _, Some(text)) => builder.push_slice(text.as_bytes()).unwrap(),
        _ => builder.push_null(),
    }
}

fn columns(name: &str) -> Columns {
    Columns(vec![ColumnPattern::Glob(NameGlob::parse(name).unwrap())])
}

fn formula(text: &str) -> Formula {
    Formula::new(text, false)
}

fn any_action() -> impl Strategy<Value = Action> {
    let create = |(name, ty, value): (&str, Type, &str)| Action::CreateColumn {
        column: name.to_owned(),
        ty,
        value: formula(value),
    };
    let convert = |name: &str, ty: Type, on_misfit| Action::ChangeType {
        columns: columns(name),
        to: To::Canonical(ty),
        on_misfit,
    };
    let mask = |name: &str, masking| Action::Mask { columns: columns(name), masking };
    let salt = || Salt::new("salt");
    prop::sample::select(vec![
        create(("made", Type::Int64, "n * 1000000 + id")),
        create(("part", Type::Int32, "100 / n")),
        create(("told", TEXT, "operation() || coalesce(transaction_id(), '-') || commit_sequence()")),
        create(("from", TEXT, "v || source_table()")),
        Action::SetValue { columns: columns("v"), value: formula("upper(v)") },
        Action::SetValue { columns: columns("n"), value: formula("CAST(v AS int)") },
        Action::SetValue { columns: columns("d"), value: formula("d * 1.5") },
        mask("v", Masking::Hash(salt())),
        mask("id", Masking::Hash(salt())),
        mask("v", Masking::Email(salt())),
        mask("v", Masking::KeepLast(2)),
        mask("n", Masking::Null),
        convert("n", Type::Int16, OnMisfit::Clamp),
        convert("v", Type::Int32, OnMisfit::Null),
        convert("v", Type::Int8, OnMisfit::Error),
        convert("v", Type::Text(Length::AtMost(3)), OnMisfit::Clamp),
        convert("d", Type::Decimal(Some((4, 1))), OnMisfit::Clamp),
        convert("d", Type::Int64, OnMisfit::Error),
        convert("id", TEXT, OnMisfit::Error),
        Action::DropColumn { columns: columns("v") },
        Action::RenameColumn { columns: columns("*"), naming: Naming::AddPrefix("x_".to_owned()) },
        Action::SetKey { columns: vec!["n".to_owned()] },
        Action::SoftDelete { column: "gone".to_owned() },
        Action::History { prefix: "h_".to_owned(), beside: None },
    ])
}

type Seen = (Op, Vec<Option<String>>, Option<String>, ColumnMask);

fn seen(batch: &ChangeBatch) -> Vec<Seen> {
    let one = |row: usize| {
        let old = batch.old_row(row).map(|at| format!("{:?}", batch.old.as_ref().unwrap().images.slice(at, 1)));
        (batch.ops[row], crate::row_text(batch, row).unwrap(), old, batch.mask(row).clone())
    };
    (0..batch.len()).map(one).collect()
}

fn sums<'m>(mapped: impl Iterator<Item = &'m Mapped>) -> BTreeMap<&'m str, u64> {
    let mut sums = BTreeMap::new();
    for (column, count) in mapped.flat_map(|m| &m.misfits) {
        *sums.entry(column.as_str()).or_default() += count;
    }
    sums
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn a_batch_is_its_rows(
        actions in vec(any_action(), 0..5),
        identity in prop::sample::select(vec![Identity::Key, Identity::KeyWithFullImage, Identity::Full]),
        changes in vec(any_change(), 0..12),
        filter in prop::option::of(prop::sample::select(vec!["n > 0", "id % 2 = 0", "length(v) < 4"])),
        quarantine in any::<bool>(),
    ) {
        let rule = |(at, action)| Rule {
            label: format!("rule {at}"),
            matches: vec![Pattern::glob("*.*").unwrap()],
            action,
            merge: false,
        };
        let rules: Vec<Rule> = actions.into_iter().enumerate().map(rule).collect();
        let include = vec![Pattern::glob("*.*").unwrap()];
        let entry = TableEntry { include, filter: filter.map(formula), ..TableEntry::default() };
        let on_row_error = if quarantine { OnRowError::Quarantine } else { OnRowError::Stop };
        let batch = batch(identity, &changes);
        let rules = RuleList::new("task", rules, vec![entry], on_row_error);
        let Ok(route) = rules.route(&batch.table) else { return Ok(()) };
        let rows: Vec<_> = (0..batch.len()).map(|row| route.map(batch.slice(row, 1))).collect();
        match route.map(batch.clone()) {
            Err(error) => {
                prop_assert!(rows.iter().any(|row| row.is_err()), "{error}");
                prop_assert!(!quarantine || !error.to_string().contains("internal"), "{error}");
            }
            Ok(all) => {
                let rows: Vec<Mapped> = rows.into_iter().map(|row| row.unwrap()).collect();
                let each: Vec<Seen> = rows.iter().flat_map(|row| seen(&row.rows)).collect();
                prop_assert_eq!(seen(&all.rows), each);
                prop_assert_eq!(&all.rows.table, route.target());
                prop_assert_eq!(sums([&all].into_iter()), sums(rows.iter()));
                let counts = rows.iter().map(|row| (row.counts.filtered, row.counts.quarantined));
                let counts = counts.fold((0, 0), |(f, q), (filtered, quarantined)| (f + filtered, q + quarantined));
                prop_assert_eq!((all.counts.filtered, all.counts.quarantined), counts);
                let aside: Vec<_> = rows.iter().flat_map(|row| row.quarantined.clone()).collect();
                prop_assert_eq!(&all.quarantined, &aside);
                // Every change is on the way, kept back or set aside, and one that moved away leaves its old key.
                let gone = all.rows.len() as u64 + all.counts.filtered + all.counts.quarantined;
                let moved = all.quarantined.iter().filter(|q| q.op == Some(Op::Update)).count() as u64;
                prop_assert!(gone >= batch.len() as u64 && gone <= batch.len() as u64 + moved);
            }
        }
    }
}
