//! Room in the memory budget for what a stream gathers. A first piece needs none, and what has no room goes on to the
//! target as it is: a stream among many that are busy gets slower, and never stands still.

use std::future::Future;
use std::pin::Pin;

use crate::budget::{Budget, Room};
use crate::error::Result;

/// Rows are there twice, as they were read and as they are written.
pub(super) const COPIES: usize = 2;

/// Room for one set.
pub(super) struct SetRoom {
    budget: Budget,
    bytes: usize,
    held: Option<Room>,
    asked: Option<Pin<Box<dyn Future<Output = Result<Room>> + Send>>>,
}

impl SetRoom {
    /// For sets of so many bytes.
    pub(super) fn new(budget: &Budget, max_bytes: usize) -> Self {
        let bytes = max_bytes.saturating_mul(COPIES);
        Self { budget: budget.clone(), bytes, held: None, asked: None }
    }

    /// Whether more may be read. `gathered`: whether something is at hand; nothing at hand holds no room.
    pub(super) fn is_for_more(&mut self, gathered: bool) -> bool {
        if !gathered {
            self.held = None;
        } else if self.held.is_none() && self.asked.is_none() {
            let (budget, bytes) = (self.budget.clone(), self.bytes);
            self.asked = Some(Box::pin(async move { budget.room(bytes).await }));
        }
        !gathered || self.held.is_some()
    }

    /// Waits for the room that was asked for. Cancel-safe, and the place in the queue is kept.
    pub(super) async fn granted(&mut self) -> Result<()> {
        match &mut self.asked {
            Some(asked) => {
                let room = asked.await;
                self.asked = None;
                self.held = Some(room?);
                Ok(())
            }
            None => std::future::pending().await,
        }
    }

    /// The room for what is handed on, if there is any.
    pub(super) fn take(&mut self) -> Option<Room> {
        self.held.take()
    }

    /// Others may have it: nothing is moved for a while.
    pub(super) fn give_back(&mut self) {
        (self.held, self.asked) = (None, None);
    }
}
