//! What rules make of tables, and that rows only change their names.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use arrow_array::{Array, RecordBatch};
use proptest::collection::vec;
use proptest::prelude::*;
use trem_engine::Class;
use trem_engine::change::{BatchBuilder, ChangeBatch, ColumnMask, Op, TableCounts};
use trem_engine::schema::{Column, Dialect, GeneratedColumn, Identity, Length, Native, TableId, Type};
use trem_engine::template::{Piece, Template};

use trem_engine::task::NameGlob;

use super::*;
use crate::columns::{ColumnPattern, Columns};
use crate::conversion::{OnMisfit, To};
use crate::formula::Formula;
use crate::naming::Naming;

fn rename(glob: &str, what: &str, to: &str) -> Rule {
    let naming = Naming::To(to.to_owned());
    rule(
        glob,
        match what {
            "schema" => Action::RenameSchema(naming),
            "table" => Action::RenameTable(naming),
            column => Action::RenameColumn { columns: columns(column), naming },
        },
    )
}

fn rule(glob: &str, action: Action) -> Rule {
    Rule { label: "a rule".to_owned(), matches: vec![Pattern::glob(glob).expect("pattern")], action, merge: false }
}

fn columns(name: &str) -> Columns {
    Columns(vec![ColumnPattern::Glob(NameGlob::parse(name).expect("a name"))])
}

/// Numbered from 1.
fn list(rules: Vec<Rule>) -> RuleList {
    filtered(rules, Vec::new())
}

fn filtered(mut rules: Vec<Rule>, entries: Vec<TableEntry>) -> RuleList {
    rules.iter_mut().enumerate().for_each(|(at, rule)| rule.label = format!("rule {}", at + 1));
    RuleList::new("task", rules, entries, OnRowError::Stop)
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
    let rules = list(rules);
    rules.check(&orders()).unwrap();
    shown(rules.route(&orders()).unwrap().target())
}

fn refused(rules: Vec<Rule>) -> String {
    let error = list(rules).check(&orders()).expect_err("rules that are refused");
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
    let route = list(rules).route(&orders()).unwrap();
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
    let lacking = |glob: &str| list(vec![rename("public.*", "schema", "dw"), rename(glob, "lost", "x")]);
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
    let unmatched = list(rules).unmatched(&[orders()]).remove(0);
    assert_eq!(unmatched.rule, "rule 2 (rename-table of public.orders)");
    assert_eq!(unmatched.nearest.as_deref(), Some("public.orders"));
}

#[test]
fn what_keeps_its_names_keeps_its_schema() {
    let rules = vec![rename("other.*", "schema", "dw"), rename("*.*", "table", "orders")];
    let table = orders();
    let route = list(rules).route(&table).unwrap();
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
            _ if !rule.matches[0].matches(&id) => {}
            Action::RenameSchema(Naming::To(to)) => id.schema = to.clone(),
            Action::RenameTable(Naming::To(to)) => id.table = to.clone(),
            Action::RenameColumn { columns: renamed, naming: Naming::To(to) } => {
                let column = &renamed.exact().unwrap()[0];
                if columns.contains(column) && column != to && columns.contains(to) {
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
        let route = list(rules.clone()).route(&batch.table);
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
        let create = Action::CreateColumn {
            column: "made".to_owned(),
            ty: Type::Int64,
            value: formula(format!("CASE WHEN {first} > 0 THEN {first} / 7 ELSE abs({first} % 100) END")),
        };
        let set = Action::SetValue { columns: columns(NAMES[1]), value: formula("'x' || 1".to_owned()) };
        let rules = [create, set].map(|action| rule("*.*", action)).to_vec();
        let expression = formula(format!("{first} % 3 <> 1"));
        let include = vec![Pattern::glob("*.*").unwrap()];
        let filter = TableEntry { include, filter: Some(expression), ..TableEntry::default() };
        let Ok(route) = filtered(rules, vec![filter]).route(&batch.table) else { return Ok(()) };
        let rows: Vec<_> = (0..batch.len()).map(|row| route.map(batch.slice(row, 1))).collect();
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

/// Another one for the same rules would suspend every table that they have made.
#[test]
fn the_mark_of_rules_stays() {
    let create =
        Action::CreateColumn { column: "made".to_owned(), ty: Type::Int64, value: Formula::new("id + 1", false) };
    let set = Action::SetValue { columns: columns("Total"), value: Formula::new("'x'", false) };
    let include = vec![Pattern::glob("*.*").unwrap()];
    let filter = TableEntry { include, filter: Some(Formula::new("id > 5", false)), ..TableEntry::default() };
    let rules = filtered(vec![rule("*.*", create), rule("*.*", set)], vec![filter]);
    assert_eq!(rules.route(&orders()).unwrap().target().rules(), Some("d8e1febde6b5750ddc296843523b2ff4"));
}

#[test]
fn a_row_set_aside_cannot_be_marked_as_deleted() {
    let route = |identity, on_row_error| {
        let soft = rule("*.*", Action::SoftDelete { column: "gone".to_owned() });
        RuleList::new("task", vec![soft], Vec::new(), on_row_error).route(&table(&["id", "note"], &[0], identity))
    };
    assert!(route(Identity::Key, OnRowError::Stop).is_ok());
    assert!(route(Identity::KeyWithFullImage, OnRowError::Quarantine).is_ok());
    let error = route(Identity::Key, OnRowError::Quarantine).unwrap_err();
    assert!(error.class() == Class::Refused && error.reason().contains("set aside"), "{error}");
}

#[test]
fn what_values_lose_is_said() {
    let to = |column: &str, ty: Type, on_misfit| {
        rule("*.*", Action::ChangeType { columns: columns(column), to: To::Canonical(ty), on_misfit })
    };
    let said = |rules: Vec<Rule>| list(rules).said(&orders()).unwrap().join("\n");
    let decimal = to("Total", Type::Decimal(Some((9, 2))), OnMisfit::Null);
    assert_eq!(
        said(vec![decimal, to("Total", Type::Int16, OnMisfit::Clamp), to("id", Type::Float32, OnMisfit::Error)]),
        "rule 1: change-type Total to decimal(9,2), NULL where a value does not fit\n\
         rule 2: change-type Total to int16, clamped where a value does not fit; Total loses digits after the point, \
         by rounding\n\
         rule 3: change-type id to float32; id loses digits beyond the seventh"
    );
    assert!(!said(vec![to("id", Type::Int64, OnMisfit::Error)]).contains("loses"));
}
