//! MySQL and MariaDB among the kinds of endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use trem_engine::ports::{Source, Target};
use trem_engine::types::Dialect;

use super::config::MyConfig;
use super::types::DIALECT;
use super::{MysqlSource, MysqlTarget};
use crate::kind::{Configured, Key, Kind, Objects, Wrong};

/// The kind.
#[derive(Debug)]
pub struct Mysql;

impl Kind for Mysql {
    fn name(&self) -> &'static str {
        "mysql"
    }

    fn keys(&self) -> &'static [Key] {
        const URL: &str = "a URL such as \"mysql://user:password@host:port\"";
        &[Key { name: "url", expected: URL, required: true }]
    }

    fn configure(&self, values: &BTreeMap<&'static str, String>) -> Result<Arc<dyn Configured>, Vec<Wrong>> {
        let url = values.get("url").map_or("", String::as_str);
        match MyConfig::parse(url) {
            Ok(config) => Ok(Arc::new(config)),
            Err(e) => Err(vec![Wrong { key: "url", message: e.to_string() }]),
        }
    }
}

impl Configured for MyConfig {
    fn kind(&self) -> &'static str {
        Mysql.name()
    }

    fn dialect(&self) -> Option<Dialect> {
        Some(DIALECT)
    }

    fn describe(&self) -> Option<String> {
        Some(Self::describe(self))
    }

    fn database(&self) -> Option<String> {
        // A table is named with its database: the server is the whole of it.
        Some(self.server())
    }

    fn check_task_name(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn objects(&self, _: &str) -> Option<Objects> {
        None
    }

    fn source(&self, task: &str) -> Option<Arc<dyn Source>> {
        Some(Arc::new(MysqlSource::new(self.clone(), task)))
    }

    fn target(&self, task: &str) -> Option<Arc<dyn Target>> {
        Some(Arc::new(MysqlTarget::new(self.clone(), task)))
    }
}
