//! The rows of a group of tables: chunks, read and written by a few workers at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::budget::{Budget, Room};
use crate::change::ChangeBatch;
use crate::chunk::Chunk;
use crate::error::{Error, Result};
use crate::ports::{Loader, Snapshot};
use crate::progress::{Reporter, Station};
use crate::record::{RecordChange, TableRecord};
use crate::route::Route;
use crate::schema::TableId;

use super::room::COPIES;
use super::run::Run;
use super::stage::tell_set_aside;

/// Rows in flight beyond this many bytes a worker gain nothing: they only leave the cache.
const MAX_BATCH_BYTES: usize = 2 << 20;
/// Batches that one worker holds at a time: being built, waiting, being written, and the bytes of the wire.
const BATCHES_PER_WORKER: usize = 8;

/// A table that is being loaded.
pub(super) struct Loading {
    pub(super) route: Route,
    /// As `prepare` left it.
    pub(super) record: TableRecord,
    /// What is still to be read.
    pub(super) chunks: Vec<Chunk>,
}

type Queue = Arc<Mutex<VecDeque<(Arc<Loading>, Chunk)>>>;

/// Loads these tables; each is sent to `loaded` when its last chunk is in. The snapshot is let go with the last chunk
/// of all: what it holds at the source is not needed while tables catch up.
pub(super) async fn load(
    run: &Arc<Run>,
    snapshot: Arc<dyn Snapshot>,
    tables: Vec<Loading>,
    loaded: mpsc::UnboundedSender<Arc<Loading>>,
) -> Result<()> {
    let (mut queue, mut left) = (VecDeque::new(), HashMap::new());
    for table in tables.into_iter().map(Arc::new) {
        if table.chunks.is_empty() {
            let _ = loaded.send(Arc::clone(&table));
        }
        left.insert(table.record.id().clone(), table.chunks.len());
        queue.extend(table.chunks.iter().map(|chunk| (Arc::clone(&table), chunk.clone())));
    }
    let workers = run.task.plan.load.workers.min(queue.len());
    let queue: Queue = Arc::new(Mutex::new(queue));
    let (done, mut finished) = mpsc::channel(workers.max(1));
    let mut set = JoinSet::new();
    for _ in 0..workers {
        let batch_bytes = run.task.budget.bytes() / (workers * BATCHES_PER_WORKER);
        let worker = Worker {
            run: Arc::clone(run),
            snapshot: Arc::clone(&snapshot),
            queue: Arc::clone(&queue),
            batch_bytes: batch_bytes.clamp(64 << 10, MAX_BATCH_BYTES),
            done: done.clone(),
        };
        set.spawn(worker.run());
    }
    drop(done);
    loop {
        tokio::select! {
            biased;
            Some(table) = finished.recv() => last_of(&table, &mut left).then(|| loaded.send(table)),
            Some(ended) = set.join_next() => {
                ended.map_err(|e| Error::fatal("a load worker panicked").cause(e))??;
                None
            }
            else => return Ok(()),
        };
    }
}

/// Whether the chunk that is in was the last one of its table.
fn last_of(table: &Loading, left: &mut HashMap<TableId, usize>) -> bool {
    let chunks = left.entry(table.record.id().clone()).or_default();
    *chunks = chunks.saturating_sub(1);
    *chunks == 0
}

struct Worker {
    run: Arc<Run>,
    snapshot: Arc<dyn Snapshot>,
    queue: Queue,
    batch_bytes: usize,
    done: mpsc::Sender<Arc<Loading>>,
}

impl Worker {
    async fn run(self) -> Result<()> {
        let mut loader = self.run.task.target.open_loader(self.run.book.epoch).await?;
        loop {
            self.run.control.resumed().await;
            let turn = self.run.chunks.acquire().await;
            let _turn = turn.map_err(|e| Error::fatal("internal: turns of load workers").cause(e))?;
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((table, chunk)) = next else { return Ok(()) };
            let id = table.record.id();
            let now = Instant::now().into_std();
            self.run.task.reporter.table(id, |t| t.load_began = t.load_began.or(Some((now, t.rows_read))));
            let change = self.chunk(loader.as_mut(), &table, &chunk).await.map_err(|e| e.table(id))?;
            self.run.book.note(&[change])?;
            let rows = self.run.book.read(|r| r.table(id).map_or(0, TableRecord::rows_loaded));
            self.run.task.reporter.table(id, |t| t.rows_loaded = rows);
            if self.done.send(table).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Loads one chunk.
    async fn chunk(&self, loader: &mut dyn Loader, table: &Loading, chunk: &Chunk) -> Result<RecordChange> {
        let (send, mut batches) = mpsc::channel::<Result<(ChangeBatch, Room)>>(1);
        let route = table.route.clone();
        let reader = Reader {
            snapshot: Arc::clone(&self.snapshot),
            route: route.clone(),
            chunk: chunk.clone(),
            batch_bytes: self.batch_bytes,
            budget: self.run.task.budget.clone(),
            reporter: self.run.task.reporter.clone(),
        };
        // Decoding and encoding run beside each other, so a slow target does not leave the source idle.
        let mut reading = JoinSet::new();
        reading.spawn(reader.run(send));
        let id = table.record.id();
        loader.start_chunk(&table.record).await?;
        let (mut rows, mut bytes, mut quarantined) = (0, 0, Vec::new());
        while let Some(batch) = batches.recv().await {
            let (batch, _room) = batch?;
            let (reporter, read, began) = (&self.run.task.reporter, batch.len(), Instant::now());
            let mapped = route.map(batch)?;
            reporter.passed(Station::Reduced, read, began.elapsed());
            reporter.add(&[(id.clone(), mapped.counts)]);
            let misfit = |(column, count): (String, u64)| (id.clone(), column, count);
            reporter.misfits(&mapped.misfits.into_iter().map(misfit).collect::<Vec<_>>());
            if let Some(first) = mapped.quarantined.first() {
                tell_set_aside(id, mapped.quarantined.len(), &first.error);
            }
            quarantined.extend(mapped.quarantined);
            let (count, began) = (mapped.rows.len() as u64, Instant::now());
            bytes += mapped.rows.bytes_of_values() as u64;
            loader.load(mapped.rows).await?;
            reporter.passed(Station::Applied, count as usize, began.elapsed());
            rows += count;
            self.run.task.reporter.table(id, |t| t.rows_read += count);
        }
        if let Some(Err(panicked)) = reading.join_next().await {
            return Err(Error::fatal("the reader of a chunk panicked").cause(panicked));
        }
        let snapshot = self.snapshot.place(route.source());
        let done = RecordChange::ChunkDone { table: id.clone(), chunk: chunk.id, snapshot, rows };
        let mut changes = vec![done.clone()];
        if !quarantined.is_empty() {
            changes.push(RecordChange::Quarantine(quarantined));
        }
        loader.finish_chunk(&changes).await?;
        self.run.task.reporter.table(id, |t| t.bytes_loaded += bytes);
        Ok(done)
    }
}

/// Reads one chunk ahead of the loader, as far as there is room.
struct Reader {
    snapshot: Arc<dyn Snapshot>,
    route: Route,
    chunk: Chunk,
    batch_bytes: usize,
    budget: Budget,
    reporter: Reporter,
}

impl Reader {
    async fn run(self, send: mpsc::Sender<Result<(ChangeBatch, Room)>>) {
        let mut rows = self.snapshot.read(self.route.source(), &self.chunk, self.route.wants(), self.batch_bytes);
        loop {
            // Before it is read: a batch that waits for room would be in memory all the same.
            let room = self.budget.room(self.batch_bytes * COPIES).await;
            let began = Instant::now();
            let Some(batch) = rows.next().await else { return };
            if let Ok(batch) = &batch {
                self.reporter.passed(Station::Read, batch.len(), began.elapsed());
            }
            let batch = batch.and_then(|batch| Ok((batch, room?)));
            let failed = batch.is_err();
            if send.send(batch).await.is_err() || failed {
                return;
            }
        }
    }
}
