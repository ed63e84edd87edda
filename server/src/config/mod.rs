//! Configuration: the user's words in TOML (`raw`), then the validated plan (`resolve`) that the rest sees.
//!
//! Every error names file, line and key and says what was expected. No error repeats the text of a line, nor a value
//! that may hold a password: `secret` decides.

mod endpoint;
mod interpolate;
mod locate;
mod raw;
mod resolve;
mod rules;
mod secret;
#[cfg(test)]
mod tests;
mod units;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use trem_endpoints::kind::{self, Configured};
use trem_engine::budget::Budget;
use trem_engine::task::TaskPlan;
use trem_transforms::RuleList;

pub use locate::Problem;

/// A configuration file, validated.
#[derive(Debug)]
pub struct Config {
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

/// Everything that is wrong with a configuration.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Reads and validates a file, with variables from the process's environment.
pub fn load(file: &Path) -> Result<Config, Problems> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Problems(vec![Problem::of_file(file, format!("cannot read the file: {e}"))]))?;
    parse(file, &text, &|name| std::env::var(name).ok())
}

/// Validates a text; `env` looks variables up.
pub fn parse(file: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    let locator = locate::Locator::new(file, text).map_err(|p| Problems(vec![p]))?;
    let raw: raw::File = toml::from_str(text).map_err(|e| Problems(vec![locator.of_toml(&e)]))?;
    resolve::resolve(&raw, &locator, env)
}
