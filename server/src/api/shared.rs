//! What the routes share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::failures::Failures;
use super::under_way::UnderWay;
use crate::daemon::Fleet;
use crate::logging::Log;

/// What the routes share.
pub struct Api {
    /// The tasks.
    pub fleet: Fleet,
    /// Whether everybody may do everything: only where nobody else can ask.
    pub open: bool,
    /// The names by which this daemon may be called; empty for any.
    pub hosts: Vec<String>,
    /// Ends streams.
    pub stop: CancellationToken,
    /// What is logged.
    pub log: Log,
    /// How often a wrong token was sent lately.
    pub failures: Failures,
    /// Requests with an `Idempotency-Key` that are under way.
    pub under_way: UnderWay,
}

/// Shared by all requests.
pub type Shared = Arc<Api>;
