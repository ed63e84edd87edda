//! Tasks of one process share its memory: a load waits for room, a stream goes on with what it has.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use trem_engine::budget::Budget;
use trem_engine::ports::NoRules;
use trem_engine::progress::Reporter;
use trem_engine::runner::{Control, Task, Until};
use trem_engine::schema::TableId;
use trem_engine::task::{
    AfterLoad, BatchLimits, LoadOptions, Mode, OnExisting, Pattern, RetryPolicy, Selection, TableRule, TaskPlan,
};
use trem_engine::testkit::{Event, MemorySource, MemoryTarget, ModelTable, Value};
use trem_engine::types::{Length, Type};

const MEMORY: usize = 1 << 20;

/// A source with rows, a target, and a task between them that has a share of this memory.
struct World {
    source: MemorySource,
    target: MemoryTarget,
    task: Task,
}

fn table() -> ModelTable {
    let columns = vec![("id".to_owned(), Type::Int64), ("note".to_owned(), Type::Text(Length::Unlimited))];
    ModelTable { id: TableId::new("public", "t"), columns, key: vec![0], big: Vec::new(), full_image: false }
}

fn insert(ids: std::ops::Range<i64>) -> Vec<Event> {
    let row = |id| vec![Some(Value::Int(id)), Some(Value::Text("n".repeat(1000)))];
    ids.map(|id| Event::Insert(table().id, row(id))).collect()
}

impl World {
    fn new(memory: &Budget) -> Self {
        let source = MemorySource::new(vec![table()]);
        source.commit(&insert(0..100));
        let target = MemoryTarget::new(1, []);
        let include = vec![Pattern::glob("public.*").unwrap()];
        let plan = TaskPlan {
            name: "sharing".to_owned(),
            mode: Mode::FullLoadAndCdc,
            on_existing: OnExisting::Refuse,
            after_load: AfterLoad::Keys,
            selection: Selection { rules: vec![TableRule { include, exclude: Vec::new() }] },
            batch: BatchLimits { max_rows: 1000, max_bytes: MEMORY / 8, linger: Duration::ZERO },
            load: LoadOptions { workers: 2, chunk_bytes: 1, resume_above_bytes: u64::MAX },
            retry: RetryPolicy { initial: Duration::ZERO, max: Duration::ZERO, ..RetryPolicy::default() },
            rediscover: Duration::from_secs(60),
        };
        let task = Task {
            plan,
            source: Arc::new(source.clone()),
            target: Arc::new(target.clone()),
            rules: Arc::new(NoRules),
            reporter: Reporter::default(),
            budget: memory.share(MEMORY),
        };
        Self { source, target, task }
    }

    async fn run(&self) {
        self.task.run(Until::Current, &Control::default()).await.unwrap();
    }

    fn rows(&self) -> usize {
        self.target.database().rows.get(&table().id).map_or(0, |rows| rows.len())
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_waits_for_room() {
    let memory = Budget::new(MEMORY);
    let world = World::new(&memory);
    let others = memory.room(MEMORY).await.unwrap();
    let run = world.run();
    tokio::pin!(run);
    assert!(timeout(Duration::from_secs(60), &mut run).await.is_err(), "it has no room");
    assert_eq!(world.rows(), 0);
    drop(others);
    run.await;
    assert_eq!((world.rows(), memory.held()), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_without_room() {
    let memory = Budget::new(MEMORY);
    let world = World::new(&memory);
    world.run().await;
    let _others = memory.room(MEMORY).await.unwrap();
    for n in 1..20 {
        world.source.commit(&insert(n * 100..n * 100 + 100));
    }
    timeout(Duration::from_secs(60), world.run()).await.expect("it stands still");
    assert_eq!(world.rows(), 2000);
}

#[tokio::test(start_paused = true)]
async fn all_of_it_is_given_back() {
    let memory = Budget::new(MEMORY);
    let worlds: Vec<World> = (0..4).map(|_| World::new(&memory)).collect();
    futures::future::join_all(worlds.iter().map(World::run)).await;
    for world in &worlds {
        (1..10).for_each(|n| world.source.commit(&insert(n * 100..n * 100 + 100)));
    }
    futures::future::join_all(worlds.iter().map(World::run)).await;
    assert!(worlds.iter().all(|w| w.rows() == 1000));
    assert!(memory.peak() > MEMORY / 4, "{} bytes: they hardly asked for any", memory.peak());
    assert_eq!(memory.held(), 0);
}
