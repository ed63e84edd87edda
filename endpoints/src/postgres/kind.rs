//! PostgreSQL among the kinds of endpoint: its keys in the configuration, and what it names after a task.

use std::collections::BTreeMap;
use std::sync::Arc;

use trem_engine::ports::{Source, Target};
use trem_engine::types::Dialect;

use super::config::PgConfig;
use super::source::{LONGEST_NAME, object_name};
use super::types::DIALECT;
use super::{PostgresSource, PostgresTarget};
use crate::kind::{Configured, Key, Kind, Objects, Wrong};

/// The kind.
#[derive(Debug)]
pub struct Postgres;

impl Kind for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn keys(&self) -> &'static [Key] {
        const URL: &str = "a URL such as \"postgres://user:password@host:port/database\"";
        &[Key { name: "url", expected: URL, required: true }]
    }

    fn configure(&self, values: &BTreeMap<&'static str, String>) -> Result<Arc<dyn Configured>, Vec<Wrong>> {
        let url = values.get("url").map_or("", String::as_str);
        match PgConfig::parse(url) {
            Ok(config) => Ok(Arc::new(config)),
            Err(e) => Err(vec![Wrong { key: "url", message: e.to_string() }]),
        }
    }
}

impl Configured for PgConfig {
    fn kind(&self) -> &'static str {
        Postgres.name()
    }

    fn dialect(&self) -> Option<Dialect> {
        Some(DIALECT)
    }

    fn describe(&self) -> Option<String> {
        Some(self.describe())
    }

    fn database(&self) -> Option<String> {
        Some(format!("{}/{}", self.server(), self.database))
    }

    fn check_task_name(&self, task: &str) -> Result<(), String> {
        if object_name(task).len() <= LONGEST_NAME {
            return Ok(());
        }
        let most = LONGEST_NAME - object_name("").len();
        Err(format!("the name of a task has 1 to {most} characters, because its slot is named after it"))
    }

    fn objects(&self, task: &str) -> Option<Objects> {
        Some(Objects {
            // A publication belongs to a database, a slot to all databases of its server.
            place: self.server(),
            what: "slot and publication",
            name: object_name(task),
            rule: "the task's name in lower case, characters outside a-z, 0-9 and _ replaced by _",
        })
    }

    fn source(&self, task: &str) -> Option<Arc<dyn Source>> {
        Some(Arc::new(PostgresSource::new(self.clone(), task)))
    }

    fn target(&self, task: &str) -> Option<Arc<dyn Target>> {
        Some(Arc::new(PostgresTarget::new(self.clone(), task)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_share_what_they_would_share_at_the_server() {
        let objects = |url: &str, task: &str| PgConfig::parse(url).expect("a URL").objects(task);
        let shop = objects("postgres://u@h/a", "Shop");
        assert_eq!(shop.as_ref().map(ToString::to_string).as_deref(), Some("slot and publication trem_shop"));
        assert_eq!(shop, objects("postgres://u@h/b", "shop"));
        assert_ne!(shop, objects("postgres://u@i/a", "shop"));
        assert_ne!(shop, objects("postgres://u@h/a", "shops"));
    }

    #[test]
    fn names_that_the_server_would_cut_off_are_refused() {
        let config = PgConfig::parse("postgres://u@h/d").expect("a URL");
        assert_eq!(config.check_task_name(&"a".repeat(58)), Ok(()));
        let refused = config.check_task_name(&"a".repeat(59)).expect_err("too long");
        assert!(refused.starts_with("the name of a task has 1 to 58 characters"), "{refused}");
    }
}
