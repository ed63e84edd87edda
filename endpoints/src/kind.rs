//! What a kind of endpoint is. Whoever configures tasks asks a kind, and need not know any database.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use trem_engine::ports::{Source, Target};
use trem_engine::types::Dialect;

/// A key that an endpoint of some kind has in the configuration, beside `kind`. Its value is a string.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What it takes, to stand behind "expected", such as `a URL such as "postgres://host/database"`.
    pub expected: &'static str,
    /// Whether the endpoint is nothing without it.
    pub required: bool,
}

/// What is wrong with the value of a key. Never repeats the value, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The key.
    pub key: &'static str,
    /// What is wrong, and what was expected.
    pub message: String,
}

/// A kind of endpoint: a database product, or what stands in for one.
pub trait Kind: Send + Sync {
    /// The word that stands for it in the configuration.
    fn name(&self) -> &'static str;

    /// The keys that it has.
    fn keys(&self) -> &'static [Key];

    /// An endpoint with these values of [`Kind::keys`], variables replaced; every required one is there.
    ///
    /// # Errors
    /// Everything that is wrong with the values.
    fn configure(&self, values: &BTreeMap<&'static str, String>) -> Result<Arc<dyn Configured>, Vec<Wrong>>;
}

/// An endpoint as it is configured; nothing is connected yet. `Debug` shows no secret.
pub trait Configured: fmt::Debug + Send + Sync {
    /// The name of its kind.
    fn kind(&self) -> &'static str;

    /// Whose types and statements its database has; `None` where it has none of its own.
    fn dialect(&self) -> Option<Dialect>;

    /// Whom and where, without secrets, for messages; `None` where there is nothing to say.
    fn describe(&self) -> Option<String>;

    /// Where its database is: equal texts of one kind are the same database, as far as a configuration can tell.
    /// `None` is nobody else's.
    fn database(&self) -> Option<String>;

    /// Refuses a name of a task whose source this is.
    ///
    /// # Errors
    /// Says what such a name is like.
    fn check_task_name(&self, task: &str) -> Result<(), String>;

    /// What a task of this name creates here as its source, to be removed when the task is dropped.
    fn objects(&self, task: &str) -> Option<Objects>;

    /// The source of a task; `None` if an endpoint of this kind has no rows to give.
    fn source(&self, task: &str) -> Option<Arc<dyn Source>>;

    /// The target of a task; `None` if an endpoint of this kind takes no rows.
    fn target(&self, task: &str) -> Option<Arc<dyn Target>>;
}

/// Whether both are one database, as far as the configuration can tell.
pub fn same_database(a: &dyn Configured, b: &dyn Configured) -> bool {
    a.kind() == b.kind() && a.database().is_some_and(|place| b.database() == Some(place))
}

/// What a task creates at its source. Two tasks for which this is equal would take each other's for their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    /// Where there can be only one of the name: a server, say.
    pub place: String,
    /// What they are, such as `slot and publication`.
    pub what: &'static str,
    /// Their name.
    pub name: String,
    /// How the name comes from the task's.
    pub rule: &'static str,
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.name)
    }
}
