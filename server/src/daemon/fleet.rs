//! All tasks: which of them run, and what is done with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, broadcast};
use trem_engine::budget::Budget;
use trem_engine::ports::Finding;
use trem_engine::runner::{Task, Until, outdated};
use trem_engine::schema::TableId;
use trem_engine::task::Glob;
use utoipa::ToSchema;

use super::refusal::{Code, Refusal};
use super::specs::{Put, Specs, by};
use super::status;
use super::supervise::{News, Running};
use super::views::{EndpointView, RuleSetView, TableStatus, TaskStatus, remedy};
use super::watch::watch;
use crate::config::{self, TaskConfig};
use crate::overlap::{circle_of_last, overlaps};
use crate::store::{Desired, Event, Outcome, Store, StoredTask};
use crate::task;

/// How long somebody who stops a task is kept waiting for its end.
const STOP: Duration = Duration::from_secs(30);
/// Tasks that start at a time: each has several connections to open, and a look at its databases to take.
const STARTS: usize = 8;
/// Events that a slow listener may miss before it is told to ask for them again.
const EVENTS: usize = 1024;
/// How long a database may take to answer what is asked before a task is put or started.
const ASK: Duration = Duration::from_secs(5);

/// A table that has to be loaded again.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Outdated {
    /// `schema.table` as the source has it.
    pub table: String,
    /// Why.
    pub reason: String,
}

/// What has come of putting a task.
pub struct TaskPut {
    /// As it is now.
    pub put: Put<StoredTask>,
    /// The tables that have to be loaded again; `None` if the target could not be asked.
    pub reload: Option<Vec<Outdated>>,
}

/// The tasks of a daemon. Clones share them.
#[derive(Clone)]
pub struct Fleet {
    specs: Specs,
    news: News,
    running: Arc<Mutex<BTreeMap<String, Arc<Running>>>>,
    /// Whatever changes one task waits for its turn.
    turns: Arc<Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>>,
    launches: Arc<tokio::sync::Mutex<()>>,
}

impl Fleet {
    /// With nothing running yet. `memory`: bytes of row buffers for all tasks together.
    pub fn new(store: Store, memory: usize) -> Self {
        let specs = Specs { store: store.clone(), memory: Budget::new(memory) };
        let starts = Arc::new(Semaphore::new(STARTS));
        let news = News { store, events: broadcast::channel(EVENTS).0, starts };
        Self { specs, news, running: Arc::default(), turns: Arc::default(), launches: Arc::default() }
    }

    /// The state file.
    pub fn store(&self) -> &Store {
        &self.specs.store
    }

    /// Events from here on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.news.events.subscribe()
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run of a task that has not ended.
    fn active(&self, name: &str) -> Option<Arc<Running>> {
        self.running().get(name).filter(|running| !running.has_ended()).cloned()
    }

    async fn turn(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody has or waits for.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(name.to_owned()).or_default())
        };
        turn.lock_owned().await
    }

    /// Starts what should run.
    ///
    /// # Errors
    /// A state file that cannot be read. A task that cannot be started is told of and left.
    pub async fn resume(&self) -> Result<(), Refusal> {
        self.store().cut_off_runs()?;
        for task in self.store().tasks()? {
            if task.desired != Desired::Stopped
                && let Err(refusal) = self.launch(&task.name, Until::Stopped).await
            {
                let (name, detail) = (&task.name, &refusal.detail);
                let problems: Vec<String> = refusal.problems.iter().map(|(at, what)| format!("{at}: {what}")).collect();
                let reason = format!("{detail} {}", problems.join("; "));
                tracing::error!(task = %name, "is not started: {reason}");
                self.news.tell(Some(name), "task-not-started", json!({ "reason": detail, "errors": problems }));
                let run = self.store().begin_run(name, task.revision)?;
                self.store().end_run(run, &Outcome::not_started(reason, refusal.remedy))?;
            }
        }
        Ok(())
    }

    /// Ends everything that runs, without a change of what is wanted; whether all has ended in time.
    pub async fn shut_down(&self, within: Duration) -> bool {
        let running: Vec<Arc<Running>> = self.running().values().cloned().collect();
        running.iter().for_each(|running| running.stop());
        let all = futures::future::join_all(running.iter().map(|running| running.end()));
        tokio::time::timeout(within, all).await.is_ok()
    }

    /// What the other tasks run with.
    fn active_configs(&self, name: &str) -> Vec<TaskConfig> {
        let running = self.running();
        let others = running.iter().filter(|(other, running)| *other != name && !running.has_ended());
        others.map(|(_, running)| running.config().clone()).collect()
    }

    /// What stands against a task beside those that run: they would undo each other's work.
    pub async fn overlaps(&self, config: &TaskConfig, task: &Task) -> Vec<Finding> {
        let name = &config.plan.name;
        let (mut all, mut tasks) = (self.active_configs(name), Vec::new());
        tasks.extend(self.all_running().into_iter().filter(|(other, _)| other != name).map(|(_, r)| r.task().clone()));
        all.push(config.clone());
        tasks.push(task.clone());
        // An answer for each, this one's last.
        overlaps(&all, &tasks).await.pop().unwrap_or_default()
    }

    async fn launch(&self, name: &str, until: Until) -> Result<(), Refusal> {
        // Of two that would undo each other's work and start at once, the second sees the first.
        let _one = self.launches.lock().await;
        let (stored, config) = self.specs.stored_task(name)?;
        let mut beside = self.active_configs(name);
        if let Some(why) = config::shared_objects(&config, &beside) {
            return Err(Refusal::new(Code::Conflict, why));
        }
        beside.push(config.clone());
        // A source that does not answer is told of by its own task.
        let circle = tokio::time::timeout(ASK, circle_of_last(&beside)).await.ok().flatten();
        if let Some(Finding { message, remedy: help, .. }) = circle {
            let refusal = Refusal::new(Code::Conflict, format!("task {name} is not started: {message}"));
            return Err(Refusal { remedy: help.map(|help| remedy(name, &help)), ..refusal });
        }
        let task = task::build(&config).map_err(|e| Refusal::of_task(name, &e))?;
        let (from, to) = (&config.source, &config.target);
        tracing::info!(task = %name, %from, %to, revision = stored.revision, "starting");
        // Whoever wants a task to come to an end wants it to move.
        let paused = stored.desired == Desired::Paused && until == Until::Stopped;
        let running = Running::start((config, task), stored.revision, until, paused, &self.news);
        tokio::spawn(watch(Arc::clone(&running), self.news.clone()));
        self.running().insert(name.to_owned(), running);
        Ok(())
    }

    fn stored(&self, name: &str) -> Result<StoredTask, Refusal> {
        self.store().task(name)?.ok_or_else(|| Refusal::not_found("task", name))
    }

    /// Runs a task from now on; one that runs is left alone, one that is paused goes on.
    pub async fn start(&self, name: &str, until: Until, who: &str) -> Result<(), Refusal> {
        let _turn = self.turn(name).await;
        self.stored(name)?;
        let by = by(who, "start", ("task", name));
        let active = self.active(name);
        match (&active, until) {
            (Some(_), _) | (None, Until::Stopped) => drop(self.store().want(name, Desired::Running, Some(by))?),
            (None, Until::Current) => self.store().audit(by, &Value::Null, &Value::Null)?,
        }
        if let Some(active) = active {
            active.pause(false);
            return Ok(());
        }
        let launched = self.launch(name, until).await;
        if launched.is_err() && until == Until::Stopped {
            self.store().want(name, Desired::Stopped, None)?;
        }
        launched
    }

    /// Ends a task; what is being applied is finished first.
    pub async fn stop(&self, name: &str, who: &str) -> Result<(), Refusal> {
        let _turn = self.turn(name).await;
        self.stored(name)?;
        self.store().want(name, Desired::Stopped, Some(by(who, "stop", ("task", name))))?;
        self.halt(name).await
    }

    async fn halt(&self, name: &str) -> Result<(), Refusal> {
        let Some(active) = self.active(name) else { return Ok(()) };
        active.stop();
        let slow = |_| {
            let what = format!("task {name} was told to stop, and has not ended in {} s", STOP.as_secs());
            Refusal::new(Code::Conflict, what).remedy("see its status and its logs: a database may not answer")
        };
        tokio::time::timeout(STOP, active.end()).await.map_err(slow)
    }

    /// Moves no more rows of a task that runs.
    pub async fn pause(&self, name: &str, who: &str) -> Result<(), Refusal> {
        let _turn = self.turn(name).await;
        self.stored(name)?;
        let active = self.active(name).ok_or_else(|| not_running(name, "paused"))?;
        self.store().want(name, Desired::Paused, Some(by(who, "pause", ("task", name))))?;
        active.pause(true);
        Ok(())
    }

    /// Goes on with a task that is paused.
    pub async fn go_on(&self, name: &str, who: &str) -> Result<(), Refusal> {
        let _turn = self.turn(name).await;
        self.stored(name)?;
        let active = self.active(name).ok_or_else(|| not_running(name, "resumed"))?;
        self.store().want(name, Desired::Running, Some(by(who, "resume", ("task", name))))?;
        active.pause(false);
        Ok(())
    }

    /// Has both ends forget a task that does not run: its next start loads everything anew.
    pub async fn reset(&self, name: &str, who: &str) -> Result<(), Refusal> {
        let _turn = self.turn(name).await;
        self.stored(name)?;
        self.store().audit(by(who, "reset", ("task", name)), &Value::Null, &Value::Null)?;
        self.retire(name).await
    }

    async fn retire(&self, name: &str) -> Result<(), Refusal> {
        if self.active(name).is_some() {
            let what = format!("task {name} runs");
            return Err(Refusal::new(Code::Conflict, what).remedy(format!("stop it (POST /api/v1/tasks/{name}/stop)")));
        }
        let (_, config) = self.specs.stored_task(name)?;
        let task = task::build(&config).map_err(|e| Refusal::of_task(name, &e))?;
        // While the target remembers the task, what failed half-way can be repeated.
        task.source.retire().await.map_err(|e| Refusal::of_task(name, &e))?;
        task.target.forget().await.map_err(|e| Refusal::of_task(name, &e))?;
        self.running().remove(name);
        Ok(())
    }

    /// Forgets a task that does not run. `drop`: what it has created at its ends goes first.
    pub async fn delete(&self, name: &str, drop: bool, who: &str) -> Result<(), Refusal> {
        let _turn = self.turn(name).await;
        self.stored(name)?;
        if self.active(name).is_some() {
            let what = format!("task {name} runs");
            return Err(Refusal::new(Code::Conflict, what).remedy(format!("stop it (POST /api/v1/tasks/{name}/stop)")));
        }
        if drop {
            self.retire(name).await?;
        }
        self.store().delete_task(name, by(who, "delete", ("task", name)))?;
        self.running().remove(name);
        Ok(())
    }

    /// Puts a task. One that runs is started again with what it is now.
    pub async fn put_task(
        &self,
        name: &str,
        spec: &Map<String, Value>,
        expected: Option<i64>,
        who: &str,
    ) -> Result<TaskPut, Refusal> {
        let _turn = self.turn(name).await;
        let put = self.specs.put_task(name, spec, expected, who)?;
        let reload = self.outdated(name).await;
        let outdated = self.active(name).is_some_and(|active| active.revision() != put.now.revision);
        if outdated {
            self.halt(name).await?;
            self.launch(name, Until::Stopped).await?;
        }
        Ok(TaskPut { put, reload })
    }

    /// By what the target remembers.
    async fn outdated(&self, name: &str) -> Option<Vec<Outdated>> {
        let (_, task) = self.task(name).ok()?;
        let record = tokio::time::timeout(ASK, task.target.record()).await.ok()?.ok()?.unwrap_or_default();
        let one = |(table, reason): (TableId, String)| Outdated { table: table.to_string(), reason };
        Some(outdated(task.rules.as_ref(), &record).into_iter().map(one).collect())
    }

    /// Puts an endpoint. Tasks that run with it go on as they are until they are started again.
    pub fn put_endpoint(
        &self,
        name: &str,
        spec: Map<String, Value>,
        expected: Option<i64>,
        who: &str,
    ) -> Result<Put<EndpointView>, Refusal> {
        let put = self.specs.put_endpoint(name, spec, expected, who)?;
        Ok(Put { now: put.now.into(), created: put.created })
    }

    /// Forgets an endpoint that no task uses.
    pub fn delete_endpoint(&self, name: &str, who: &str) -> Result<(), Refusal> {
        self.store().endpoint(name)?.ok_or_else(|| Refusal::not_found("endpoint", name))?;
        let uses = |task: &StoredTask| ["source", "target"].iter().any(|end| task.spec.get(*end) == Some(&name.into()));
        let remedy = "delete those tasks, or give them another endpoint";
        self.unused(&format!("endpoint {name}"), uses, remedy)?;
        self.store().delete_endpoint(name, by(who, "delete", ("endpoint", name)))?;
        Ok(())
    }

    /// Puts a set of rules. Tasks that run with it go on as they are until they are started again.
    pub fn put_rule_set(
        &self,
        name: &str,
        spec: &Map<String, Value>,
        expected: Option<i64>,
        who: &str,
    ) -> Result<Put<RuleSetView>, Refusal> {
        let put = self.specs.put_rule_set(name, spec, expected, who)?;
        Ok(Put { now: put.now.into(), created: put.created })
    }

    /// Forgets a set of rules that no task uses.
    pub fn delete_rule_set(&self, name: &str, who: &str) -> Result<(), Refusal> {
        self.store().rule_set(name)?.ok_or_else(|| Refusal::not_found("rule-set", name))?;
        let uses = |task: &StoredTask| {
            let sets = task.spec.get("rule-sets").and_then(Value::as_array);
            sets.is_some_and(|sets| sets.contains(&name.into()))
        };
        self.unused(&format!("rule set {name}"), uses, "take it out of `rule-sets` of those tasks")?;
        self.store().delete_rule_set(name, by(who, "delete", ("rule set", name)))?;
        Ok(())
    }

    /// Fails if a task uses what is to go.
    fn unused(&self, what: &str, uses: impl Fn(&StoredTask) -> bool, remedy: &str) -> Result<(), Refusal> {
        let users: Vec<String> = self.store().tasks()?.into_iter().filter(uses).map(|task| task.name).collect();
        if users.is_empty() {
            return Ok(());
        }
        Err(Refusal::new(Code::Conflict, format!("{what} is used by {}", users.join(", "))).remedy(remedy))
    }

    /// An endpoint that can be asked.
    pub fn endpoint(&self, name: &str) -> Result<config::Endpoint, Refusal> {
        self.specs.endpoint(name)
    }

    /// A stored task as one that can be asked, beside the one that may run.
    pub fn task(&self, name: &str) -> Result<(TaskConfig, Task), Refusal> {
        let (_, config) = self.specs.stored_task(name)?;
        let task = task::build(&config).map_err(|e| Refusal::of_task(name, &e))?;
        Ok((config, task))
    }

    /// What a task does.
    pub fn status(&self, name: &str) -> Result<TaskStatus, Refusal> {
        if let Some(running) = self.running().get(name) {
            return Ok(status::of_run(name, running));
        }
        Ok(status::of_last_run(name, self.store().runs(name, 1)?.pop()))
    }

    /// Its tables: as the running task has them, or as the target remembers them.
    pub async fn tables(&self, name: &str) -> Result<Vec<TableStatus>, Refusal> {
        self.stored(name)?;
        let known = self.running().get(name).cloned();
        if let Some(running) = known {
            let progress = running.reporter().snapshot();
            if !progress.tables.is_empty() || !running.has_ended() {
                return Ok(progress.tables.iter().map(|(id, t)| TableStatus::of_progress(name, id, t)).collect());
            }
        }
        let (_, task) = self.task(name)?;
        let record = task.target.record().await.map_err(|e| Refusal::of_task(name, &e))?.unwrap_or_default();
        Ok(record.tables.iter().map(|table| TableStatus::of_record(name, table)).collect())
    }

    /// Has a table loaded again, now or when the task starts next. It is on record on the target before this returns.
    pub async fn reload(&self, name: &str, table: &str, who: &str) -> Result<TableId, Refusal> {
        let unknown = || {
            Refusal::new(Code::NotFound, format!("task {name} has not taken up a table {table}"))
                .remedy(format!("GET /api/v1/tasks/{name}/tables lists its tables; names are case-sensitive"))
        };
        let id = Glob::parse(table).ok().and_then(|glob| glob.exact()).ok_or_else(unknown)?;
        let (_, task) = self.task(name)?;
        let record = task.target.record().await.map_err(|e| Refusal::of_task(name, &e))?.unwrap_or_default();
        let known = record.table(&id).or_else(|| record.of_target(&id)).ok_or_else(unknown)?;
        let object = known.id().to_string();
        let by = by(who, "reload", ("table", &object));
        self.store().audit(by, &Value::Null, &json!({ "task": name }))?;
        task.target.request_reload(known.id()).await.map_err(|e| Refusal::of_task(name, &e))?;
        if let Some(active) = self.active(name) {
            active.look();
        }
        Ok(known.id().clone())
    }

    /// All runs that there have been in this process, by task.
    pub fn all_running(&self) -> Vec<(String, Arc<Running>)> {
        self.running().iter().map(|(name, running)| (name.clone(), Arc::clone(running))).collect()
    }
}

fn not_running(name: &str, what: &str) -> Refusal {
    Refusal::new(Code::Conflict, format!("task {name} does not run, and cannot be {what}"))
        .remedy(format!("start it (POST /api/v1/tasks/{name}/start)"))
}
