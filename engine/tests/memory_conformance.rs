//! The conformance suite on the endpoints in memory.

use std::sync::Arc;

use async_trait::async_trait;
use trem_engine::ports::{Source, Target};
use trem_engine::testkit::conformance::{Rig, sorted};
use trem_engine::testkit::{Event, MemorySource, MemoryTarget, ModelTable, Row, read_from_right};

struct Memory {
    source: MemorySource,
    target: MemoryTarget,
}

async fn rig() -> Memory {
    Memory { source: MemorySource::new(Vec::new()), target: MemoryTarget::new(3, []) }
}

#[async_trait]
impl Rig for Memory {
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.source.clone())
    }

    fn target(&self) -> Arc<dyn Target> {
        Arc::new(self.target.clone())
    }

    async fn create(&self, table: &ModelTable) {
        self.source.create(table.clone());
    }

    async fn commit(&self, events: &[Event]) {
        self.source.commit(events);
    }

    async fn source_rows(&self, table: &ModelTable) -> Vec<Row> {
        sorted(self.source.database().table(&table.id).values().cloned().collect())
    }

    async fn target_rows(&self, table: &ModelTable) -> Vec<Row> {
        let types = || table.columns.iter().map(|(_, ty)| ty);
        let read = |row: Row| types().zip(row).map(|(ty, value)| value.map(|v| read_from_right(ty, v))).collect();
        sorted(self.target.database().table(&table.id).values().cloned().map(read).collect())
    }
}

trem_engine::conformance!(rig());

/// A target that wants each change, and makes its tables outside of transactions.
mod of_the_log {
    use super::{Memory, rig};

    async fn log_rig() -> Memory {
        let Memory { source, target } = rig().await;
        Memory { source, target: target.wanting_the_log().with_eager_ddl() }
    }

    trem_engine::conformance!(log_rig());
}
