//! What the engine decides about a table whose load was interrupted: go on, begin again with an empty table, or leave
//! rows alone that it cannot tell from its own.

use std::sync::Arc;
use std::time::Duration;

use trem_engine::change::{BatchBuilder, ColumnMask, Op};
use trem_engine::chunk::Chunk;
use trem_engine::ports::{NoRules, SnapshotKind, Source, Target, TargetLane};
use trem_engine::position::{Checkpoint, Position};
use trem_engine::progress::Reporter;
use trem_engine::record::{Epoch, LaneId, Origin, RecordChange, TableRecord, TableState};
use trem_engine::runner::{Control, Task, Until};
use trem_engine::schema::TableId;
use trem_engine::task::{
    AfterLoad, BatchLimits, LoadOptions, Mode, OnExisting, Pattern, RetryPolicy, Selection, TableRule, TaskPlan,
};
use trem_engine::testkit::{Event, MemorySource, MemoryTarget, ModelTable, Row, Value};
use trem_engine::types::{Length, Type};

fn table() -> ModelTable {
    ModelTable {
        id: TableId::new("public", "t"),
        columns: vec![("id".to_owned(), Type::Int64), ("note".to_owned(), Type::Text(Length::Unlimited))],
        key: vec![0],
        big: Vec::new(),
        full_image: false,
    }
}

fn row(id: i64, note: &str) -> Row {
    vec![Some(Value::Int(id)), Some(Value::Text(note.to_owned()))]
}

/// A source with two rows, and a target that one process has begun to load.
struct World {
    source: MemorySource,
    target: MemoryTarget,
    epoch: Epoch,
    lane: Box<dyn TargetLane>,
}

impl World {
    async fn new() -> Self {
        let source = MemorySource::new(vec![table()]);
        source.commit(&[1, 5].map(|id| Event::Insert(table().id, row(id, "source"))));
        let target = MemoryTarget::new(1, []);
        let (epoch, _) = target.take_over().await.unwrap();
        let mut lane = target.open_lane(epoch, None).await.unwrap();
        let lineage = source.lineage().await.unwrap();
        lane.commit(&[RecordChange::Begin(lineage)]).await.unwrap();
        Self { source, target, epoch, lane }
    }

    /// The table is prepared, and the first of these chunks is in: one row.
    async fn load_first(&mut self, origin: Origin, ranges: [&str; 2], survives: bool) {
        let schema = table().schema();
        let record = TableRecord { origin, ..TableRecord::new(&schema, &schema, TableState::Loading) };
        let record = self.lane.prepare(record, None, OnExisting::Keep).await.unwrap();
        let chunk = |(range, id): (&str, u32)| Chunk { id, range: range.to_owned(), survives, rows: 1 };
        let chunks: Vec<Chunk> = ranges.into_iter().zip(0..).map(chunk).collect();
        self.lane.commit(&[RecordChange::Chunks(schema.id.clone(), chunks)]).await.unwrap();
        let mut loader = self.target.open_loader(self.epoch).await.unwrap();
        loader.start_chunk(&record).await.unwrap();
        let mut builder = BatchBuilder::new(Arc::clone(&schema));
        builder.columns()[0].push_i64(2).unwrap();
        builder.columns()[1].push_slice(b"loaded").unwrap();
        builder.end_row(Op::Insert, &ColumnMask::default()).unwrap();
        loader.load(builder.finish().unwrap()).await.unwrap();
        let snapshot = self.source.current().await.unwrap();
        let done = RecordChange::ChunkDone { table: schema.id.clone(), chunk: 0, snapshot, rows: 1 };
        loader.finish_chunk(&[done]).await.unwrap();
    }

    async fn run(&self, mode: Mode, on_existing: OnExisting) {
        self.task(mode, on_existing).run(Until::Current, &Control::default()).await.unwrap();
    }

    fn task(&self, mode: Mode, on_existing: OnExisting) -> Task {
        let include = vec![Pattern::glob("public.*").unwrap()];
        let plan = TaskPlan {
            name: "taking up".to_owned(),
            mode,
            on_existing,
            after_load: AfterLoad::Keys,
            selection: Selection { rules: vec![TableRule { include, exclude: Vec::new() }] },
            batch: BatchLimits { max_rows: 10, max_bytes: 1 << 20, linger: Duration::ZERO },
            load: LoadOptions { workers: 2, chunk_bytes: 1, resume_above_bytes: u64::MAX },
            retry: RetryPolicy { initial: Duration::ZERO, max: Duration::ZERO, ..RetryPolicy::default() },
            rediscover: Duration::from_secs(60),
        };
        let (source, target) = (Arc::new(self.source.clone()), Arc::new(self.target.clone()));
        Task {
            plan,
            source,
            target,
            rules: Arc::new(NoRules),
            reporter: Reporter::default(),
            budget: trem_engine::budget::Budget::new(16 << 20),
        }
    }

    async fn record(&self) -> TableRecord {
        self.target.record().await.unwrap().unwrap().table(&table().id).unwrap().clone()
    }

    fn rows(&self) -> Vec<Row> {
        let rows = self.target.database().rows.remove(&table().id).unwrap_or_default();
        rows.into_values().collect()
    }
}

/// Parts that mean something under one snapshot only.
const PHYSICAL: [&str; 2] = ["one", "two"];

/// Loading again would have to empty the table: nothing tells loaded rows from kept ones.
#[tokio::test]
async fn kept_rows_of_an_interrupted_load_are_left_alone() {
    for on_existing in [OnExisting::Keep, OnExisting::Refuse] {
        let mut world = World::new().await;
        world.target.put(&table().id, vec![Some(Value::Int(9))], row(9, "kept"));
        world.load_first(Origin { created: false, keeps_rows: true }, PHYSICAL, false).await;
        let before = world.record().await;
        world.run(Mode::FullLoad, on_existing).await;
        let record = world.record().await;
        assert_eq!(record.state, TableState::Suspended);
        assert!(record.reason.as_deref().unwrap().contains("cannot be told from those it keeps"), "{record:?}");
        assert!(record.remedy.as_ref().unwrap().to_string().contains("delete all rows of public.t"), "{record:?}");
        assert_eq!(record.chunks, before.chunks);
        assert_eq!(world.rows(), [row(2, "loaded"), row(9, "kept")]);
    }
}

/// Rows of chunks that were read at a snapshot that is gone go, whatever the configuration has become since.
#[tokio::test]
async fn an_interrupted_load_begins_again_with_an_empty_table() {
    for on_existing in [OnExisting::Refuse, OnExisting::Keep, OnExisting::Truncate, OnExisting::Recreate] {
        let mut world = World::new().await;
        world.load_first(Origin { created: true, keeps_rows: false }, PHYSICAL, false).await;
        world.run(Mode::FullLoad, on_existing).await;
        assert_eq!(world.rows(), [row(1, "source"), row(5, "source")]);
        let record = world.record().await;
        assert_eq!((record.state, record.rows_loaded(), record.chunks.len()), (TableState::Ready, 2, 1));
        assert_eq!(record.chunks[0].chunk.range, "all");
    }
}

/// The process that has begun the task is no different from one that goes on with it.
#[tokio::test(start_paused = true)]
async fn a_table_that_appears_and_is_refused_is_left_out() {
    let world = World::new().await;
    let other = TableId::new("public", "u");
    world.target.put(&other, vec![Some(Value::Int(9))], row(9, "not ours"));
    let (task, control) = (world.task(Mode::FullLoadAndCdc, OnExisting::Refuse), Control::default());
    let run = task.run(Until::Stopped, &control);
    let look = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.source.create(ModelTable { id: other.clone(), ..table() });
        tokio::time::sleep(Duration::from_secs(300)).await;
        control.stop();
    };
    let (ended, ()) = tokio::join!(run, look);
    ended.unwrap();
    let record = world.target.record().await.unwrap().unwrap();
    assert_eq!(record.state(&other), Some(TableState::Suspended));
    assert_eq!(record.state(&table().id), Some(TableState::Ready));
}

/// Ranges of keys mean the same in a later snapshot, and the log says what has become of their rows in between.
#[tokio::test]
async fn an_interrupted_load_by_key_goes_on() {
    let mut world = World::new().await;
    let tables = [table().schema()];
    let start = world.source.snapshot(&tables, SnapshotKind::Initial, 1).await.unwrap().start().clone();
    let at = Checkpoint { lineage: world.source.lineage().await.unwrap(), position: start };
    let begun = RecordChange::Checkpoint { lane: LaneId::MAIN, at, committed_at: None };
    world.lane.commit(&[begun]).await.unwrap();
    world.load_first(Origin::default(), ["0:..3", "0:3.."], true).await;
    let read_at: Position = world.record().await.chunks[0].done.clone().unwrap();
    world.source.commit(&[Event::Insert(table().id, row(0, "later")), Event::Insert(table().id, row(7, "later"))]);
    world.run(Mode::FullLoadAndCdc, OnExisting::Refuse).await;
    // What the first chunk brought stays as it was, and is not read again: the source never had a row 2.
    let notes = [row(0, "later"), row(2, "loaded"), row(5, "source"), row(7, "later")];
    assert_eq!(world.rows(), notes);
    let record = world.record().await;
    assert_eq!((record.state, record.rows_loaded()), (TableState::Ready, 3));
    assert_eq!(record.chunks[0].done, Some(read_at));
}
