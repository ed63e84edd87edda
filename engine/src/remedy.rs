//! What the operator should do about an error or a finding, in a form that each face can say its own way.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::TableId;
use crate::side::Side;

/// What helps. [`fmt::Display`] says it in plain words, for log lines; a face that knows better says it in its own
/// terms, such as a command with the names of the file and the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// In words.
    Text(String),
    /// A statement to run as it stands, at the end that the remedy belongs to.
    Sql(String),
    /// A statement to run as it stands, at this end.
    SqlAt(Side, String),
    /// Load this table of the target again, from its start.
    Reload(TableId),
    /// Drop the task and start it again: all its tables are loaded anew.
    StartAnew,
    /// One of these.
    Any(Vec<Remedy>),
    /// Each of these, in this order.
    Then(Vec<Remedy>),
}

impl Remedy {
    /// This or `other`.
    pub fn or(self, other: impl Into<Self>) -> Self {
        Self::Any(match self {
            Self::Any(mut all) => {
                all.push(other.into());
                all
            }
            one => vec![one, other.into()],
        })
    }

    /// This, and `next` afterwards.
    pub fn then(self, next: impl Into<Self>) -> Self {
        Self::Then(match self {
            Self::Then(mut all) => {
                all.push(next.into());
                all
            }
            one => vec![one, next.into()],
        })
    }

    /// This, and the table loaded again afterwards, unless this says so itself: what brings a suspended table back. A
    /// target knows it under another name, so any reload becomes one of `table`.
    pub fn then_reload(self, table: &TableId) -> Self {
        if self.reloads() { self.reloading(table) } else { self.then(Self::Reload(table.clone())) }
    }

    fn reloading(self, table: &TableId) -> Self {
        let each = |all: Vec<Self>| all.into_iter().map(|one| one.reloading(table)).collect();
        match self {
            Self::Reload(_) => Self::Reload(table.clone()),
            Self::Any(all) => Self::Any(each(all)),
            Self::Then(all) => Self::Then(each(all)),
            other => other,
        }
    }

    /// The same, its statements for this end unless they are for one already.
    pub fn at(self, side: Side) -> Self {
        let each = |all: Vec<Self>| all.into_iter().map(|one| one.at(side)).collect();
        match self {
            Self::Sql(sql) => Self::SqlAt(side, sql),
            Self::Any(all) => Self::Any(each(all)),
            Self::Then(all) => Self::Then(each(all)),
            other => other,
        }
    }

    fn reloads(&self) -> bool {
        match self {
            Self::Text(_) | Self::Sql(_) | Self::SqlAt(..) => false,
            Self::Reload(_) | Self::StartAnew => true,
            Self::Any(all) | Self::Then(all) => all.iter().any(Self::reloads),
        }
    }

    /// The whole in words, from what `say` makes of each part that is not a combination.
    pub fn words(&self, say: &dyn Fn(&Self) -> String) -> String {
        let joined = |all: &[Self], with: &str| all.iter().map(|r| r.words(say)).collect::<Vec<_>>().join(with);
        let step = |one: &Self| match one {
            // Whichever of them, what comes next comes after it.
            Self::Any(all) => joined(all, ", or "),
            one => one.words(say),
        };
        match self {
            Self::Any(all) => joined(all, "; or "),
            Self::Then(all) => all.iter().map(step).collect::<Vec<_>>().join("; then "),
            one => say(one),
        }
    }

    /// The form in which a target stores it.
    pub fn stored(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| self.to_string())
    }

    /// Reads the stored form. Version 0.1.0 stored words.
    pub fn of_stored(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| text.into())
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(&|part| match part {
            Self::Text(text) => text.clone(),
            Self::Sql(sql) => format!("run `{sql}`"),
            Self::SqlAt(side, sql) => format!("run `{sql}` at the {side}"),
            Self::Reload(_) => "reload the table".to_owned(),
            _ => "drop the task and start it again".to_owned(),
        }))
    }
}

impl From<&str> for Remedy {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Remedy {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reload() -> Remedy {
        Remedy::Reload(TableId::new("a.b", "c"))
    }

    #[test]
    fn combinations_are_said_in_order() {
        let remedy = Remedy::Sql("DELETE FROM t".into()).then("look").then(reload()).or(Remedy::StartAnew).or("wait");
        let said =
            "run `DELETE FROM t`; then look; then reload the table; or drop the task and start it again; or wait";
        assert_eq!(remedy.to_string(), said);
        assert!(matches!(&remedy, Remedy::Any(all) if all.len() == 3));
    }

    #[test]
    fn a_statement_is_for_one_end() {
        let remedy = Remedy::Sql("a".into()).then(Remedy::SqlAt(Side::Source, "b".into()).or(Remedy::Sql("c".into())));
        assert_eq!(
            remedy.at(Side::Target).to_string(),
            "run `a` at the target; then run `b` at the source, or run `c` at the target"
        );
    }

    #[test]
    fn a_reload_is_said_once() {
        let table = TableId::new("a.b", "c");
        let mended = Remedy::from("mend this").then_reload(&table);
        assert_eq!(mended.to_string(), "mend this; then reload the table");
        assert_eq!(mended.clone().then_reload(&table), mended);
        assert_eq!(reload().or("deselect it").then_reload(&table), reload().or("deselect it"));
    }

    #[test]
    fn what_is_stored_reads_back() {
        for remedy in
            [reload(), Remedy::StartAnew, Remedy::Sql("x".into()).at(Side::Target).or("y"), "\"start\"".into()]
        {
            assert_eq!(Remedy::of_stored(&remedy.stored()), remedy);
        }
        assert_eq!(Remedy::of_stored("give it a key, then reload"), "give it a key, then reload".into());
    }

    #[test]
    fn the_way_back_is_a_reload_of_the_table_as_the_source_calls_it() {
        let (source, target) = (TableId::new("public", "a"), TableId::new("dw", "b"));
        let told = Remedy::Reload(target).or("add the column again");
        let wanted = Remedy::Reload(source.clone()).or("add the column again");
        assert_eq!(told.then_reload(&source), wanted);
        assert_eq!(Remedy::from("mend it").then_reload(&source), Remedy::from("mend it").then(Remedy::Reload(source)));
    }
}
