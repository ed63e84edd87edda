//! The configuration as the rest of the program sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use trem_endpoints::kind::{self, Configured};
use trem_engine::budget::Budget;
use trem_engine::task::TaskPlan;
use trem_transforms::RuleList;

/// A configuration file, validated.
#[derive(Debug)]
pub struct Config {
    /// The endpoints, by name.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// The tasks, by name.
    pub tasks: Vec<TaskConfig>,
}

/// One task and its two ends.
#[derive(Clone, Debug)]
pub struct TaskConfig {
    /// What the runner sees.
    pub plan: TaskPlan,
    /// Its share of the memory of the process.
    pub budget: Budget,
    /// Where rows come from.
    pub source: Endpoint,
    /// Where they go.
    pub target: Endpoint,
    /// What becomes of tables on the way.
    pub rules: RuleList,
}

/// A named endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The name in `[endpoints.NAME]`.
    pub name: String,
    /// What it is.
    pub configured: Arc<dyn Configured>,
}

impl Endpoint {
    /// Whether both are one database, as far as the configuration can tell.
    pub fn same_database(&self, other: &Self) -> bool {
        kind::same_database(&*self.configured, &*other.configured)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.configured.kind();
        match self.configured.describe() {
            Some(place) => write!(f, "{} ({kind} {place})", self.name),
            None => write!(f, "{} ({kind})", self.name),
        }
    }
}
