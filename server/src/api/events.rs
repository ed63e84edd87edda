//! `/api/v1/events`: what happens, as it happens (server-sent events).

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use futures::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;

use super::access::Viewer;
use super::body::Query;
use super::problem::Problem;
use super::shared::Shared;
use crate::store::Event;

/// Events that are read from the state file at a time.
const PAGE: u32 = 500;

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// Only those of this task.
    task: Option<String>,
    /// Those after the one of this number; without it, those from now on. `Last-Event-ID` goes before it.
    after: Option<i64>,
}

/// Events from one on, each once and in order, for as long as somebody listens. The stored ones come first: the last
/// ten thousand are kept.
#[utoipa::path(get, path = "/events", tag = "events", params(Watched),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub async fn events(
    _: Viewer,
    State(api): State<Shared>,
    headers: HeaderMap,
    Query(watched): Query<Watched>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let last = match headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default().parse()) {
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => return Err(Problem::parameter("Last-Event-ID is not the number of an event")),
        None => watched.after,
    };
    // Listening before looking: nothing comes in between.
    let news = api.fleet.listen();
    let told = match last {
        Some(id) => id,
        None => api.fleet.store().last_event()?,
    };
    let listener = Listener { told, task: watched.task, waiting: VecDeque::new(), behind: true, news, api };
    let stream = stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok(as_sent(&event)), listener))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

fn as_sent(event: &Event) -> sse::Event {
    let data = serde_json::to_string(event).unwrap_or_default();
    sse::Event::default().id(event.id.to_string()).event(&event.kind).data(data)
}

struct Listener {
    /// The last event that was sent.
    told: i64,
    task: Option<String>,
    waiting: VecDeque<Event>,
    /// There may be stored ones that were not told.
    behind: bool,
    news: broadcast::Receiver<Event>,
    api: Shared,
}

impl Listener {
    /// The next event; `None` when the daemon stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.told = event.id;
                return Some(event);
            }
            if self.behind {
                let stored = self.api.fleet.store().events_after(self.told, self.task.as_deref(), PAGE);
                self.waiting = stored.ok()?.into();
                self.behind = self.waiting.len() == PAGE as usize;
                continue;
            }
            tokio::select! {
                () = self.api.stop.cancelled() => return None,
                event = self.news.recv() => match event {
                    Ok(event) if event.id <= self.told => {}
                    Ok(event) if self.task.is_some() && self.task != event.task => {}
                    Ok(event) => self.waiting.push_back(event),
                    Err(RecvError::Lagged(_)) => self.behind = true,
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }
}
