//! Tables and columns that are called otherwise on the target.

use std::sync::Arc;

use super::dialects::taken_and_refused;
use super::rig::{Rig, TEXT, body, delete, insert, int, reloads, row, set, table, task, text};
use crate::error::{Class, Error, Result};
use crate::ports::Rules;
use crate::record::{TableRecord, TableState};
use crate::route::Route;
use crate::runner::{Control, Until};
use crate::schema::{TableId, TableSchema, Type};
use crate::testkit::memory_source::MemorySource;
use crate::testkit::model::{Event, ModelTable, Value};
use crate::testkit::renames::Renames;

/// Table `a` goes to another schema under another name, the others stay.
const ONE: Renames = Renames(|id| if id.table == "a" { TableId::new("dw", "z") } else { id.clone() });
/// Two tables go by each other's name.
const TRADED: Renames = Renames(|id| {
    let table = match id.table.as_str() {
        "a" => "b",
        "b" => "a",
        other => other,
    };
    TableId::new(id.schema.clone(), table)
});
/// Tables that become one.
const SAME: Renames = Renames(|_| TableId::new("dw", "same"));

async fn catch_up(rig: &dyn Rig, rules: impl Rules + 'static) {
    task(rig.source(), rig, rules).run(Until::Current, &Control::default()).await.expect("the task catches up");
}

async fn assert_equal(rig: &dyn Rig, rules: Renames, tables: &[&ModelTable]) {
    for table in tables {
        let there = rules.target(table);
        assert_eq!(rig.target_rows(&there).await, rig.source_rows(table).await, "{} differs as {}", table.id, there.id);
    }
}

async fn record(rig: &dyn Rig, table: &ModelTable) -> TableRecord {
    rig.target().record().await.unwrap().unwrap().table(&table.id).expect("a table of the record").clone()
}

async fn grow(rig: &dyn Rig, table: &mut ModelTable, name: &str, ty: Type, existing: Option<Value>) {
    let column = (name.to_owned(), ty);
    table.columns.push(column.clone());
    rig.commit(&[Event::AddColumn(table.id.clone(), column, existing)]).await;
}

/// Rows, changes with and without old images, other keys, a table loaded again and one that appears.
pub async fn renamed_tables_follow_their_sources(rig: &dyn Rig) {
    let rules = Renames::ALL;
    let (a, b, late) = (table("a"), ModelTable { full_image: true, ..table("b") }, table("late"));
    for t in [&a, &b] {
        rig.create(t).await;
        rig.commit(&(0..20).map(|id| insert(t, id)).collect::<Vec<_>>()).await;
    }
    catch_up(rig, rules).await;
    assert_equal(rig, rules, &[&a, &b]).await;
    for t in [&a, &b] {
        let to = |from, id| set(t, from, [(0, int(id))]);
        rig.commit(&[insert(t, 50), set(t, 1, [(1, None), (3, int(-1))]), delete(t, 2), set(t, 50, [(3, int(5))])])
            .await;
        rig.commit(&[to(3, 90), to(4, 3), to(90, 4), to(6, 60), set(t, 60, [(2, body(77))])]).await;
        rig.commit(&[set(t, 7, [(3, int(1))]), set(t, 8, [(2, None)]), set(t, 9, [(0, int(70)), (1, text("x"))])])
            .await;
    }
    let following = task(rig.source(), rig, rules);
    following.run(Until::Current, &Control::default()).await.expect("the task catches up");
    assert_equal(rig, rules, &[&a, &b]).await;
    let progress = following.reporter.snapshot().tables;
    for t in [&a, &b] {
        let told = &progress[&t.id];
        assert_eq!(told.target, Some(rules.target(t).id));
        assert!(told.counts.updated > 0 && told.counts.deleted > 0, "{told:?}");
        assert_eq!(
            (record(rig, t).await.state, record(rig, t).await.target.id.clone()),
            (TableState::Ready, rules.target(t).id)
        );
    }
    assert_eq!(progress.len(), 2, "by the names at the source: {progress:?}");
    rig.target().request_reload(&a.id).await.unwrap();
    rig.create(&late).await;
    rig.commit(&[insert(&a, 100), delete(&a, 10), insert(&b, 100), insert(&late, 1)]).await;
    catch_up(rig, rules).await;
    rig.commit(&[set(&a, 100, [(1, text("after"))]), set(&late, 1, [(0, int(2))]), insert(&late, 3)]).await;
    catch_up(rig, rules).await;
    assert_equal(rig, rules, &[&a, &b, &late]).await;
}

/// One statement that empties tables of which one is called otherwise.
pub async fn renamed_tables_are_truncated_with_others(rig: &dyn Rig) {
    let tables = ["a", "b", "c"].map(table);
    let [a, b, c] = &tables;
    for t in &tables {
        rig.create(t).await;
        rig.commit(&[insert(t, 1)]).await;
    }
    catch_up(rig, ONE).await;
    rig.commit(&[insert(a, 2), Event::Truncate(vec![a.id.clone(), b.id.clone()]), insert(a, 3)]).await;
    rig.commit(&[insert(b, 4), insert(c, 4)]).await;
    catch_up(rig, ONE).await;
    assert_equal(rig, ONE, &[a, b, c]).await;
    assert_eq!(rig.target_rows(&ONE.target(a)).await, [row(3)]);
}

/// A column that is added goes by the name that the rules give it.
pub async fn columns_added_to_renamed_tables_are_renamed(rig: &dyn Rig) {
    let (mut a, mut b) = (table("a"), table("b"));
    for t in [&a, &b] {
        rig.create(t).await;
        rig.commit(&[insert(t, 1), insert(t, 2)]).await;
    }
    catch_up(rig, ONE).await;
    for t in [&mut a, &mut b] {
        grow(rig, t, "more", Type::Int64, int(7)).await;
        rig.commit(&[
            set(t, 1, [(4, int(8)), (3, int(3))]),
            Event::Insert(t.id.clone(), [row(3), vec![None]].concat()),
        ])
        .await;
        grow(rig, t, "last", TEXT, None).await;
        rig.commit(&[set(t, 2, [(0, int(5)), (5, text("said"))])]).await;
    }
    catch_up(rig, ONE).await;
    assert_equal(rig, ONE, &[&a, &b]).await;
    let names = |r: &TableRecord| r.target.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&record(rig, &a).await)[4..], ["more_there", "last_there"]);
    assert_eq!(names(&record(rig, &b).await)[4..], ["more", "last"]);
    rig.commit(&[delete(&a, 1), delete(&b, 1), set(&a, 3, [(4, int(1))])]).await;
    catch_up(rig, ONE).await;
    assert_equal(rig, ONE, &[&a, &b]).await;
}

/// Each of two tables has the other one's name on the target: nothing that is said of one may meet the other.
pub async fn tables_may_trade_their_names(rig: &dyn Rig) {
    let (mut a, b) = (table("a"), table("b"));
    for (t, count) in [(&a, 3), (&b, 5)] {
        rig.create(t).await;
        rig.commit(&(0..count).map(|id| insert(t, id)).collect::<Vec<_>>()).await;
    }
    catch_up(rig, TRADED).await;
    assert_equal(rig, TRADED, &[&a, &b]).await;
    rig.commit(&[Event::Truncate(vec![a.id.clone()]), insert(&a, 9), set(&b, 1, [(0, int(20))])]).await;
    grow(rig, &mut a, "more", Type::Int64, int(1)).await;
    rig.commit(&[set(&a, 9, [(4, int(2))])]).await;
    catch_up(rig, TRADED).await;
    assert_equal(rig, TRADED, &[&a, &b]).await;
    rig.target().request_reload(&b.id).await.unwrap();
    rig.commit(&[insert(&b, 30), delete(&a, 9)]).await;
    catch_up(rig, TRADED).await;
    assert_equal(rig, TRADED, &[&a, &b]).await;
    assert_eq!(record(rig, &b).await.rows_loaded(), 6, "it was this one that was loaded again");
    // A source whose log does not say what rows have there had it loaded again before.
    assert!(record(rig, &a).await.rows_loaded() <= 3);
}

/// What the target says of its own table is said of the source's, even if another one has that name there.
pub async fn a_traded_table_that_does_not_fit_is_left_out(rig: &dyn Rig) {
    let (a, b) = (table("a"), table("b"));
    let source = MemorySource::new(vec![a.clone(), b.clone()]);
    source.commit(&[insert(&a, 1), insert(&b, 2)]);
    let run = async || {
        let task = task(Arc::new(source.clone()), rig, TRADED);
        let run = async { task.run(Until::Current, &Control::default()).await.expect("the task catches up") };
        tokio::time::timeout(std::time::Duration::from_secs(30), run).await.expect("it gets there");
    };
    run().await;
    let (_, refused) = taken_and_refused(rig.target().as_ref()).await;
    let own = ("own".to_owned(), refused.first().expect("a type that is refused").clone());
    source.commit(&[Event::AddColumn(a.id.clone(), own, None), insert(&b, 3)]);
    run().await;
    let (left_out, other) = (record(rig, &a).await, record(rig, &b).await);
    assert_eq!((left_out.state, other.state), (TableState::Suspended, TableState::Ready), "{left_out:?}");
    assert!(reloads(&left_out.remedy.unwrap(), &a.id));
    assert_eq!(rig.target_rows(&TRADED.target(&b)).await, [row(2), row(3)]);
}

/// Rules that make another table of one that is followed, or that cannot be applied to what it becomes.
pub async fn suspended_renamed_tables_are_told_by_both_names(rig: &dyn Rig) {
    let (mut a, b) = (table("a"), table("b"));
    for t in [&a, &b] {
        rig.create(t).await;
        rig.commit(&[insert(t, 1)]).await;
    }
    catch_up(rig, ONE).await;
    rig.commit(&[insert(&a, 2), insert(&b, 2)]).await;
    catch_up(rig, Renames(TableId::clone)).await;
    let left_out = record(rig, &a).await;
    assert_eq!((left_out.state, left_out.target.id.to_string()), (TableState::Suspended, "dw.z".to_owned()));
    assert!(left_out.reason.unwrap().contains("public.a of the target"), "where it goes now");
    assert!(reloads(&left_out.remedy.unwrap(), &a.id));
    assert_equal(rig, ONE, &[&b]).await;
    rig.target().request_reload(&a.id).await.unwrap();
    catch_up(rig, ONE).await;
    assert_equal(rig, ONE, &[&a, &b]).await;

    grow(rig, &mut a, "secret", Type::Int64, None).await;
    // A log may tell of a column no earlier than of a row that has it.
    rig.commit(&[Event::Insert(a.id.clone(), [row(3), vec![int(3)]].concat()), insert(&b, 3)]).await;
    catch_up(rig, NoSecrets).await;
    let left_out = record(rig, &a).await;
    assert_eq!(left_out.state, TableState::Suspended);
    let reason = left_out.reason.unwrap();
    assert!(reason.contains("columns were added: no rule for this"), "{reason}");
    assert!(reloads(&left_out.remedy.unwrap(), &a.id));
    assert_equal(rig, ONE, &[&b]).await;
    rig.target().request_reload(&a.id).await.unwrap();
    catch_up(rig, ONE).await;
    assert_equal(rig, ONE, &[&a, &b]).await;
}

/// As [`ONE`], but a column of this name is refused.
struct NoSecrets;

impl Rules for NoSecrets {
    fn route(&self, table: &Arc<TableSchema>) -> Result<Route> {
        match table.column("secret") {
            Some(_) => Err(Error::refused("no rule for this").table(&table.id).remedy("write one")),
            None => ONE.route(table),
        }
    }
}

/// Two tables that would become one are refused at the start; one that appears stays out.
pub async fn two_tables_never_become_one(rig: &dyn Rig) {
    let (a, b) = (table("a"), table("b"));
    rig.create(&a).await;
    rig.commit(&[insert(&a, 1)]).await;
    catch_up(rig, SAME).await;
    rig.create(&b).await;
    rig.commit(&[insert(&a, 2), insert(&b, 5)]).await;
    catch_up(rig, SAME).await;
    assert_equal(rig, SAME, &[&a]).await;
    let (first, second) = (record(rig, &a).await, record(rig, &b).await);
    assert_eq!((first.state, second.state), (TableState::Ready, TableState::Suspended));
    let reason = second.reason.unwrap();
    assert!(reason.contains("dw.same") && reason.contains("public.a"), "{reason}");
    assert!(second.remedy.unwrap().to_string().contains("rename one of them"));

    rig.source().retire().await.unwrap();
    rig.target().forget().await.unwrap();
    let refused =
        task(rig.source(), rig, SAME).run(Until::Current, &Control::default()).await.expect_err("they would be one");
    assert_eq!(refused.class(), Class::Refused, "{refused}");
    for name in ["public.a", "public.b", "dw.same"] {
        assert!(refused.to_string().contains(name), "{refused}");
    }
    assert!(rig.target().record().await.unwrap().is_none(), "nothing has begun");
    rig.source().vacant().await.expect("nothing has been made at the source");
}
