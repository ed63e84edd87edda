//! Rules that are refused before anything is touched.

use trem_tests::World;

const INT: &str = "CREATE TABLE t (id int PRIMARY KEY, v int)";
const TEXT: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";

/// A table, a rule in short, and what is said of it.
const REFUSED: &[(&str, &str, &[&str])] = &[
    (TEXT, "filter: v = 'x'", &["public.t", "leaves out", "REPLICA IDENTITY"]),
    (INT, "filter: nope = 1", &["public.t", "No field named nope"]),
    (INT, "filter: v + 1", &["public.t", "true or false"]),
    (INT, "set id: v + 1", &["key column", "old value"]),
    (INT, "set v: now()", &["rule 1", "now()", "another value each time"]),
    (INT, "set v: sha257('x')", &["sha257()", "did you mean sha256()"]),
    (INT, "set v: interval '1 day'", &["cannot hold"]),
    (INT, "set lost: 1", &["rule 1", "no column", "lost"]),
    (INT, "new v: 1", &["there is a column", "set-value"]),
    (INT, "drop id", &["part of the key"]),
    (INT, "set id: commit_sequence()", &["another one for each change"]),
    (INT, "filter: phase() = 'load'", &["phase() is not of the row"]),
    (TEXT, "rule: column = 'v'; to = 'bool'; on-misfit = 'clamp'", &["no nearest value"]),
    (INT, "rule: column = 'id'; to = 'int16'; on-misfit = 'null'", &["part of the key", "two rows might get one key"]),
    (
        "CREATE TABLE t (id int PRIMARY KEY, v bytea)",
        "rule: column = 'v'; to = 'date'",
        &["no value of type varbinary"],
    ),
    (INT, "rule: column = 'V'; to = 'int64'", &["did you mean", "\"v\""]),
    (
        "CREATE TABLE t (id text PRIMARY KEY, v int)",
        "mask: column = 'id'; mask = 'keep-last'; keep = 2",
        &["part of the key", "keys equal"],
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY, v date)",
        "mask: column = 'v'; mask = 'hash'; salt = 'x'",
        &["no mask hash of type date"],
    ),
    (INT, "mask: column = 'v'; mask = 'fixed'; to = 'x'", &["another value"]),
    ("CREATE TABLE t (id int, v int); ALTER TABLE t REPLICA IDENTITY FULL", "soft: column = 'gone'", &["has no key"]),
    (INT, "soft: column = 'v'", &["there is a column", "\"v\""]),
    (TEXT, "past: prefix = 'h_'", &["whole rows", "REPLICA IDENTITY FULL"]),
    ("CREATE TABLE t (id int PRIMARY KEY, \"ID\" int)", "names: case = 'upper'", &["\"ID\"", "as another column is"]),
];

/// Everything that is wrong with a rule is told before anything is touched.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_first() {
    let mut world = World::one().await;
    for (table, what, says) in REFUSED {
        let (kind, value) = what.split_once(": ").unwrap_or((what, ""));
        let rule = |keys: &str| format!("[[TASK.rules]]\nmatch = \"public.t\"\n{keys}\nvalue = {value:?}\n");
        let inline = |action: &str, keys: &str| {
            let keys = keys.replace("; ", "\n");
            format!("[[TASK.rules]]\nmatch = \"public.t\"\naction = {action:?}\n{keys}\n")
        };
        let column = kind.split(' ').next_back().unwrap_or_default();
        let rules = match kind.split(' ').next().unwrap_or_default() {
            "filter" => format!("[[TASK.tables]]\ninclude = \"public.t\"\nfilter = {value:?}\n"),
            "set" => rule(&format!("action = \"set-value\"\ncolumn = {column:?}")),
            "new" => rule(&format!("action = \"create-column\"\ntype = \"int32\"\ncolumn = {column:?}")),
            "rule" => inline("change-type", value),
            "mask" => inline("set-value", value),
            "soft" => inline("soft-delete", value),
            "past" => inline("history", value),
            "names" => inline("rename-column", value),
            _ => format!("[[TASK.rules]]\nmatch = \"public.t\"\naction = \"drop-column\"\ncolumn = {column:?}\n"),
        };
        world.configure(|c| c.sections = rules);
        world.source.exec(table).await;
        world.trem.command(&["check"]).expect(1).says(says);
        world.trem.until_current().expect(1).says(says);
        assert_eq!(world.target.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'trem'").await, 0, "{what}");
        assert_eq!(world.source.number("SELECT count(*) FROM pg_replication_slots").await, 0, "{what}");
        world.source.exec("DROP TABLE t").await;
    }
}
