//! Every canonical type, from a source that speaks another dialect than the target.

use std::sync::Arc;

use super::rig::{Rig, int, reloads, row, set, sorted, table, take_over, task};
use crate::error::{Class, Result};
use crate::ports::{NoRules, Severity, Target};
use crate::record::{TableRecord, TableState, TaskRecord};
use crate::runner::{Control, Until};
use crate::schema::{Catalog, TableId, Type};
use crate::task::OnExisting;
use crate::testkit::dialects::every_type;
use crate::testkit::generate::example;
use crate::testkit::memory_source::MemorySource;
use crate::testkit::model::{Event, ModelTable, Row};

/// A number as the key, and a column of each of these types.
fn typed(name: &str, types: &[Type]) -> ModelTable {
    let columns = types.iter().enumerate().map(|(n, ty)| (format!("c{n}"), ty.clone()));
    let columns = std::iter::once(("id".to_owned(), Type::Int64)).chain(columns).collect();
    ModelTable { id: TableId::new("public", name), columns, key: vec![0], big: Vec::new(), full_image: false }
}

/// One of a few rows that hold an example of each type, or NULL.
fn typed_row(table: &ModelTable, id: u8) -> Row {
    let types = table.columns.iter().enumerate().skip(1);
    let value = |(n, (_, ty)): (usize, &(String, Type))| ((usize::from(id) + n) % 4 != 3).then(|| example(ty, id));
    std::iter::once(int(id.into())).chain(types.map(value)).collect()
}

/// A table whose key is of this type, and its row with this example of a key.
fn keyed(n: usize, ty: &Type) -> (ModelTable, impl Fn(u8) -> Row) {
    let ty = ty.clone();
    let columns = vec![("k".to_owned(), ty.clone()), ("v".to_owned(), Type::Int64)];
    let id = TableId::new("public", format!("k{n}"));
    let table = ModelTable { id, columns, key: vec![0], big: Vec::new(), full_image: n.is_multiple_of(3) };
    (table, move |key| vec![Some(example(&ty, key)), int(key.into())])
}

/// Those of all types that the target takes, and those that it refuses: each with a remedy.
pub(super) async fn taken_and_refused(target: &dyn Target) -> (Vec<Type>, Vec<Type>) {
    let all = typed("every", &every_type());
    let catalog = Catalog { tables: vec![all.schema()], ..Catalog::default() };
    let previews = target.plan(&catalog, &TaskRecord::default(), OnExisting::Refuse, true).await.unwrap();
    let found: Vec<_> = previews[0].findings.iter().filter(|f| f.severity == Severity::Error).collect();
    assert!(found.iter().all(|f| f.remedy.is_some() && !f.message.is_empty()), "{found:?}");
    let stands = |n: &usize| !found.iter().any(|f| f.subject == format!("public.every.c{n}"));
    let of = |wanted: bool| {
        let types = every_type().into_iter().enumerate().filter(|(n, _)| stands(n) == wanted);
        types.map(|(_, ty)| ty).collect::<Vec<_>>()
    };
    assert_eq!(of(false).len(), found.len(), "each is about a column: {found:?}");
    (of(true), of(false))
}

async fn catch_up(rig: &dyn Rig, source: &MemorySource) -> Result<()> {
    task(Arc::new(source.clone()), rig, NoRules).run(Until::Current, &Control::default()).await
}

/// Catches up, and compares all tables.
async fn assert_equal(rig: &dyn Rig, source: &MemorySource) {
    catch_up(rig, source).await.expect("the task catches up");
    for table in source.tables() {
        let expected = sorted(source.database().table(&table.id).values().cloned().collect());
        assert_eq!(rig.target_rows(&table).await, expected, "{} differs", table.id);
    }
}

/// Loaded, changed, and told apart by: values of all types that the target has a form of.
pub async fn every_type_arrives_from_another_dialect(rig: &dyn Rig) {
    let (types, _) = taken_and_refused(rig.target().as_ref()).await;
    let (plain, whole) = (typed("plain", &types), ModelTable { full_image: true, ..typed("whole", &types) });
    // The log leaves out every value that an update does not touch.
    let sparse = ModelTable { big: (1..=types.len()).collect(), ..typed("sparse", &types) };
    // No database compares documents.
    let comparable = types.iter().filter(|ty| !matches!(ty, Type::Json | Type::Xml));
    let keys: Vec<_> = comparable.enumerate().map(|(n, ty)| keyed(n, ty)).collect();
    let source = MemorySource::new(
        keys.iter().map(|k| k.0.clone()).chain([plain.clone(), whole.clone(), sparse.clone()]).collect(),
    );
    let all = [&plain, &whole, &sparse];
    let insert = |t: &ModelTable, id| Event::Insert(t.id.clone(), typed_row(t, id));
    source.commit(&all.map(|t| (0..8).map(|id| insert(t, id)).collect::<Vec<_>>()).concat());
    source.commit(&keys.iter().map(|(t, row)| Event::Insert(t.id.clone(), row(0))).collect::<Vec<_>>());
    assert_equal(rig, &source).await;
    for table in all {
        let values = |id| typed_row(table, id).into_iter().enumerate().skip(1).collect::<Vec<_>>();
        let nulls = (1..table.columns.len()).map(|at| (at, None));
        source.commit(&[insert(table, 8), insert(table, 9), set(table, 1, values(11)), set(table, 2, nulls)]);
        source.commit(&[set(table, 3, [(0, int(30))]), Event::Delete(table.id.clone(), vec![int(4)])]);
        source.commit(&[set(table, 5, values(7).into_iter().step_by(2)), set(table, 6, values(5).into_iter().take(1))]);
    }
    for (table, row) in &keys {
        let (id, key) = (table.id.clone(), |n| vec![row(n)[0].clone()]);
        let to = |from, to| Event::Update(id.clone(), key(from), [(0, row(to)[0].clone())].into());
        let touch = Event::Update(id.clone(), key(1), [(1, int(7))].into());
        source.commit(&[Event::Insert(id.clone(), row(1)), touch, Event::Delete(id.clone(), key(0)), to(1, 0)]);
    }
    assert_equal(rig, &source).await;
}

/// Rows that are there get the values that a column is added with, whatever its type.
pub async fn columns_of_every_type_are_added_from_another_dialect(rig: &dyn Rig) {
    let (types, refused) = taken_and_refused(rig.target().as_ref()).await;
    let (grown, other) = (typed("grown", &[]), table("other"));
    let source = MemorySource::new(vec![grown.clone(), other.clone()]);
    source.commit(&[0, 1].map(|id| Event::Insert(grown.id.clone(), typed_row(&grown, id))));
    assert_equal(rig, &source).await;
    for (n, ty) in (0_u8..).zip(&types) {
        let existing = (n % 5 != 4).then(|| example(ty, n % 12));
        source.commit(&[Event::AddColumn(grown.id.clone(), (format!("c{n}"), ty.clone()), existing)]);
        let now = source.tables().into_iter().find(|t| t.id == grown.id).unwrap();
        source.commit(&[Event::Insert(grown.id.clone(), typed_row(&now, 10 + n)), set(&grown, 0, [])]);
        if n == 3 {
            assert_equal(rig, &source).await;
        }
    }
    assert_equal(rig, &source).await;
    let lost = ("lost".to_owned(), refused.first().expect("a type that is refused").clone());
    source.commit(&[Event::AddColumn(grown.id.clone(), lost, None), Event::Insert(other.id.clone(), row(1))]);
    catch_up(rig, &source).await.expect("the others go on");
    let record = rig.target().record().await.unwrap().unwrap();
    let left_out = record.table(&grown.id).unwrap();
    assert_eq!((left_out.state, record.state(&other.id)), (TableState::Suspended, Some(TableState::Ready)));
    assert!(left_out.reason.as_ref().unwrap().contains("public.grown.lost"), "{left_out:?}");
    assert!(reloads(left_out.remedy.as_ref().unwrap(), &grown.id), "{left_out:?}");
    assert_eq!(rig.target_rows(&other).await, [row(1)]);
}

/// What has no form on the target, or would lose something there, is refused before anything is made.
pub async fn types_that_would_be_lost_are_refused(rig: &dyn Rig) {
    let target = rig.target();
    let (_, refused) = taken_and_refused(target.as_ref()).await;
    assert!(!refused.is_empty());
    let lossy = typed("lost", &refused);
    let error = catch_up(rig, &MemorySource::new(vec![lossy.clone()])).await.expect_err("it would lose");
    assert_eq!(error.class(), Class::Refused, "{error}");
    for n in 0..refused.len() {
        assert!(error.to_string().contains(&format!("public.lost.c{n}: ")), "{error}");
    }
    assert!(target.record().await.unwrap().is_none(), "nothing has begun");
    let mut lane = take_over(target.as_ref()).await;
    for ty in &refused {
        let table = typed("lost", std::slice::from_ref(ty)).schema();
        let record = TableRecord::new(&table, &table, TableState::Loading);
        let error = lane.prepare(record, None, OnExisting::Refuse).await.expect_err("it would lose");
        assert_eq!((error.class(), error.table_id()), (Class::Refused, Some(&lossy.id)), "{error}");
        assert!(error.message().contains("public.lost.c0") && error.advice().is_some(), "{error}");
    }
}
