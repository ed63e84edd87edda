//! What a statement of the log may be about. There is no grammar here: words, as far as it takes to miss nothing.

use trem_engine::schema::TableId;

/// What a statement does, as far as a follower has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// The transaction ends.
    End,
    /// Nothing that is replicated.
    Marker,
    /// What came since a savepoint is taken back.
    RollbackTo,
    /// Of a distributed transaction.
    Xa,
    /// A table is emptied.
    Truncate(TableId),
    /// Rows of tables that it names stay what they are, though they may come with other columns from now on.
    Shape,
    /// Any other.
    Other,
}

/// The words of a statement, in order: names as they are stored, everything else in capitals. Strings and comments are
/// no words.
pub(super) fn words(sql: &str) -> Vec<Word> {
    let (mut words, mut chars) = (Vec::new(), sql.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '`' => words.push(Word::Name(quoted(&mut chars, '`'))),
            '\'' | '"' => drop(quoted(&mut chars, c)),
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '-' if chars.next_if_eq(&'-').is_some() => while chars.next_if(|c| *c != '\n').is_some() {},
            // What stands in a comment for some versions only is part of the statement.
            '/' if chars.next_if_eq(&'*').is_some() && chars.peek() != Some(&'!') => {
                let mut last = ' ';
                for c in chars.by_ref() {
                    if (last, c) == ('*', '/') {
                        break;
                    }
                    last = c;
                }
            }
            '.' => words.push(Word::Dot),
            c if is_part(c) => {
                let mut word = c.to_string();
                while let Some(c) = chars.next_if(|c| is_part(*c)) {
                    word.push(c);
                }
                words.push(Word::Plain(word));
            }
            _ => {}
        }
    }
    words
}

/// A word of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// In quotes.
    Name(String),
    /// Without: a name, or a word of the language.
    Plain(String),
    Dot,
}

impl Word {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Plain(plain) if plain.eq_ignore_ascii_case(word))
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) | Self::Plain(name) => Some(name),
            Self::Dot => None,
        }
    }
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, quote: char) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quote != '`' => drop(chars.next()),
            c if c == quote => match chars.next_if_eq(&quote) {
                Some(c) => text.push(c),
                None => break,
            },
            c => text.push(c),
        }
    }
    text
}

impl Statement {
    /// Of these words, run in `schema`.
    pub(super) fn of(words: &[Word], schema: &str) -> Self {
        let starts = |with: &[&str]| with.len() <= words.len() && with.iter().zip(words).all(|(word, of)| of.is(word));
        match () {
            () if starts(&["ROLLBACK", "TO"]) => Self::RollbackTo,
            () if starts(&["COMMIT"]) || starts(&["ROLLBACK"]) => Self::End,
            () if starts(&["BEGIN"]) || starts(&["SAVEPOINT"]) || starts(&["RELEASE"]) => Self::Marker,
            () if starts(&["XA"]) => Self::Xa,
            () if starts(&["TRUNCATE"]) => {
                let name = words.iter().skip(if starts(&["TRUNCATE", "TABLE"]) { 2 } else { 1 });
                let parts: Vec<&Word> = name.take(3).collect();
                match parts[..] {
                    [schema, Word::Dot, table] => truncate(schema.name(), table.name()),
                    [table, ..] => truncate(Some(schema), table.name()),
                    [] => Self::Other,
                }
            }
            () if starts(&["ALTER"]) && !moves(words) => Self::Shape,
            () if starts(&["CREATE"]) && !words.iter().any(|word| word.is("REPLACE")) => Self::Shape,
            () if starts(&["DROP"]) && words.get(1).is_some_and(|word| !word.is("TABLE") && !word.is("DATABASE")) => {
                Self::Shape
            }
            () if HARMLESS.iter().any(|word| starts(&[word])) => Self::Shape,
            () => Self::Other,
        }
    }
}

/// Statements that change nothing of tables which they name.
const HARMLESS: [&str; 7] = ["GRANT", "REVOKE", "ANALYZE", "OPTIMIZE", "CHECK", "REPAIR", "FLUSH"];

/// Words of an ALTER that does more.
const MOVING: [&str; 9] =
    ["RENAME", "EXCHANGE", "TRUNCATE", "DISCARD", "IMPORT", "PARTITION", "DROP", "CONVERT", "VERSIONING"];

/// Whether an ALTER may do more than to change what a table's rows look like: they come or go, or are another table's.
fn moves(words: &[Word]) -> bool {
    words.iter().any(|word| MOVING.iter().any(|moving| word.is(moving)))
}

fn truncate(schema: Option<&str>, table: Option<&str>) -> Statement {
    schema.zip(table).map_or(Statement::Other, |(schema, table)| Statement::Truncate(TableId::new(schema, table)))
}

/// Whether a statement that was run in `schema` has the name of this table in it.
pub(super) fn mentions(words: &[Word], schema: &str, table: &TableId) -> bool {
    let same = |word: &Word, name: &str| word.name().is_some_and(|word| word.to_lowercase() == name.to_lowercase());
    let named = words.iter().any(|word| same(word, &table.table));
    named
        && (schema.to_lowercase() == table.schema.to_lowercase() || words.iter().any(|word| same(word, &table.schema)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_apart() {
        let of = |sql: &str| Statement::of(&words(sql), "shop");
        let truncate = |schema: &str, table: &str| Statement::Truncate(TableId::new(schema, table));
        assert_eq!(of("/* a comment */ truncate `t``x'y`"), truncate("shop", "t`x'y"));
        assert_eq!(of("TRUNCATE TABLE `a.b`.`t` /* generated by server */"), truncate("a.b", "t"));
        assert_eq!(of("truncate table other.t -- why"), truncate("other", "t"));
        assert_eq!(of("COMMIT"), Statement::End);
        assert_eq!(of("ROLLBACK TO `s`"), Statement::RollbackTo);
        assert_eq!(of("SAVEPOINT `s`"), Statement::Marker);
        assert_eq!(of("XA COMMIT X'61',X'',1"), Statement::Xa);
        assert_eq!(of("ALTER TABLE t ADD c int"), Statement::Shape);
        assert_eq!(of("CREATE INDEX i ON t (c)"), Statement::Shape);
        assert_eq!(of("DROP INDEX i ON t"), Statement::Shape);
        for other in [
            "ALTER TABLE t RENAME TO u",
            "ALTER TABLE p EXCHANGE PARTITION x WITH TABLE t",
            "ALTER TABLE t DROP PARTITION x",
            "CREATE OR REPLACE TABLE t (a int)",
            "DROP TABLE t",
            "RENAME TABLE t TO u",
            "UPDATE t SET a = 1",
            "INSERT INTO t SELECT 1",
        ] {
            assert_eq!(of(other), Statement::Other, "{other}");
        }
    }

    #[test]
    fn a_table_is_found_in_a_statement() {
        let found = |sql: &str, schema: &str| mentions(&words(sql), schema, &TableId::new("shop", "Orders"));
        assert!(found("RENAME TABLE a TO b, `orders` TO c", "shop"));
        assert!(found("/*!40000 ALTER TABLE shop.Orders ADD x int */", "other"));
        assert!(!found("ALTER TABLE orders ADD x int", "other"));
        assert!(!found("ALTER TABLE t COMMENT 'Orders \\' Orders' -- Orders", "shop"));
        assert!(!found("/* Orders */ ALTER TABLE t ADD x int", "shop"));
    }
}
