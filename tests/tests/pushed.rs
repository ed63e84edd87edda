//! Filters that the source evaluates in the full load: what they mean there is what they mean to changes.

use trem_tests::{PgOptions, World};

use crate::conserved;

/// Each of a kind that the source can be told, or may not be.
const FILTERS: [&str; 22] = [
    "i > 1",
    "i <> 2 AND t IS NOT NULL",
    "i > 1.5",
    "NOT b",
    "b OR i IN (1, 5)",
    "t = 'a'",
    "t <> 'a'",
    "t IN ('a', 'ä', 'it''s')",
    "t NOT IN ('a', 'A ')",
    "c = 'a  '",
    "t < 'b'",
    "mood = 'sad'",
    "u = '0f8fad5b-d9cb-469f-a165-70867728950e'",
    "d >= 10",
    "d = 1.50 OR d IN (10, 20)",
    "CAST(d AS int) = 2",
    "day < '2026-01-31'",
    "day >= DATE '2026-01-31'",
    "at > '2026-01-31 10:00:00+02'",
    "f > 1 AND i < 6",
    "loose = 'a' OR loose IS NULL",
    "upper(t) = 'A' AND i BETWEEN 1 AND 4",
];

/// Those that a source would have to understand in our way.
const UNTOLD: [&str; 3] = ["c = 'a  '", "t < 'b'", "CAST(d AS int) = 2"];

const TABLE: &str = "(id int PRIMARY KEY, i int, b bool, t varchar(9), c char(3), mood public.mood, u uuid, \
    d numeric(9,2), day date, at timestamptz, f float8, loose text COLLATE public.loose)";

const ROWS: &str = "
    (1, 1, true, 'a', 'a', 'sad', '0f8fad5b-d9cb-469f-a165-70867728950e', 1.5, '2026-01-31', '2026-01-31 08:00Z', 1,
     'A'),
    (2, 2, false, 'A ', 'b', 'ok', NULL, 10, '-infinity', 'infinity', 'NaN', 'a'),
    (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (4, -5, true, 'ä', 'a', 'ok', NULL, -3.25, 'infinity', '-infinity', 'infinity', 'ä'),
    (5, 5, false, 'it''s', '', 'sad', NULL, 2.40, '2026-02-01', '2026-01-31 08:00:00.000001Z', -1, 'b'),
    (6, 6, false, '', 'A', 'ok', NULL, 10.01, '2026-01-30', '2026-01-31 07:59Z', 2.5, '')";

#[tokio::test(flavor = "multi_thread")]
async fn a_load_reads_what_changes_let_through() {
    let mut world = World::one_with(PgOptions::default().conf("log_statement = all")).await;
    world.source.exec("CREATE TYPE mood AS ENUM ('ok', 'sad')").await;
    let loose = "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
    world.source.exec(loose).await;
    world.target.exec(loose).await;
    let mut sections = String::new();
    for (n, filter) in FILTERS.iter().enumerate() {
        for how in ["loaded", "changed"] {
            world.source.exec(&format!("CREATE SCHEMA IF NOT EXISTS {how}; CREATE TABLE {how}.t{n} {TABLE}")).await;
            world.source.exec(&format!("ALTER TABLE {how}.t{n} REPLICA IDENTITY FULL")).await;
            sections.push_str(&format!("[[TASK.tables]]\ninclude = \"{how}.t{n}\"\nfilter = {filter:?}\n"));
        }
        world.source.exec(&format!("INSERT INTO loaded.t{n} VALUES {ROWS}")).await;
    }
    world.configure(|c| {
        c.include = vec!["public.none*".to_owned()];
        c.sections = sections;
    });
    world.source.exec("CREATE TABLE none (id int PRIMARY KEY)").await;
    world.trem.until_current().expect(0);
    let log = world.cluster.log();
    let reads =
        |n: usize| log.lines().find(|l| l.contains("COPY (SELECT") && l.contains(&format!("\"loaded\".\"t{n}\"")));
    for (n, filter) in FILTERS.iter().enumerate() {
        let told = reads(n).expect("it was read").contains(" WHERE ");
        assert_eq!(told, !UNTOLD.contains(filter), "{filter}: {:?}", reads(n));
    }
    let mut changed = 0;
    for (n, _) in FILTERS.iter().enumerate() {
        changed += conserved::changed(&world, &format!("INSERT INTO changed.t{n} VALUES {ROWS}")).await;
    }
    world.trem.until_current().expect(0).says(&[&format!("changes={changed} ")]);
    for (n, filter) in FILTERS.iter().enumerate() {
        let ids = |how: &str| format!("SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM {how}.t{n}");
        let loaded = world.target.one(&ids("loaded")).await;
        assert_eq!(loaded, world.target.one(&ids("changed")).await, "{filter}");
        assert!(!loaded.is_empty() && loaded != "1 2 3 4 5 6", "{filter} tells nothing: {loaded}");
    }
}
