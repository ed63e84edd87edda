//! The full load: chunks of all pending tables, read and written by a few workers at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::change::ChangeBatch;
use crate::error::{Error, Result};
use crate::ports::{
    Chunk, ChunkOptions, Epoch, Loader, Snapshot, TableRecord, TableState, Target, TargetLane, Transform,
};
use crate::progress::Reporter;
use crate::schema::{TableId, TableSchema};
use crate::task::OnExisting;

use super::Task;

/// Rows in flight beyond this many bytes a worker gain nothing: they only leave the cache.
const MAX_BATCH_BYTES: usize = 2 << 20;
/// Batches that one worker holds at a time: being built, waiting, being written, and the bytes of the wire.
const BATCHES_PER_WORKER: usize = 8;
/// A table is cut into so many parts for each worker, so that none is left with a long one at the end.
const PARTS_PER_WORKER: u64 = 3;

pub(super) struct Load<'a> {
    pub(super) task: &'a Task,
    pub(super) snapshot: Arc<dyn Snapshot>,
    pub(super) stop: CancellationToken,
}

type Queue = Arc<Mutex<VecDeque<(Arc<TableSchema>, Chunk)>>>;

impl Load<'_> {
    pub(super) async fn run(
        self,
        lane: &mut dyn TargetLane,
        pending: &[Arc<TableSchema>],
        known: &HashMap<&TableId, &TableRecord>,
    ) -> Result<()> {
        let mut queue = VecDeque::new();
        let mut left: HashMap<TableId, usize> = HashMap::new();
        for table in pending {
            let chunks = match self.take_up(lane, table, known.get(&table.id).copied()).await {
                Ok(chunks) => chunks,
                Err(e) => {
                    self.task.refuse_table(lane, table, e, known.is_empty()).await?;
                    continue;
                }
            };
            if chunks.is_empty() {
                self.finish(lane, table).await?;
                continue;
            }
            left.insert(table.id.clone(), chunks.len());
            queue.extend(chunks.into_iter().map(|c| (Arc::clone(table), c)));
        }
        self.work(lane, queue, left).await
    }

    /// Prepares one table and says which of its chunks are still to be read.
    async fn take_up(
        &self,
        lane: &mut dyn TargetLane,
        table: &Arc<TableSchema>,
        record: Option<&TableRecord>,
    ) -> Result<Vec<Chunk>> {
        let on_existing = self.task.plan.on_existing;
        let resumed = record.filter(|r| r.state == TableState::Loading);
        match resumed {
            Some(r) if r.schema != *table => {
                tracing::warn!(table = %table.id, "changed while it was being loaded: loaded again from the start");
                self.task.target.reload(&table.id).await?;
                lane.prepare(table, on_existing, true).await?;
            }
            Some(r)
                if !r.chunks.is_empty() && r.chunks.iter().all(|c| c.done.is_some() || c.chunk.range.survives()) =>
            {
                let rest: Vec<Chunk> = r.chunks.iter().filter(|c| c.done.is_none()).map(|c| c.chunk.clone()).collect();
                let done = r.chunks.len() - rest.len();
                tracing::info!(table = %table.id, done, left = rest.len(), "load goes on");
                return Ok(rest);
            }
            Some(_) => {}
            None => lane.prepare(table, on_existing, true).await?,
        }
        let options = ChunkOptions {
            chunk_bytes: self.task.plan.load.chunk_bytes,
            parts: self.task.plan.load.workers as u64 * PARTS_PER_WORKER,
            resume_above_bytes: self.task.plan.load.resume_above_bytes,
            physical: on_existing != OnExisting::Keep,
        };
        let chunks = self.snapshot.chunks(table, options).await?;
        // The target knows by its own record whether rows were there before that must stay.
        let interrupted = record.is_some();
        lane.plan_chunks(table, &chunks, interrupted).await?;
        self.task.reporter.table(&table.id, |t| {
            t.state = Some(TableState::Loading);
            t.rows_estimated = chunks.iter().map(|c| c.rows).sum();
            t.rows_loaded = 0;
            t.rows_read = 0;
        });
        Ok(chunks)
    }

    async fn work(
        self,
        lane: &mut dyn TargetLane,
        queue: VecDeque<(Arc<TableSchema>, Chunk)>,
        mut left: HashMap<TableId, usize>,
    ) -> Result<()> {
        let workers = self.task.plan.load.workers.clamp(1, queue.len().max(1));
        let queue: Queue = Arc::new(Mutex::new(queue));
        let (done, mut finished) = mpsc::channel(workers);
        let mut set = JoinSet::new();
        for _ in 0..workers {
            let worker = Worker {
                queue: Arc::clone(&queue),
                snapshot: Arc::clone(&self.snapshot),
                target: Arc::clone(&self.task.target),
                transforms: self.task.transforms.clone(),
                reporter: self.task.reporter.clone(),
                batch_bytes: (self.task.plan.memory_bytes / (workers * BATCHES_PER_WORKER))
                    .clamp(64 << 10, MAX_BATCH_BYTES),
                epoch: lane.epoch(),
                done: done.clone(),
                stop: self.stop.clone(),
            };
            set.spawn(worker.run());
        }
        drop(done);
        loop {
            tokio::select! {
                biased;
                Some(table) = finished.recv() => {
                    let chunks = left.entry(table.id.clone()).or_default();
                    *chunks = chunks.saturating_sub(1);
                    if *chunks == 0 {
                        self.finish(lane, &table).await?;
                    }
                }
                Some(ended) = set.join_next() => {
                    ended.map_err(|e| Error::fatal("a load worker panicked").cause(e))??;
                }
                else => return Ok(()),
            }
        }
    }

    async fn finish(&self, lane: &mut dyn TargetLane, table: &Arc<TableSchema>) -> Result<()> {
        lane.finish_table(table).await.map_err(|e| e.table(&table.id))?;
        let mut rows = 0;
        self.task.reporter.table(&table.id, |t| {
            t.state = Some(TableState::Ready);
            rows = t.rows_loaded;
        });
        tracing::info!(task = %self.task.plan.name, table = %table.id, rows, "table loaded");
        Ok(())
    }
}

struct Worker {
    queue: Queue,
    snapshot: Arc<dyn Snapshot>,
    target: Arc<dyn Target>,
    transforms: Vec<Arc<dyn Transform>>,
    reporter: Reporter,
    batch_bytes: usize,
    epoch: Epoch,
    done: mpsc::Sender<Arc<TableSchema>>,
    stop: CancellationToken,
}

impl Worker {
    async fn run(self) -> Result<()> {
        let mut loader = self.target.open_loader(self.epoch).await?;
        while !self.stop.is_cancelled() {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((table, chunk)) = next else { break };
            let outcome = self.chunk(loader.as_mut(), &table, &chunk).await;
            let Some(rows) = outcome.map_err(|e| e.table(&table.id))? else { break };
            self.reporter.table(&table.id, |t| t.rows_loaded += rows);
            if self.done.send(table).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Loads one chunk; `None` when stopped in between.
    async fn chunk(&self, loader: &mut dyn Loader, table: &Arc<TableSchema>, chunk: &Chunk) -> Result<Option<u64>> {
        let (send, mut batches) = mpsc::channel::<Result<ChangeBatch>>(1);
        let reader = read(Arc::clone(&self.snapshot), Arc::clone(table), chunk.clone(), self.batch_bytes, send);
        // Decoding and encoding run beside each other, so a slow target does not leave the source idle.
        let mut reading = JoinSet::new();
        reading.spawn(reader);
        loader.start_chunk(table, chunk).await?;
        loop {
            let batch = tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                batch = batches.recv() => batch,
            };
            let Some(batch) = batch else { break };
            let mut batch = batch?;
            for transform in &self.transforms {
                batch = transform.rows(batch)?;
            }
            let rows = batch.len() as u64;
            loader.load(batch).await?;
            self.reporter.table(&table.id, |t| t.rows_read += rows);
        }
        if let Some(Err(panicked)) = reading.join_next().await {
            return Err(Error::fatal("the reader of a chunk panicked").cause(panicked));
        }
        loader.finish_chunk(self.snapshot.start()).await.map(Some)
    }
}

async fn read(
    snapshot: Arc<dyn Snapshot>,
    table: Arc<TableSchema>,
    chunk: Chunk,
    batch_bytes: usize,
    send: mpsc::Sender<Result<ChangeBatch>>,
) {
    let mut rows = snapshot.read(&table, &chunk, batch_bytes);
    while let Some(batch) = rows.next().await {
        let failed = batch.is_err();
        if send.send(batch).await.is_err() || failed {
            return;
        }
    }
}
