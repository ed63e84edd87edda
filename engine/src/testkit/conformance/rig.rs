//! What the cases of the suite have in common: the two databases, the task, and tables that they write to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::budget::Budget;
use crate::ports::{NoRules, Rules, Source, Target, TargetLane};
use crate::progress::Reporter;
use crate::remedy::Remedy;
use crate::runner::{Control, Task, Until};
use crate::schema::{Length, TableId, Type};
use crate::task::{
    AfterLoad, BatchLimits, LoadOptions, Mode, OnExisting, Pattern, RetryPolicy, Selection, TableRule, TaskPlan,
};
use crate::testkit::model::{Event, ModelTable, Row, Value};

/// An empty source database and an empty target database.
#[async_trait]
pub trait Rig: Send + Sync {
    /// The source, as a new process would make it.
    fn source(&self) -> Arc<dyn Source>;
    /// The target, as a new process would make it.
    fn target(&self) -> Arc<dyn Target>;
    /// Whether the source keeps something of a task that has begun, which retiring it removes.
    fn source_keeps_something(&self) -> bool {
        true
    }
    /// Creates a table at the source.
    async fn create(&self, table: &ModelTable);
    /// Commits one transaction at the source.
    async fn commit(&self, events: &[Event]);
    /// The rows of the source's table, sorted.
    async fn source_rows(&self, table: &ModelTable) -> Vec<Row>;
    /// The rows of the target's table, sorted; values as the source had them, whose types are the table's.
    async fn target_rows(&self, table: &ModelTable) -> Vec<Row>;
}

pub(super) const TEXT: Type = Type::Text(Length::Unlimited);

pub(super) fn table(name: &str) -> ModelTable {
    ModelTable {
        id: TableId::new("public", name),
        columns: [("id", Type::Int64), ("note", TEXT), ("body", TEXT), ("n", Type::Int64)]
            .map(|(n, ty)| (n.to_owned(), ty))
            .to_vec(),
        key: vec![0],
        big: vec![2],
        full_image: false,
    }
}

pub(super) fn int(n: i64) -> Option<Value> {
    Some(Value::Int(n))
}

pub(super) fn text(s: &str) -> Option<Value> {
    Some(Value::Text(s.to_owned()))
}

/// Long enough to be stored out of line, and never touched unless an event says so.
pub(super) fn body(n: i64) -> Option<Value> {
    Some(Value::Text(format!("{n}:").repeat(2_000)))
}

pub(super) fn row(id: i64) -> Row {
    vec![int(id), text(&format!("note {id}")), body(id), int(id * 10)]
}

pub(super) fn insert(t: &ModelTable, id: i64) -> Event {
    Event::Insert(t.id.clone(), row(id))
}

pub(super) fn set(t: &ModelTable, id: i64, values: impl IntoIterator<Item = (usize, Option<Value>)>) -> Event {
    Event::Update(t.id.clone(), vec![int(id)], values.into_iter().collect::<BTreeMap<_, _>>())
}

pub(super) fn delete(t: &ModelTable, id: i64) -> Event {
    Event::Delete(t.id.clone(), vec![int(id)])
}

/// Whether the operator is told to load this table again.
pub(super) fn reloads(remedy: &Remedy, table: &TableId) -> bool {
    match remedy {
        Remedy::Reload(id) => id == table,
        Remedy::Any(all) | Remedy::Then(all) => all.iter().any(|one| reloads(one, table)),
        _ => false,
    }
}

/// The plan that the cases run.
pub fn plan() -> TaskPlan {
    let include = vec![Pattern::glob("public.*").unwrap()];
    TaskPlan {
        name: "conformance".to_owned(),
        mode: Mode::FullLoadAndCdc,
        on_existing: OnExisting::Refuse,
        after_load: AfterLoad::Keys,
        selection: Selection { rules: vec![TableRule { include, exclude: Vec::new() }] },
        batch: BatchLimits { max_rows: 40, max_bytes: 1 << 20, linger: Duration::ZERO },
        load: LoadOptions { workers: 2, chunk_bytes: 64 << 10, resume_above_bytes: 64 << 10 },
        retry: RetryPolicy { give_up_after: Some(Duration::from_secs(20)), ..RetryPolicy::default() },
        rediscover: Duration::from_secs(60),
    }
}

/// The task of the plan from this source.
pub(super) fn task(source: Arc<dyn Source>, rig: &dyn Rig, rules: impl Rules + 'static) -> Task {
    Task {
        plan: plan(),
        source,
        target: rig.target(),
        rules: Arc::new(rules),
        reporter: Reporter::default(),
        budget: Budget::new(16 << 20),
    }
}

pub(super) async fn catch_up(rig: &dyn Rig) {
    let task = task(rig.source(), rig, NoRules);
    task.run(Until::Current, &Control::default()).await.expect("the task catches up");
}

/// A lane of a process that has just taken the task over.
pub(super) async fn take_over(target: &dyn Target) -> Box<dyn TargetLane> {
    let (epoch, record) = target.take_over().await.unwrap();
    let committed = record.checkpoint.map(|c| c.position);
    target.open_lane(epoch, committed.as_ref()).await.unwrap()
}

/// Rows in the order that [`Rig::source_rows`] promises.
pub fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}
