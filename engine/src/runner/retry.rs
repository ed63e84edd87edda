//! The pause before the next attempt.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::task::RetryPolicy;

/// Exponential backoff with jitter; starts anew after progress.
pub(super) struct Backoff {
    policy: RetryPolicy,
    failures: u32,
    failing_since: Option<Instant>,
}

impl Backoff {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failures: 0, failing_since: None }
    }

    pub(super) fn progressed(&mut self) {
        self.failures = 0;
        self.failing_since = None;
    }

    /// The next pause: between half and the whole of a time that doubles; `None` to give up.
    pub(super) fn next(&mut self) -> Option<Duration> {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if self.policy.give_up_after.is_some_and(|limit| since.elapsed() >= limit) {
            return None;
        }
        let doubled = self.policy.initial.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = (self.failures + 1).min(20);
        Some(doubled.min(self.policy.max).mul_f64(rand::rng().random_range(0.5..=1.0)))
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_anew() {
        let policy =
            RetryPolicy { initial: Duration::from_millis(100), max: Duration::from_secs(1), give_up_after: None };
        let mut backoff = Backoff::new(policy);
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
}
