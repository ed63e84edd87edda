//! Tells what changes of a task while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::status;
use super::supervise::{News, Running};
use super::views::remedy;

/// What changes within this time is told together.
const TOGETHER: Duration = Duration::from_millis(50);

/// Until the task has ended.
pub(super) async fn watch(running: Arc<Running>, news: News) {
    let name = &running.task().plan.name;
    let (mut state, mut tables) = (String::new(), BTreeMap::new());
    let mut changes = running.reporter().changes();
    loop {
        let ended = running.has_ended();
        let now = status::of_run(name, &running);
        if now.state != state {
            let (reason, remedy) = (&now.reason, &now.remedy);
            let data = json!({ "state": now.state, "was": state, "reason": reason, "remedy": remedy, "run": now.run });
            news.tell(Some(name), "task-state", data);
            state = now.state;
        }
        for (id, table) in &running.reporter().snapshot().tables {
            let Some(now) = table.state.map(|state| state.name()) else { continue };
            if tables.get(id) == Some(&now) {
                continue;
            }
            let was = tables.insert(id.clone(), now);
            let (table, reason, help) = (id.to_string(), &table.reason, table.remedy.as_ref().map(|r| remedy(name, r)));
            let data = json!({ "table": table, "state": now, "was": was, "reason": reason, "remedy": help });
            news.tell(Some(name), "table-state", data);
        }
        if ended {
            return;
        }
        tokio::select! {
            // The sender lives as long as the run.
            _ = changes.changed() => tokio::time::sleep(TOGETHER).await,
            () = running.end() => {}
        }
    }
}
