//! The pause before the next attempt, and how long attempts have been failing.

use std::time::{Duration, Instant, SystemTime};

use rand::Rng;

use crate::error::Error;
use crate::record::Failing;
use crate::schema::TableId;
use crate::task::RetryPolicy;

/// How often it is told again that something keeps failing.
const TOLD_AGAIN: Duration = Duration::from_secs(600);

/// Exponential backoff with jitter; starts anew after progress.
pub(super) struct Backoff {
    policy: RetryPolicy,
    failures: u32,
    failing_since: Option<(Instant, SystemTime)>,
    told: Option<Instant>,
}

impl Backoff {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failures: 0, failing_since: None, told: None }
    }

    pub(super) fn progressed(&mut self) {
        self.failures = 0;
        self.failing_since = None;
        self.told = None;
    }

    /// The next pause: between half and the whole of a time that doubles; `None` to give up.
    pub(super) fn next(&mut self) -> Option<Duration> {
        let (since, _) = *self.failing_since.get_or_insert_with(|| (Instant::now(), SystemTime::now()));
        if self.policy.give_up_after.is_some_and(|limit| since.elapsed() >= limit) {
            return None;
        }
        let doubled = self.policy.initial.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        Some(doubled.min(self.policy.max).mul_f64(rand::rng().random_range(0.5..=1.0)))
    }

    /// What is to be written down once this has failed for long, and told from time to time.
    pub(super) fn lasting(&mut self, task: &str, error: &Error, tables: &[TableId]) -> Option<Failing> {
        let (since, at) = self.failing_since.filter(|(since, _)| since.elapsed() >= self.policy.tell_after)?;
        let (times, seconds) = (u64::from(self.failures), since.elapsed().as_secs());
        if self.told.is_none_or(|told| told.elapsed() >= TOLD_AGAIN) {
            self.told = Some(Instant::now());
            tracing::warn!(%task, times, "has been failing for {seconds} s, and is tried again: {error}");
        }
        let (class, reason, remedy) = (error.class(), error.reason(), error.advice().cloned());
        Some(Failing { tables: tables.to_vec(), since: at, times, class, reason, remedy })
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_anew() {
        let (initial, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(RetryPolicy { initial, max, ..RetryPolicy::default() });
        let pauses: Vec<_> = (0..40).map(|_| backoff.next().expect("never gives up")).collect();
        assert!(pauses[0] <= Duration::from_millis(100));
        assert!(pauses[39] >= Duration::from_millis(500) && pauses[39] <= Duration::from_secs(1));
        backoff.progressed();
        assert!(backoff.next().expect("never gives up") <= Duration::from_millis(100));
    }

    #[test]
    fn gives_up_when_told_to() {
        let policy = RetryPolicy { give_up_after: Some(Duration::ZERO), ..RetryPolicy::default() };
        assert_eq!(Backoff::new(policy).next(), None);
    }

    #[test]
    fn what_lasts_is_told_until_there_is_progress() {
        let error = Error::transient("down").remedy("start it");
        let mut early = Backoff::new(RetryPolicy::default());
        early.next();
        assert_eq!(early.lasting("t", &error, &[]), None);
        let mut late = Backoff::new(RetryPolicy { tell_after: Duration::ZERO, ..RetryPolicy::default() });
        assert_eq!(late.lasting("t", &error, &[]), None, "nothing has failed");
        for _ in 0..3 {
            late.next();
        }
        let failing = late.lasting("t", &error, &[]).expect("it has");
        assert_eq!((failing.times, failing.reason.as_str(), failing.remedy.is_some()), (3, "down", true));
        late.progressed();
        assert_eq!(late.lasting("t", &error, &[]), None);
    }
}
