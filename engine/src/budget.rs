//! Bytes of row buffers that may be held at a time: one budget for the whole process, of which each task has at most a
//! share.
//!
//! Whoever is given room gives it back without waiting for more of it, so nobody waits for ever: a batch of a load is
//! written, a set of changes is applied. Room is given in the order in which it was asked for; a load that could fill
//! everything does not keep a stream out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Room is counted in units of so many bytes: a semaphore counts to 2^32 at most.
const UNIT: usize = 1 << 10;

/// A budget, or a share of one; clones are the same one.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    units: u32,
    free: Arc<Semaphore>,
    /// Most units ever held at a time.
    peak: AtomicUsize,
    whole: Option<Budget>,
}

/// Bytes that may be held while this lives.
#[derive(Debug)]
pub struct Room {
    _held: OwnedSemaphorePermit,
    _of_whole: Option<Box<Room>>,
}

impl Budget {
    /// So many bytes, rounded down to whole KiB, and at least one.
    pub fn new(bytes: usize) -> Self {
        Self::with(bytes, None)
    }

    /// A part of this that is never larger than `bytes`. The parts may be more than the whole together.
    pub fn share(&self, bytes: usize) -> Self {
        Self::with(bytes.min(self.bytes()), Some(self.clone()))
    }

    fn with(bytes: usize, whole: Option<Self>) -> Self {
        let units = u32::try_from((bytes / UNIT).max(1)).unwrap_or(u32::MAX);
        let free = Arc::new(Semaphore::new(units as usize));
        Self(Arc::new(Pool { units, free, peak: AtomicUsize::new(0), whole }))
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.0.units as usize * UNIT
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        (self.0.units as usize - self.0.free.available_permits()) * UNIT
    }

    /// Most bytes that were held at a time.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed) * UNIT
    }

    /// Waits for room for so many bytes. What is larger than the budget waits for all of it.
    ///
    /// # Errors
    /// None that a user could cause.
    pub async fn room(&self, bytes: usize) -> Result<Room> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.0.units);
        let gone = |e| Error::fatal("internal: the memory budget is closed").cause(e);
        let held = Arc::clone(&self.0.free).acquire_many_owned(units).await.map_err(gone)?;
        let of_whole = match &self.0.whole {
            Some(whole) => Some(Box::new(Box::pin(whole.room(units as usize * UNIT)).await?)),
            None => None,
        };
        self.0.peak.fetch_max(self.held() / UNIT, Ordering::Relaxed);
        Ok(Room { _held: held, _of_whole: of_whole })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn waits(budget: &Budget, bytes: usize) -> bool {
        timeout(Duration::from_millis(1), budget.room(bytes)).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn shares_have_no_more_than_the_whole() {
        let whole = Budget::new(10 << 10);
        let (a, b) = (whole.share(8 << 10), whole.share(8 << 10));
        let held = a.room(6 << 10).await.unwrap();
        assert!(waits(&a, 3 << 10).await, "more than its share");
        assert!(waits(&b, 5 << 10).await, "more than is left of the whole");
        let rest = b.room(4 << 10).await.unwrap();
        assert_eq!((whole.held(), a.held(), b.held()), (10 << 10, 6 << 10, 4 << 10));
        drop(held);
        assert_eq!((whole.held(), a.held()), (4 << 10, 0), "nobody who gave up holds any");
        drop(rest);
        assert_eq!((whole.peak(), whole.held()), (10 << 10, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_larger_than_all_waits_for_all() {
        let budget = Budget::new(4 << 10);
        let held = budget.room(1).await.unwrap();
        assert_eq!(budget.held(), 1 << 10);
        assert!(waits(&budget, 1 << 30).await);
        drop(held);
        let all = budget.room(1 << 30).await.unwrap();
        assert_eq!(budget.held(), budget.bytes());
        drop(all);
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_given_in_the_order_in_which_it_was_asked_for() {
        let budget = Budget::new(4 << 10);
        let held = budget.room(3 << 10).await.unwrap();
        let (large, one) = (budget.clone(), budget.clone());
        let large = tokio::spawn(async move { large.room(4 << 10).await.unwrap() });
        tokio::task::yield_now().await;
        assert!(waits(&one, 1).await, "the one that asked before is not passed");
        drop(held);
        drop(large.await.unwrap());
        assert!(!waits(&one, 1).await);
    }
}
