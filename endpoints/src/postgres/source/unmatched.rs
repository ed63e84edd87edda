//! What a selection names and does not get: told for what it is.

use tokio_postgres::Client;
use trem_engine::ports::{Finding, Severity};
use trem_engine::schema::TableId;
use trem_engine::task::{Glob, Pattern, Selection, TableRule};
use trem_engine::{Remedy, Result};

use crate::postgres::row::get;
use crate::postgres::{quote, sqlstate};

/// Things that a message names one by one.
const MOST_NAMED: usize = 3;

/// Something that has a name at the source.
struct Relation {
    id: TableId,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    Partition,
    Unlogged,
    Temporary,
    Foreign,
    View,
    Sequence,
    Index,
    Type,
    System,
}

impl Kind {
    /// What it is, to stand behind its name.
    fn says(self) -> &'static str {
        match self {
            Self::Table => "is a table",
            Self::Partition => {
                "is a partition: its rows come with its partitioned table, and by itself it is taken only where a \
                 pattern names it exactly"
            }
            Self::Unlogged => "is an unlogged table: its changes are in no log",
            Self::Temporary => "is a temporary table, which its own session alone can read",
            Self::Foreign => "is a foreign table: its changes are in no log of this server",
            Self::View => "is a view, which has no rows of its own",
            Self::Sequence => "is a sequence, whose values are not replicated",
            Self::Index => "is an index",
            Self::Type => "is a composite type",
            Self::System => "belongs to the server or to trem itself",
        }
    }

    fn remedy(self, id: &TableId) -> Remedy {
        let leave = "take it out of `include` in [[tables]], or `exclude` it";
        match self {
            Self::Unlogged => Remedy::Sql(format!("ALTER TABLE {} SET LOGGED", quote::table(id))).or(leave),
            Self::Foreign => Remedy::from("replicate it from its own server").or(leave),
            Self::View => Remedy::from("select the tables it reads from").or(leave),
            _ => leave.into(),
        }
    }
}

/// What keeps patterns from what they name, and what a wildcard passes over that looks like a table.
pub(super) async fn findings(client: &Client, want: &Selection, taken: &[TableId]) -> Result<Vec<Finding>> {
    let all = relations(client).await?;
    let mut found = Vec::new();
    for rule in &want.rules {
        for pattern in rule.include.iter().filter(|pattern| !taken.iter().any(|id| pattern.matches(id))) {
            let (message, remedy) = why(pattern, rule, &all);
            let subject = format!("tables.include `{pattern}`");
            found.push(Finding { severity: Severity::Error, subject, message, remedy: Some(remedy) });
        }
    }
    let named = |id: &TableId| want.rules.iter().flat_map(|r| &r.include).any(|g| g.exact().as_ref() == Some(id));
    let passed = |r: &&Relation| matches!(r.kind, Kind::Unlogged | Kind::Foreign) && want.takes(&r.id) && !named(&r.id);
    found.extend(all.iter().filter(passed).map(|r| Finding {
        severity: Severity::Warning,
        subject: r.id.to_string(),
        message: format!("{}: it is left out", r.kind.says()),
        remedy: Some(r.kind.remedy(&r.id)),
    }));
    Ok(found)
}

async fn relations(client: &Client) -> Result<Vec<Relation>> {
    let sql = "SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relispartition, \
                 n.nspname ~ '^pg_' OR n.nspname IN ('information_schema', 'trem') \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind <> 't' AND n.nspname <> 'pg_toast' ORDER BY 1, 2";
    let one = |row: &tokio_postgres::Row| {
        let (kind, persistence): (&str, &str) = (get(row, 2)?, get(row, 3)?);
        let kind = match (kind, persistence) {
            (_, "t") => Kind::Temporary,
            _ if get::<bool>(row, 5)? => Kind::System,
            ("r" | "p", "u") => Kind::Unlogged,
            ("r" | "p", _) if get::<bool>(row, 4)? => Kind::Partition,
            ("r" | "p", _) => Kind::Table,
            ("f", _) => Kind::Foreign,
            ("v" | "m", _) => Kind::View,
            ("S", _) => Kind::Sequence,
            ("i" | "I", _) => Kind::Index,
            _ => Kind::Type,
        };
        Ok(Relation { id: TableId::new(get::<String>(row, 0)?, get::<String>(row, 1)?), kind })
    };
    client.query(sql, &[]).await.map_err(sqlstate::error)?.iter().map(one).collect()
}

/// Why a pattern gets nothing, and what to do.
fn why(pattern: &Pattern, rule: &TableRule, all: &[Relation]) -> (String, Remedy) {
    let covered: Vec<&Relation> = all.iter().filter(|r| pattern.matches(&r.id)).collect();
    let exact = pattern.exact().is_some();
    match covered[..] {
        [] => nothing(pattern, all),
        _ if covered.iter().any(|r| r.kind == Kind::Table && rule.exclude.iter().any(|g| g.matches(&r.id))) => {
            let what = if exact { "`exclude` takes it out again" } else { "`exclude` takes out all that it covers" };
            (what.to_owned(), "correct one of the two in [[tables]]".into())
        }
        [only] if exact => (format!("it {}", only.kind.says()), only.kind.remedy(&only.id)),
        _ => {
            let told = covered.iter().take(MOST_NAMED).map(|r| format!("{} {}", r.id, r.kind.says()));
            let mut told = told.collect::<Vec<_>>().join("; ");
            if covered.len() > MOST_NAMED {
                told.push_str(&format!("; and {} more", covered.len() - MOST_NAMED));
            }
            (format!("it covers no table that can be replicated: {told}"), "correct it in [[tables]]".into())
        }
    }
}

/// Of a pattern that covers nothing at all.
fn nothing(pattern: &Pattern, all: &[Relation]) -> (String, Remedy) {
    let what =
        if pattern.exact().is_some() { "the source has no such table" } else { "it matches no table of the source" };
    let plain = |text: &str| text.replace('"', "").to_lowercase();
    let alike = match pattern {
        Pattern::Glob(glob) => Glob::parse(&plain(&glob.to_string())).ok(),
        Pattern::Regex(_) => None,
    };
    let lower = |id: &TableId| TableId::new(id.schema.to_lowercase(), id.table.to_lowercase());
    let near = all.iter().find(|r| r.kind == Kind::Table && alike.as_ref().is_some_and(|g| g.matches(&lower(&r.id))));
    let remedy = match near {
        Some(near) => format!("names are case-sensitive and written without quotes: the source has {}", near.id),
        None => "correct it in [[tables]]; names are case-sensitive and written without quotes".to_owned(),
    };
    (what.to_owned(), remedy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pattern: &str, exclude: &str) -> (String, String) {
        let relation = |name: &str, kind| Relation { id: TableId::new("s", name), kind };
        let all = [relation("Big", Kind::Table), relation("v", Kind::View), relation("light", Kind::Unlogged)];
        let glob = |text: &str| Pattern::glob(text).expect("a pattern");
        let rule = TableRule { include: Vec::new(), exclude: vec![glob(exclude)] };
        let (message, remedy) = why(&glob(pattern), &rule, &all);
        (message, remedy.to_string())
    }

    #[test]
    fn each_is_told_for_what_it_is() {
        assert!(told("s.v", "x.x").0.starts_with("it is a view"));
        let (message, remedy) = told("s.light", "x.x");
        assert!(message.contains("unlogged") && remedy.contains("SET LOGGED"), "{message} {remedy}");
        assert_eq!(told("s.Big", "s.*").0, "`exclude` takes it out again");
        assert!(told("s.l*", "x.x").0.contains("no table that can be replicated: s.light is an unlogged table"));
        for pattern in ["s.big", "s.\"Big\"", "S.BIG"] {
            let (message, remedy) = told(pattern, "x.x");
            assert!(message == "the source has no such table" && remedy.contains("has s.Big"), "{remedy}");
        }
        let (message, remedy) = told("other.*", "x.x");
        assert!(message == "it matches no table of the source" && !remedy.contains("s.Big"), "{remedy}");
    }
}
