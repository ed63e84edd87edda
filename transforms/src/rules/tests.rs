//! What rules make of tables, and that rows only change their names.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use arrow_array::{Array, RecordBatch};
use proptest::collection::vec;
use proptest::prelude::*;
use trem_engine::Class;
use trem_engine::change::{BatchBuilder, ChangeBatch, ColumnMask, OldImages, Op, TableCounts};
use trem_engine::schema::{Column, Dialect, GeneratedColumn, Identity, Length, Native, TableId, Type};
use trem_engine::template::{Piece, Template};

use super::*;

fn rename(glob: &str, what: &str, to: &str) -> Rule {
    let to = to.to_owned();
    let action = match what {
        "schema" => Action::RenameSchema { to },
        "table" => Action::RenameTable { to },
        column => Action::RenameColumn { column: column.to_owned(), to },
    };
    Rule { matches: Glob::parse(glob).expect("pattern"), action }
}

/// `public.orders (id, "Total", note; double)`; the key is `note, id`.
fn orders() -> Arc<TableSchema> {
    table(&["id", "Total", "note"], &[2, 0], Identity::Key)
}

fn table(names: &[&str], key: &[usize], identity: Identity) -> Arc<TableSchema> {
    let native = |name: &str| Native { dialect: Dialect::new("d"), name: name.to_owned(), detail: String::new() };
    let column = |(n, name): (usize, &&str)| {
        let text = Type::Text(Length::Unlimited);
        let (ty, name_of_it) = if n % 2 == 0 { (Type::Int32, "integer") } else { (text, "text") };
        let (native, nullable) = (native(name_of_it), !key.contains(&n));
        Column { name: (*name).to_owned(), ty, native, nullable, omissible: false }
    };
    let pieces = vec![Piece::Column("Total".to_owned()), Piece::Text(" * 2".to_owned())];
    let expression = Template { dialect: Dialect::new("d"), pieces };
    Arc::new(TableSchema {
        id: TableId::new("public", "orders"),
        native_id: Some(7),
        columns: names.iter().enumerate().map(column).collect(),
        key: key.to_vec(),
        primary_key: key.to_vec(),
        identity,
        generated: vec![GeneratedColumn { name: "double".to_owned(), native: native("integer"), expression }],
        history: Default::default(),
    })
}

/// `schema.table (columns; generated = expression)`
fn shown(table: &TableSchema) -> String {
    let columns: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    let generated: Vec<_> = table.generated.iter().map(|g| format!("{} = {}", g.name, g.expression)).collect();
    format!("{} ({}; {})", table.id, columns.join(", "), generated.join(", "))
}

fn made(rules: Vec<Rule>) -> String {
    let rules = RuleList::new(rules, Vec::new());
    rules.check(&orders()).unwrap();
    shown(rules.route(&orders()).unwrap().target())
}

fn refused(rules: Vec<Rule>) -> String {
    let error = RuleList::new(rules, Vec::new()).check(&orders()).expect_err("rules that are refused");
    assert_eq!((error.class(), error.table_id()), (Class::Refused, Some(&orders().id)));
    assert!(error.advice().is_some());
    error.reason()
}

#[test]
fn a_later_rule_sees_what_an_earlier_one_made() {
    let first = || rename("public.*", "schema", "dw");
    assert_eq!(
        made(vec![first(), rename("dw.orders", "table", "sales")]),
        "dw.sales (id, Total, note; double = Total * 2)"
    );
    assert_eq!(
        made(vec![rename("dw.orders", "table", "sales"), first()]),
        "dw.orders (id, Total, note; double = Total * 2)"
    );
    assert_eq!(made(vec![first(), rename("public.*", "schema", "x")]), made(vec![first()]));
    let twice = ["id", "a", "id"].map(|from| rename("public.orders", from, if from == "id" { "a" } else { "b" }));
    assert!(made(twice[..2].to_vec()).starts_with("public.orders (b, Total, note;"));
    assert_eq!(refused(twice.to_vec()), "rule 3 (rename-column of public.orders): the table has no column \"id\"");
}

#[test]
fn keys_and_computed_columns_follow() {
    let rules = vec![rename("*.*", "note", "remark"), rename("*.*", "Total", "sum"), rename("*.*", "double", "twice")];
    let route = RuleList::new(rules, Vec::new()).route(&orders()).unwrap();
    assert_eq!(shown(route.target()), "public.orders (id, sum, remark; twice = sum * 2)");
    assert_eq!((&route.target().key, route.target().native_id), (&vec![2, 0], None));
    assert_eq!(route.target().columns[1].native, orders().columns[1].native);
    let names = ["id", "Total", "note", "double", "sum"].map(|name| route.column(name));
    assert_eq!(names, [Some("id"), Some("sum"), Some("remark"), Some("twice"), None]);
}

#[test]
fn names_can_be_exchanged_by_way_of_a_third() {
    let swap = [("id", "tmp"), ("note", "id"), ("tmp", "note")].map(|(from, to)| rename("*.*", from, to));
    assert_eq!(made(swap.to_vec()), "public.orders (note, Total, id; double = Total * 2)");
}

#[test]
fn clashes_are_refused() {
    let message = refused(vec![rename("public.*", "schema", "dw"), rename("dw.*", "id", "note")]);
    assert_eq!(message, "rule 2 (rename-column of dw.*): column \"id\" would be called \"note\", as another column is");
    assert!(refused(vec![rename("*.*", "double", "id")]).contains("as another column is"));
    assert!(refused(vec![rename("*.*", "table", "")]).contains("must not be empty"));
}

#[test]
fn a_column_that_is_not_there_matters_only_where_the_table_is_named() {
    let lacking =
        |glob: &str| RuleList::new(vec![rename("public.*", "schema", "dw"), rename(glob, "lost", "x")], Vec::new());
    assert!(lacking("dw.*").check(&orders()).is_ok());
    assert!(lacking("public.orders").check(&orders()).is_ok(), "it covers no table");
    let error = lacking("dw.orders").check(&orders()).unwrap_err();
    assert_eq!(error.reason(), "rule 2 (rename-column of dw.orders): the table has no column \"lost\"");
    // A shape of the past may lack what is there now.
    assert_eq!(lacking("dw.orders").route(&orders()).unwrap().target().id, TableId::new("dw", "orders"));
}

#[test]
fn rules_that_cover_nothing_are_named() {
    let rules = vec![rename("public.*", "schema", "dw"), rename("public.orders", "table", "x")];
    assert_eq!(RuleList::new(rules, Vec::new()).unmatched(&[orders()]), ["rule 2 (rename-table of public.orders)"]);
}

#[test]
fn what_keeps_its_names_keeps_its_schema() {
    let rules = vec![rename("other.*", "schema", "dw"), rename("*.*", "table", "orders")];
    let table = orders();
    let route = RuleList::new(rules, Vec::new()).route(&table).unwrap();
    assert!(Arc::ptr_eq(route.source(), &table) && Arc::ptr_eq(route.target(), &table));
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "Total", "double"];

fn any_rule() -> impl Strategy<Value = Rule> {
    let glob = prop::sample::select(vec!["*.*", "public.orders", "public.*", "dw.*", "*.o?ders", "x.a"]);
    let what = prop::sample::select([&["schema", "table", "table"], &NAMES[..]].concat());
    let to = prop::sample::select([&["dw", "public", "orders"], &NAMES[..]].concat());
    (glob, what, to).prop_map(|(glob, what, to)| rename(glob, what, to))
}

type Change = (u8, Vec<Option<i32>>, Option<Vec<Option<i32>>>, u8);

/// One to five columns; changes of every kind, some with old images, some with unknown columns.
fn any_batch() -> impl Strategy<Value = ChangeBatch> {
    let identity = prop::sample::select(vec![Identity::Key, Identity::KeyWithFullImage, Identity::Full]);
    let values = || vec(any::<Option<i32>>(), 5);
    let change = (0..3u8, values(), prop::option::of(values()), any::<u8>());
    (1..=5usize, identity, vec(change, 0..20)).prop_map(|(width, identity, changes)| {
        let key: Vec<usize> = if identity == Identity::Full { vec![] } else { (0..width).rev().step_by(2).collect() };
        batch(table(&NAMES[..width], &key, identity), &changes)
    })
}

fn batch(table: Arc<TableSchema>, changes: &[Change]) -> ChangeBatch {
    let push = |builder: &mut trem_engine::change::ColumnBuilder, ty: &Type, value: Option<i32>| match value {
        None => builder.push_null(),
        Some(n) if *ty == Type::Int32 => builder.push_i32(n).unwrap(),
        Some(n) => builder.push_slice(n.to_string().as_bytes()).unwrap(),
    };
    let mut builder = BatchBuilder::new(Arc::clone(&table));
    for (op, row, old, unknown) in changes {
        let mut mask = ColumnMask::default();
        for (at, column) in table.columns.iter().enumerate() {
            let known = unknown & (1 << at) == 0;
            if !known {
                mask.insert(at);
            }
            push(&mut builder.columns()[at], &column.ty, row[at].filter(|_| known));
        }
        if let Some(old) = old {
            for (builder, at) in builder.old_columns().0.iter_mut().zip(table.old_columns()) {
                push(builder, &table.columns[at].ty, old[at]);
            }
            builder.end_old();
        }
        builder.end_row([Op::Insert, Op::Update, Op::Delete][*op as usize], &mask).unwrap();
    }
    builder.finish().unwrap()
}

/// The names that rules make, one after the other.
fn expected(rules: &[Rule], table: &TableSchema) -> Option<(TableId, Vec<String>)> {
    let (mut id, mut columns) = (table.id.clone(), table.columns.iter().map(|c| &c.name).cloned().collect::<Vec<_>>());
    columns.push("double".to_owned());
    for rule in rules.iter() {
        match &rule.action {
            _ if !rule.matches.matches(&id) => {}
            Action::RenameSchema { to } => id.schema = to.clone(),
            Action::RenameTable { to } => id.table = to.clone(),
            Action::RenameColumn { column, to } if columns.contains(column) => {
                if column != to && columns.contains(to) {
                    return None;
                }
                columns.iter_mut().filter(|c| *c == column).for_each(|c| *c = to.clone());
            }
            _ => {}
        }
    }
    Some((id, columns))
}

fn names(batch: &RecordBatch) -> Vec<String> {
    batch.schema().fields().iter().map(|f| f.name().clone()).collect()
}

fn same_values(a: &RecordBatch, b: &RecordBatch) -> bool {
    a.num_rows() == b.num_rows() && a.columns().iter().zip(b.columns()).all(|(a, b)| a.to_data().ptr_eq(&b.to_data()))
}

proptest! {
    #[test]
    fn rows_change_their_names_and_nothing_else(rules in vec(any_rule(), 0..6), batch in any_batch()) {
        let route = RuleList::new(rules.clone(), Vec::new()).route(&batch.table);
        let Some((id, mut columns)) = expected(&rules, &batch.table) else {
            prop_assert_eq!(route.unwrap_err().class(), Class::Refused);
            return Ok(());
        };
        let route = route.unwrap();
        let mapped = route.map(batch.clone()).unwrap();
        prop_assert_eq!(mapped.counts, TableCounts::default());
        let rows = mapped.rows;
        prop_assert_eq!(&rows.table, route.target());
        prop_assert_eq!(&rows.table.id, &id);
        let generated = columns.pop();
        prop_assert_eq!(generated.as_ref(), Some(&rows.table.generated[0].name));
        prop_assert_eq!(names(&rows.rows), columns.clone());
        prop_assert!(same_values(&rows.rows, &batch.rows));
        prop_assert_eq!((&rows.ops, &rows.mask_of, &rows.masks), (&batch.ops, &batch.mask_of, &batch.masks));
        prop_assert_eq!(rows.old.is_some(), batch.old.is_some());
        if let (Some(new), Some(old)) = (&rows.old, &batch.old) {
            prop_assert_eq!(&new.rows, &old.rows);
            prop_assert!(same_values(&new.images, &old.images));
            let keys: Vec<String> = batch.table.old_columns().iter().map(|at| columns[*at].clone()).collect();
            prop_assert_eq!(names(&new.images), keys);
        }
        // With the source's names again, nothing is left of the rules.
        let mut back = (*rows.table).clone();
        back.id = batch.table.id.clone();
        back.native_id = batch.table.native_id;
        back.columns.iter_mut().zip(&batch.table.columns).for_each(|(c, was)| c.name = was.name.clone());
        back.generated = batch.table.generated.clone();
        prop_assert_eq!(&back, &*batch.table);
    }
}

/// A row by itself.
fn single(batch: &ChangeBatch, row: usize) -> ChangeBatch {
    let old = batch
        .old_row(row)
        .map(|at| OldImages { rows: vec![0], images: batch.old.as_ref().unwrap().images.slice(at, 1) });
    ChangeBatch {
        table: Arc::clone(&batch.table),
        ops: vec![batch.ops[row]],
        rows: batch.rows.slice(row, 1),
        old,
        mask_of: batch.mask_of.get(row).copied().into_iter().collect(),
        masks: batch.masks.clone(),
    }
}

type Seen = (Op, RecordBatch, Option<RecordBatch>, ColumnMask);

fn seen(batch: &ChangeBatch) -> Vec<Seen> {
    let one = |row: usize| {
        let old = batch.old_row(row).map(|at| batch.old.as_ref().unwrap().images.slice(at, 1));
        (batch.ops[row], batch.rows.slice(row, 1), old, batch.mask(row).clone())
    };
    (0..batch.len()).map(one).collect()
}

proptest! {
    #[test]
    fn a_batch_is_its_rows(batch in any_batch()) {
        let first = format!("\"{}\"", batch.table.columns[0].name);
        let formula = |text: String| Formula::new(text, false);
        let matches = || Glob::parse("*.*").unwrap();
        let create = Action::CreateColumn {
            column: "made".to_owned(),
            ty: Type::Int64,
            value: formula(format!("CASE WHEN {first} > 0 THEN {first} / 7 ELSE abs({first} % 100) END")),
        };
        let set = Action::SetValue { column: NAMES[1].to_owned(), value: formula("'x' || 1".to_owned()) };
        let rules = [create, set].map(|action| Rule { matches: matches(), action }).to_vec();
        let expression = formula(format!("{first} % 3 <> 1"));
        let filter = RowFilter { include: vec![matches()], exclude: Vec::new(), expression };
        let Ok(route) = RuleList::new(rules, vec![filter]).route(&batch.table) else { return Ok(()) };
        let rows: Vec<_> = (0..batch.len()).map(|row| route.map(single(&batch, row))).collect();
        match route.map(batch) {
            Err(_) => prop_assert!(rows.iter().any(|row| row.is_err())),
            Ok(all) => {
                let rows: Vec<_> = rows.into_iter().map(|row| row.unwrap()).collect();
                let each: Vec<Seen> = rows.iter().flat_map(|row| seen(&row.rows)).collect();
                prop_assert_eq!(seen(&all.rows), each);
                prop_assert_eq!(all.counts.filtered, rows.iter().map(|row| row.counts.filtered).sum::<u64>());
            }
        }
    }
}
