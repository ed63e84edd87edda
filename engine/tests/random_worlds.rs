//! Random transactions, batch cuts, faults and kills: the target ends as the source is. `TREM_SEED=n` replays one,
//! `TREM_SEEDS=n` runs that many; `TREM_LOG=debug` tells what happens.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trem_engine::budget::Budget;
use trem_engine::ports::{NoRules, Rules, Target};
use trem_engine::progress::Reporter;
use trem_engine::runner::{Command, Control, Task, Until};
use trem_engine::schema::{Length, TableId, Type};
use trem_engine::task::{
    BatchLimits, LoadOptions, Mode, OnExisting, Pattern, RetryPolicy, Selection, TableRule, TaskPlan,
};
use trem_engine::testkit::dialects::{LEFT, RIGHT, Tongue, every_type, to_right};
use trem_engine::testkit::renames::Renames;
use trem_engine::testkit::{Database, Fault, MemorySource, MemoryTarget, ModelTable, Row, generate, held_by_right};
use trem_engine::types::Verdict;

fn plan(rng: &mut StdRng) -> TaskPlan {
    let include = vec![Pattern::glob("public.*").unwrap()];
    TaskPlan {
        name: "random".to_owned(),
        mode: Mode::FullLoadAndCdc,
        on_existing: OnExisting::Refuse,
        after_load: trem_engine::task::AfterLoad::Keys,
        selection: Selection { rules: vec![TableRule { include, exclude: Vec::new() }] },
        batch: BatchLimits { max_rows: rng.random_range(1..30), max_bytes: 1 << 20, linger: Duration::ZERO },
        load: LoadOptions {
            workers: rng.random_range(1..=2),
            chunk_bytes: 1,
            resume_above_bytes: if rng.random() { 0 } else { u64::MAX },
        },
        retry: RetryPolicy { initial: Duration::ZERO, max: Duration::ZERO, ..RetryPolicy::default() },
        rediscover: Duration::from_millis(50),
    }
}

fn faults(rng: &mut StdRng) -> Vec<Fault> {
    let count = rng.random_range(0..60);
    let fault = |n| match n {
        0 => Fault::Rejected,
        1 => Fault::AnswerLost,
        2 => Fault::Crash,
        _ => Fault::None,
    };
    (0..count).map(|_| fault(rng.random_range(0..8))).collect()
}

/// What a world is made of.
struct World {
    plan: TaskPlan,
    source: MemorySource,
    target: MemoryTarget,
    rules: Option<Renames>,
    budget: Budget,
    tongue: Tongue,
    /// Those of the tables' columns.
    types: Vec<Type>,
    /// 1, or more where reading takes long, so that tables are loaded beside the stream of others.
    tempo: u64,
}

/// One process: it is killed after some time, or runs until it has everything.
async fn process(rng: &mut StdRng, world: &World, kill: bool) {
    let World { plan, source, target, rules, budget, tempo, .. } = world;
    let rules: Arc<dyn Rules> = rules.map_or_else(|| Arc::new(NoRules) as Arc<dyn Rules>, |r| Arc::new(r));
    let task = Task {
        plan: plan.clone(),
        source: Arc::new(source.clone()),
        target: Arc::new(target.clone()),
        rules,
        reporter: Reporter::default(),
        budget: budget.clone(),
    };
    let life = Duration::from_millis(if kill { rng.random_range(1..400) * tempo } else { 600_000 });
    let control = Control::default();
    let asked = ask(rng.random(), rng.random_bool(0.3), *tempo, control.clone(), target.clone());
    let run = async {
        tokio::select! {
            ended = task.run(Until::Current, &control) => ended,
            () = asked => unreachable!("it asks for ever"),
        }
    };
    match tokio::time::timeout(life, run).await {
        Ok(ended) => ended.expect("no error that stops the task"),
        Err(_) => assert!(kill, "it never got there"),
    }
    let durable = target.durable_position().unwrap_or(0);
    assert!(source.acknowledged().unwrap_or(0) <= durable, "acknowledged before it was durable");
}

/// Asks for tables to be loaded again, from inside and from outside, and pauses now and then.
async fn ask(seed: u64, often: bool, tempo: u64, control: Control, target: MemoryTarget) {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..if often { 3 } else { 0 } {
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..200) * tempo)).await;
        let tables = target.record().await.unwrap().unwrap_or_default().tables;
        let Some(table) = tables.get(rng.random_range(0..tables.len().max(1))) else { continue };
        match rng.random_range(0..4) {
            0 => control.send(Command::Reload(table.id().clone())),
            1 => target.request_reload(table.id()).await.unwrap(),
            2 => control.send(Command::Rediscover),
            _ => {
                control.pause();
                tokio::time::sleep(Duration::from_millis(rng.random_range(1..100))).await;
                control.resume();
            }
        }
    }
    std::future::pending().await
}

/// Writes to these tables and to one that appears late perhaps; another one gets a column perhaps.
async fn write(world: Arc<World>, mut rng: StdRng, mut tables: Vec<ModelTable>) {
    let World { source, tempo, types, .. } = &*world;
    let (count, grows) = (60, rng.random_bool(0.3).then(|| rng.random_range(0..60)));
    let mut now = source.database();
    for n in 0..count {
        if n == count / 2 && rng.random_bool(0.3) {
            let late = generate::table_of(&mut rng, TableId::new("public", "late"), types);
            source.create(late.clone());
            tables.push(late);
        }
        let mut events = generate::transaction(&mut rng, &tables, &mut now);
        if grows == Some(n) {
            let grown = rng.random_range(0..tables.len());
            let added = generate::added_column(&mut rng, &mut tables[grown], types);
            now.apply(&tables, &added);
            events.push(added);
            events.extend(generate::transaction(&mut rng, &tables, &mut now));
        }
        source.commit(&events);
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..8) * tempo)).await;
    }
}

fn trimmed(database: Database) -> Database {
    Database { rows: database.rows.into_iter().filter(|(_, rows)| !rows.is_empty()).collect() }
}

async fn world(seed: u64) {
    let rng = &mut StdRng::seed_from_u64(seed);
    let (tongue, types) = dialect(rng);
    let tables = generate::tables_of(rng, &types);
    let source = MemorySource::new(tables.clone()).speaking(tongue);
    let mut now = Database::default();
    for _ in 0..rng.random_range(0..10) {
        source.commit(&generate::transaction(rng, &tables, &mut now));
    }
    let mut target = MemoryTarget::new(rng.random_range(1..6), faults(rng));
    if rng.random_bool(0.2) {
        target = target.wanting_the_log();
    }
    if rng.random_bool(0.2) {
        target = target.with_eager_ddl();
    }
    let tempo = if rng.random() { 1 } else { 30 };
    if tempo > 1 {
        source.read_slowly(Duration::from_millis(rng.random_range(1..600)));
    }
    if rng.random_bool(0.3) {
        source.read_apart();
    }
    // Of all processes: one that is killed gives back what it held.
    let budget = Budget::new(if rng.random() { 16 << 20 } else { 8 << 10 });
    let (rules, plan) = (rng.random::<bool>().then_some(Renames::ALL), plan(rng));
    let world = World { plan, source: source.clone(), target: target.clone(), rules, budget, tongue, types, tempo };
    let world = Arc::new(world);
    let writer = tokio::spawn(write(Arc::clone(&world), StdRng::seed_from_u64(seed ^ 0x5eed), tables));
    for _ in 0..rng.random_range(0..5) {
        process(rng, &world, true).await;
    }
    if rng.random() {
        // The writer is still at it, perhaps.
        process(rng, &world, false).await;
    }
    writer.await.unwrap();
    // A selected table without rows and one that appeared last are found by the next start at the latest.
    process(rng, &world, false).await;
    assert_eq!(world.budget.held(), 0, "bytes that nobody holds any more");
    assert_eq!(trimmed(target.database()), trimmed(world.expected()), "source and target differ");
}

impl World {
    /// The source's rows as the target should hold them.
    fn expected(&self) -> Database {
        let mut expected = Database::default();
        let now = self.source.database();
        for table in self.source.tables() {
            let rows = expected.table(&self.rules.map_or_else(|| table.id.clone(), |r| r.target(&table).id));
            let held = |row: &Row| -> Row {
                let types = table.columns.iter().map(|(_, ty)| ty);
                let held = |(ty, value): (_, &Option<_>)| {
                    value.clone().map(|v| if self.tongue == RIGHT { v } else { held_by_right(ty, v) })
                };
                types.zip(row).map(held).collect()
            };
            let there = now.rows.get(&table.id).into_iter().flat_map(|rows| rows.values());
            rows.extend(there.map(held).map(|row| (table.key_of(&row), row)));
        }
        expected
    }
}

/// Integers and texts, or all types; those of the source's own dialect come as they are, of those of another one the
/// target takes what it can hold.
fn dialect(rng: &mut StdRng) -> (Tongue, Vec<Type>) {
    let mut types = vec![Type::Int64];
    match rng.random_range(0..4) {
        0 => types.extend(every_type()),
        1 => {
            let holds = |ty: &Type| to_right(ty).is_some_and(|c| !matches!(c.verdict, Verdict::Lossy(_)));
            types.extend(every_type().into_iter().filter(holds));
            return (LEFT, types);
        }
        _ => types.push(Type::Text(Length::Unlimited)),
    }
    (RIGHT, types)
}

#[test]
fn the_target_ends_as_the_source_is() {
    if let Ok(level) = std::env::var("TREM_LOG") {
        tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).without_time().init();
    }
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().expect("a number"));
    let seeds = match number("TREM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TREM_SEEDS").unwrap_or(150),
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(world(seed))));
        if let Err(panic) = outcome {
            eprintln!("failing seed: replay with TREM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
