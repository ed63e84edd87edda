//! The null target under the real runner: random rows and changes are counted to the last one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use trem_endpoints::null::NullTarget;
use trem_engine::ports::{NoRules, Target};
use trem_engine::progress::Reporter;
use trem_engine::record::TableState;
use trem_engine::runner::{Control, Task, Until};
use trem_engine::task::{
    BatchLimits, LoadOptions, Mode, OnExisting, Pattern, RetryPolicy, Selection, TableRule, TaskPlan,
};
use trem_engine::testkit::{Database, MemorySource, generate};

fn plan() -> TaskPlan {
    let include = vec![Pattern::glob("public.*").unwrap()];
    TaskPlan {
        name: "measure".to_owned(),
        mode: Mode::FullLoadAndCdc,
        on_existing: OnExisting::Refuse,
        after_load: trem_engine::task::AfterLoad::Keys,
        selection: Selection { rules: vec![TableRule { include, exclude: Vec::new() }] },
        batch: BatchLimits::default(),
        load: LoadOptions { workers: 2, chunk_bytes: 1, resume_above_bytes: 0 },
        retry: RetryPolicy::default(),
        rediscover: Duration::from_secs(60),
    }
}

#[tokio::test(start_paused = true)]
async fn every_row_and_every_change_is_counted() {
    for seed in 0..20 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let tables = generate::tables(rng);
        let source = MemorySource::new(tables.clone());
        let mut now = Database::default();
        for _ in 0..20 {
            source.commit(&generate::transaction(rng, &tables, &mut now));
        }
        let rows: usize = source.database().rows.values().map(|t| t.len()).sum();
        let target: Arc<dyn Target> = Arc::new(NullTarget::new("measure"));
        let reporter = Reporter::default();
        let run = |reporter: &Reporter| Task {
            plan: plan(),
            source: Arc::new(source.clone()),
            target: Arc::clone(&target),
            rules: Arc::new(NoRules),
            reporter: reporter.clone(),
            budget: trem_engine::budget::Budget::new(1 << 20),
        };
        run(&reporter).run(Until::Current, &Control::default()).await.unwrap();
        assert_eq!(reporter.snapshot().rows_loaded(), rows as u64, "seed {seed}");

        for _ in 0..20 {
            source.commit(&generate::transaction(rng, &tables, &mut now));
        }
        let reporter = Reporter::default();
        run(&reporter).run(Until::Current, &Control::default()).await.unwrap();
        let record = target.record().await.unwrap().expect("a record");
        assert!(record.tables.iter().all(|t| t.state == TableState::Ready), "seed {seed}");
        let end = record.checkpoint.map(|c| c.position.order());
        assert_eq!(source.acknowledged(), end, "seed {seed}: acknowledged what is done, and all of it");
    }
}
