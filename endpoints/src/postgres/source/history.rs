//! What the catalogue says of a table's past, and what of it could have changed values that the log does not have.
//!
//! Columns, parts and types are known by the server's numbers, whatever they are called. A statement that rewrites a
//! table gives its file a new number, and where it changes values (`ALTER TABLE ... TYPE ... USING`,
//! `ADD COLUMN ... DEFAULT random()`) it writes new versions of rows in `pg_attribute`; `TRUNCATE`, which is in the
//! log, `VACUUM FULL` and `CLUSTER` do only the former.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trem_engine::schema::{self, TableSchema};

/// The catalogue's word on one table, as one snapshot of it has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct History {
    /// In table order, those that are computed included.
    pub(super) columns: Vec<ColumnPast>,
    /// How many columns have been dropped.
    pub(super) dropped: i64,
    /// The table itself and all that is beneath it, by their numbers.
    pub(super) parts: BTreeMap<u32, Part>,
    /// The user's types that its columns are made of, by their numbers.
    pub(super) types: BTreeMap<u32, TypePast>,
    /// The number of its membership in the task's publication.
    pub(super) member: Option<u32>,
}

/// A column, known by its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ColumnPast {
    pub(super) number: i16,
    pub(super) name: String,
    /// The transaction that wrote its description.
    pub(super) written: String,
    /// Rows from before it was added get its value from the description.
    pub(super) missing: bool,
    /// What tells its expression apart, if it is computed.
    pub(super) generated: Option<String>,
}

/// A table that stores rows, or is divided into others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) name: String,
    /// The table that it is a partition of, and the transaction that made it one.
    pub(super) parent: u32,
    pub(super) joined: String,
    /// It was made as a partition: whatever is in it, the log has told.
    pub(super) born: bool,
    /// `pg_class.relkind`.
    pub(super) kind: String,
    /// The file of its rows, and the transaction that wrote the description of the table.
    pub(super) file: u32,
    pub(super) written: String,
}

impl Part {
    fn divided(&self) -> bool {
        self.kind == "p"
    }
}

/// A type, known by its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TypePast {
    pub(super) name: String,
    /// Only more of them may come.
    pub(super) labels: BTreeMap<u32, String>,
    /// What it is made of otherwise.
    pub(super) made_of: Vec<String>,
}

/// What has become of a table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Values have changed that nothing brings back but the operator's word.
    pub(super) changed: Option<String>,
    /// Rows have gone that the log does not have.
    pub(super) gone: Option<String>,
    /// Parts that have come and may have brought rows along.
    pub(super) attached: Vec<(u32, String)>,
    /// Parts whose rows are in another file, and the transaction that may have done it.
    pub(super) emptied: Vec<(u32, String)>,
    /// Columns that the log has still to tell of.
    pub(super) pending: bool,
}

impl History {
    /// What a record says; `None` where it says nothing, or what this version does not understand.
    pub(super) fn of(table: &TableSchema) -> Option<Self> {
        table.history.text().and_then(|text| serde_json::from_str(text).ok())
    }

    /// For the record.
    pub(super) fn stored(&self) -> schema::History {
        serde_json::to_string(self).map(schema::History::of).unwrap_or_default()
    }

    /// The number of a column that is there.
    pub(super) fn column(&self, name: &str) -> Option<i16> {
        self.columns.iter().find(|c| c.name == name).map(|c| c.number)
    }

    /// What has happened since.
    pub(super) fn until(&self, now: &Self) -> Difference {
        let changed = self.columns_until(now).or_else(|| self.rewritten(now)).or_else(|| self.types_until(now));
        let known = |c: &ColumnPast| c.generated.is_some() || self.columns.iter().any(|then| then.number == c.number);
        Difference {
            changed,
            gone: self.parts_gone(now),
            attached: self.attached(now),
            emptied: self.emptied(now),
            pending: !now.columns.iter().all(known),
        }
    }

    fn columns_until(&self, now: &Self) -> Option<String> {
        self.columns.iter().find_map(|then| {
            let name = &then.name;
            match now.columns.iter().find(|c| c.number == then.number) {
                None if now.columns.iter().any(|c| c.name == *name) => {
                    Some(format!("column {name} was dropped and added again"))
                }
                None if then.generated.is_some() => None,
                None => Some(format!("column {name} was dropped")),
                Some(c) if c.name != *name => Some(format!("column {name} was renamed to {}", c.name)),
                Some(c) if c.generated.is_none() && then.generated.is_some() => {
                    Some(format!("column {name} is not computed any more, and its values are not in the log"))
                }
                Some(c) if c.generated != then.generated => Some(format!("column {name} is computed in another way")),
                Some(_) => None,
            }
        })
    }

    /// Whether a statement that changes columns has rewritten the table.
    fn rewritten(&self, now: &Self) -> Option<String> {
        // Any rewrite, VACUUM FULL too, moves such values into the rows and changes the description so.
        let filled = |then: &ColumnPast, c: &ColumnPast| then.written != c.written && (c.missing || !then.missing);
        let described = |c: &ColumnPast| match self.columns.iter().find(|then| then.number == c.number) {
            Some(then) => filled(then, c),
            // A column added by a statement that rewrites has its values in the rows. The target computes its own.
            None => !c.missing && c.generated.is_none(),
        };
        let rewritten = !self.same_files(now) && now.columns.iter().any(described);
        rewritten.then(|| {
            "a statement that changed its columns has rewritten the table, and the new values are not in the log".into()
        })
    }

    /// Whether all rows that were there are where they were, or gone with their part.
    pub(super) fn same_files(&self, now: &Self) -> bool {
        self.parts.iter().all(|(part, then)| now.parts.get(part).is_none_or(|p| p.file == then.file))
    }

    fn types_until(&self, now: &Self) -> Option<String> {
        self.types.iter().find_map(|(number, then)| {
            let now = now.types.get(number)?;
            let name = &then.name;
            if let Some((_, label)) = then.labels.iter().find(|(label, text)| now.labels.get(label) != Some(text)) {
                return Some(format!("label {label} of type {name} was renamed: rows from before have the new one"));
            }
            (then.made_of != now.made_of).then(|| format!("type {name} was changed, and so were values of it"))
        })
    }

    fn parts_gone(&self, now: &Self) -> Option<String> {
        self.parts.iter().find_map(|(part, then)| {
            let stayed = now.parts.get(part).is_some_and(|p| (p.parent, &p.joined) == (then.parent, &then.joined));
            (!stayed).then(|| format!("partition {} was detached or dropped, which is not in the log", then.name))
        })
    }

    /// A part is nothing to think of if it was made as one of a table that is known, or was made so itself.
    fn attached(&self, now: &Self) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        for (number, part) in now.parts.iter().filter(|(number, p)| !self.parts.contains_key(number) && !p.divided()) {
            let mut above = (*number, part);
            let brought = loop {
                if self.parts.contains_key(&above.0) {
                    break false;
                }
                // Rows of a foreign table are in no log of this server.
                if !above.1.born || above.1.kind == "f" {
                    break true;
                }
                match now.parts.get_key_value(&above.1.parent) {
                    Some((number, part)) => above = (*number, part),
                    None => break true,
                }
            };
            if brought {
                found.push((*number, part.name.clone()));
            }
        }
        found
    }

    /// Whoever empties the table as a whole empties its parts, and that is in the log.
    fn emptied(&self, now: &Self) -> Vec<(u32, String)> {
        let parts = self.parts.iter().filter(|(_, then)| then.parent != 0);
        let moved = parts.filter_map(|(part, then)| now.parts.get(part).filter(|p| p.file != then.file));
        moved.map(|p| (p.written.parse().unwrap_or(0), p.name.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(number: i16, name: &str, written: u32, missing: bool) -> ColumnPast {
        ColumnPast { number, name: name.to_owned(), written: written.to_string(), missing, generated: None }
    }

    fn part(parent: u32, file: u32) -> Part {
        let (name, joined, written) = (format!("p{file}"), "5".to_owned(), "6".to_owned());
        Part { name, parent, joined, born: false, kind: "r".to_owned(), file, written }
    }

    fn history(file: u32, columns: &[(u32, bool)]) -> History {
        let columns = columns.iter().zip(1..).map(|((x, missing), n)| column(n, &format!("c{n}"), *x, *missing));
        History { columns: columns.collect(), parts: BTreeMap::from([(7, part(0, file))]), ..History::default() }
    }

    /// Of a divided table 7 with the leaves 8 and 9.
    fn divided() -> History {
        let mut table = history(0, &[(5, false)]);
        table.parts.insert(7, Part { kind: "p".to_owned(), ..part(0, 0) });
        table.parts.extend([(8, part(7, 80)), (9, part(7, 90))]);
        table
    }

    fn changed(then: &History, change: impl FnOnce(&mut History)) -> Difference {
        let mut now = then.clone();
        change(&mut now);
        then.until(&now)
    }

    #[test]
    fn only_a_rewrite_that_changes_columns_counts() {
        let then = history(1, &[(5, false), (6, true)]);
        let to = |file, columns: &[(u32, bool)]| then.until(&history(file, columns)).changed.is_some();
        assert!(!to(1, &[(5, false), (6, true)]));
        assert!(!to(2, &[(5, false), (6, true)]), "TRUNCATE");
        assert!(!to(2, &[(5, false), (9, false)]), "VACUUM FULL");
        assert!(!to(1, &[(5, false), (6, true), (9, true)]), "ADD COLUMN");
        assert!(!to(2, &[(5, false), (6, true), (9, true)]), "TRUNCATE, then ADD COLUMN");
        assert!(!to(1, &[(8, false), (6, true)]), "SET DEFAULT");
        assert!(to(2, &[(9, false), (6, true)]), "TYPE ... USING");
        assert!(to(2, &[(5, false), (6, true), (9, false)]), "a volatile default");
        let mut now = history(2, &[(5, false), (6, true), (9, false)]);
        now.columns[2].generated = Some("1".to_owned());
        assert_eq!(then.until(&now).changed, None, "a stored generated column");
    }

    #[test]
    fn columns_are_known_by_their_numbers() {
        let then = history(1, &[(5, false), (6, false)]);
        let reason = |change: fn(&mut History)| changed(&then, change).changed.unwrap_or_default();
        assert!(reason(|h| h.columns[1] = column(3, "c2", 9, true)).contains("c2 was dropped and added again"));
        assert!(reason(|h| drop(h.columns.pop())).contains("c2 was dropped"));
        assert!(reason(|h| h.columns[1].name = "x".to_owned()).contains("c2 was renamed to x"));
        let mut then = then;
        then.columns[1].generated = Some("1".to_owned());
        assert!(changed(&then, |h| h.columns[1].generated = None).changed.is_some());
        assert!(changed(&then, |h| h.columns[1].generated = Some("2".to_owned())).changed.is_some());
        assert_eq!(changed(&then, |h| drop(h.columns.pop())), Difference::default());
        assert!(changed(&then, |h| h.columns.push(column(3, "c3", 9, true))).pending);
    }

    #[test]
    fn types_only_gain_labels() {
        let labels = BTreeMap::from([(1, "a".to_owned()), (2, "b".to_owned())]);
        let ty = TypePast { name: "t".to_owned(), labels, made_of: Vec::new() };
        let then = History { types: BTreeMap::from([(40, ty)]), ..history(1, &[(5, false)]) };
        let more = |h: &mut History| drop(h.types.get_mut(&40).map(|t| t.labels.insert(3, "c".to_owned())));
        assert_eq!(changed(&then, more), Difference::default());
        let renamed = |h: &mut History| drop(h.types.get_mut(&40).map(|t| t.labels.insert(2, "c".to_owned())));
        assert!(changed(&then, renamed).changed.is_some_and(|r| r.contains("label b of type t")));
        let other = |h: &mut History| h.types.values_mut().for_each(|t| t.made_of.push("1 x".to_owned()));
        assert!(changed(&then, other).changed.is_some());
    }

    #[test]
    fn parts_come_and_go() {
        let then = divided();
        assert!(changed(&then, |h| drop(h.parts.remove(&9))).gone.is_some_and(|r| r.contains("p90 was detached")));
        let again = |h: &mut History| h.parts.values_mut().for_each(|p| p.joined = "77".to_owned());
        assert!(changed(&then, again).gone.is_some(), "detached and attached again");
        let file = |h: &mut History| drop(h.parts.insert(9, Part { file: 91, ..h.parts[&9].clone() }));
        assert_eq!(changed(&then, file).emptied, [(6, "p90".to_owned())]);
        assert_eq!(changed(&then, |h| drop(h.parts.insert(10, part(7, 100)))).attached.len(), 1);
        let born = |parent| Part { born: true, ..part(parent, 100) };
        assert_eq!(changed(&then, |h| drop(h.parts.insert(10, born(7)))), Difference::default());
        let under = |inner: Part| {
            changed(&then, |h| h.parts.extend([(11, Part { kind: "p".to_owned(), ..inner }), (10, born(11))]))
        };
        assert_eq!(under(born(7)), Difference::default(), "both were made in it");
        assert_eq!(under(part(7, 0)).attached.len(), 1, "the table above was attached with what it had");
    }

    #[test]
    fn a_history_is_read_back() {
        let mut table = super::super::relation::tests::table();
        assert_eq!(History::of(&table), None);
        table.history = divided().stored();
        assert_eq!(History::of(&table), Some(divided()));
        table.history = schema::History::of("of a later version".to_owned());
        assert_eq!(History::of(&table), None);
    }
}
