//! One error type for the whole of trem, with a class that says what may be done about it.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::remedy::Remedy;
use crate::schema::TableId;
use crate::side::Side;

/// What may be done about an error. The runner acts on this and on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// It may heal by itself (connection lost, server restarting, disk full): retried with backoff from the durable
    /// checkpoint.
    Transient,
    /// Another session holds a lock for too long: as transient, but the table that it is of waits alone.
    Locked,
    /// Nothing is wrong: what was being done begins anew, at once and in another way. Who says so sees to it that it is
    /// said once.
    Again,
    /// The operator must change a setting, a privilege or a table before it can work; nothing was touched.
    Refused,
    /// Resuming would lose or double rows (another history, a log that was not retained): stopped for good.
    Lineage,
    /// One table cannot go on (a value the target's table does not take, a target table that is gone): it is
    /// suspended, the others go on.
    Table,
    /// Another process has taken the task over.
    Fenced,
    /// Anything else, the unknown included: the task stops loudly.
    Fatal,
}

/// Shorthand for results of this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What happened, to which table, and what to do. Never holds a secret.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    class: Class,
    message: String,
    at: Option<Side>,
    table: Option<(Side, TableId)>,
    /// Whichever table it happened at, it is the whole task's.
    of_task: bool,
    remedy: Option<Remedy>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `class` that says what happened.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            class,
            message: message.into(),
            at: None,
            table: None,
            of_task: false,
            remedy: None,
            cause: None,
        }))
    }

    /// May heal by itself.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(Class::Transient, message)
    }

    /// Refused before anything was touched.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Class::Refused, message)
    }

    /// Resuming would lose or double rows.
    pub fn lineage(message: impl Into<String>) -> Self {
        Self::new(Class::Lineage, message)
    }

    /// Stops the task.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(Class::Fatal, message)
    }

    /// Names the table of the source it happened to, unless a table is named already.
    pub fn table(self, table: &TableId) -> Self {
        self.name(Side::Source, table)
    }

    /// Names the table of the target it happened to, unless a table is named already.
    pub fn target_table(self, table: &TableId) -> Self {
        self.name(Side::Target, table)
    }

    /// Makes it the matter of this table of the source, whichever was named.
    pub fn instead(mut self, table: &TableId) -> Self {
        if let Some((_, named)) = self.0.table.replace((Side::Source, table.clone())) {
            self = self.context(named);
        }
        self
    }

    fn name(mut self, side: Side, table: &TableId) -> Self {
        if !self.0.of_task {
            self.0.table.get_or_insert_with(|| (side, table.clone()));
        }
        self
    }

    /// Makes it the matter of the task as a whole, whichever table it happens to be met at.
    pub fn of_task(mut self) -> Self {
        (self.0.of_task, self.0.table) = (true, None);
        self
    }

    /// Says at which end it happened, which is where the statements of its remedy are for.
    pub fn at(mut self, side: Side) -> Self {
        let side = *self.0.at.get_or_insert(side);
        self.0.remedy = self.0.remedy.map(|remedy| remedy.at(side));
        self
    }

    /// Says what the operator should do.
    pub fn remedy(mut self, remedy: impl Into<Remedy>) -> Self {
        let remedy = remedy.into();
        self.0.remedy = Some(match self.0.at {
            Some(side) => remedy.at(side),
            None => remedy,
        });
        self
    }

    /// Keeps the error underneath.
    pub fn cause(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Puts what was being done in front of the message.
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.0.message = format!("{doing}: {}", self.0.message);
        self
    }

    /// Makes what is refused of one table a matter of that table alone.
    pub fn of_table(mut self) -> Self {
        if self.0.class == Class::Refused && self.0.table.is_some() {
            self.0.class = Class::Table;
        }
        self
    }

    /// Makes what might heal by itself something that is told at once.
    pub fn refuse(mut self) -> Self {
        self.0.class = Class::Refused;
        self
    }

    /// The class.
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// The table it happened to, if it happened to one.
    pub fn table_id(&self) -> Option<&TableId> {
        self.0.table.as_ref().map(|(_, table)| table)
    }

    /// The end that this table is at.
    pub fn side(&self) -> Option<Side> {
        self.0.table.as_ref().map(|(side, _)| *side)
    }

    /// What the operator should do, if that is known.
    pub fn advice(&self) -> Option<&Remedy> {
        self.0.remedy.as_ref()
    }

    /// What brings a table back that is suspended because of this.
    pub fn way_back(&self, table: &TableId) -> Remedy {
        self.advice().cloned().unwrap_or_else(|| "mend this".into()).then_reload(table)
    }

    /// What happened, at which end, and what lay underneath, without table and remedy.
    pub fn reason(&self) -> String {
        let mut text = self.0.at.map_or_else(String::new, |side| format!("at the {side}: "));
        text.push_str(&self.0.message);
        let mut cause: Option<&(dyn StdError + 'static)> = self.0.cause.as_deref().map(|c| c as _);
        while let Some(c) = cause {
            text.push_str(": ");
            text.push_str(&c.to_string());
            cause = c.source();
        }
        text
    }

    /// What happened, without table, remedy or cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((_, table)) = &self.0.table {
            write!(f, "{table}: ")?;
        }
        f.write_str(&self.reason())?;
        if let Some(remedy) = &self.0.remedy {
            write!(f, " (remedy: {remedy})")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|c| c as _)
    }
}
