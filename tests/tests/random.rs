//! Random schemas, random transactions, random kills, on real servers: whatever happened, both sides are equal once
//! trem has caught up. A failing run prints its seed; `TREM_SEED` replays it.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use rand::{Rng, SeedableRng};
use trem_tests::{Db, PgOptions, World};

use crate::seed;

const TABLES: &[&str] = &["public.%"];
const TYPES: &str = "CREATE TYPE mood AS ENUM ('low', 'it''s \"high\"'); CREATE DOMAIN small AS int;
                     CREATE TYPE pair AS (a int, b text);";

/// A type and how a value of it is drawn, as a literal.
type Kind = (&'static str, fn(&mut StdRng) -> String);

const KINDS: &[Kind] = &[
    ("int", |r| r.random_range(-9..9).to_string()),
    ("bigint", |r| (r.random_range(-9..9) * 1_000_000_007_i64).to_string()),
    ("text", text),
    ("varchar(30)", |r| one(r, &["", "a", "  b ", "NULL", "ü'\"\\"])),
    ("char(4)", |r| one(r, &["", "a", "abcd", "ü"])),
    ("numeric", |r| one(r, &["NaN", "0", "0.00", "1.50", "-12345678901234567890.123", "1e30"])),
    ("float8", |r| one(r, &["NaN", "-0", "0", "Infinity", "0.1", "1e-300"])),
    ("bool", |r| one(r, &["t", "f"])),
    ("date", |r| one(r, &["infinity", "2026-01-01", "0001-01-01 BC"])),
    ("timestamptz", |r| one(r, &["-infinity", "2026-01-01 00:00:00.000001+00", "1500-01-01 00:00:00+00"])),
    ("uuid", |r| format!("00000000-0000-0000-0000-00000000000{}", r.random_range(0..10))),
    ("bytea", |r| one(r, &["", "\\x00ff", "\\x5c"])),
    ("jsonb", |r| one(r, &["null", "{\"a\": 1.50}", "[]"])),
    ("json", |r| one(r, &["null", "{ \"a\":1, \"a\":2}"])),
    ("int[]", |r| one(r, &["{}", "{1,NULL}", "[0:1]={1,2}"])),
    ("interval", |r| one(r, &["1 mon -1 day", "00:00:00.000001"])),
    ("inet", |r| one(r, &["10.0.0.1", "::1/64"])),
    ("mood", |r| one(r, &["low", "it's \"high\""])),
    ("small", |r| r.random_range(-9..9).to_string()),
    ("pair", |r| one(r, &["(1,x)", "(,\"a, b\")", "(,)"])),
    ("point", |r| one(r, &["(1,2)", "(-0,NaN)"])),
    ("int4range", |r| one(r, &["empty", "[1,5)", "(,)"])),
];
/// The first so many have what a key needs.
const KEY_TYPES: &[usize] = &[0, 1, 3, 4, 5, 8, 9, 10, 14, 16, 17, 18];

fn one(random: &mut StdRng, values: &[&str]) -> String {
    values.choose(random).map_or(String::new(), |v| (*v).to_owned())
}

/// Short, or so long that it is stored apart and left out of the log when it does not change.
fn text(random: &mut StdRng) -> String {
    match random.random_range(0..6) {
        0 => "long ".repeat(random.random_range(500..3000)),
        1 => "a\tb\nc\\N\\.".into(),
        n => format!("text {n} 表"),
    }
}

/// A table of the random schema.
struct Table {
    name: String,
    /// Name and kind; the key first.
    columns: Vec<(String, usize)>,
    key: usize,
}

impl Table {
    fn draw(random: &mut StdRng, number: usize) -> (Self, String) {
        let name = (*[format!("t{number}"), format!("\"T {number}\""), format!("\"größe{number}\"")]
            .choose(random)
            .unwrap_or(&String::new()))
        .clone();
        let key = random.random_range(0..3);
        let mut columns: Vec<(String, usize)> =
            (0..key).map(|i| (format!("k{i}"), *KEY_TYPES.choose(random).unwrap_or(&0))).collect();
        for i in 0..random.random_range(1..7) {
            columns.push((format!("\"c {i}\""), random.random_range(0..KINDS.len())));
        }
        let mut parts: Vec<String> = columns.iter().map(|(n, k)| format!("{n} {}", KINDS[*k].0)).collect();
        if key > 0 {
            let names: Vec<&str> = columns[..key].iter().map(|(n, _)| n.as_str()).collect();
            parts.push(format!("PRIMARY KEY ({})", names.join(", ")));
        }
        let place = random.random_range(0..=parts.len() - usize::from(key > 0));
        parts.insert(place, "gone int".to_owned());
        let mut sql = format!("CREATE TABLE {name} ({}); ALTER TABLE {name} DROP gone;", parts.join(", "));
        for (column, kind) in &columns {
            if KINDS[*kind].0 == "text" {
                sql.push_str(&format!("ALTER TABLE {name} ALTER {column} SET STORAGE EXTERNAL;"));
            }
        }
        if key == 0 || random.random_bool(0.2) {
            sql.push_str(&format!("ALTER TABLE {name} REPLICA IDENTITY FULL;"));
        }
        (Self { name, columns, key }, sql)
    }

    fn value(&self, random: &mut StdRng, column: usize) -> String {
        if column >= self.key && random.random_bool(0.15) {
            return "NULL".into();
        }
        let (kind, draw) = KINDS[self.columns[column].1];
        format!("'{}'::{kind}", draw(random).replace('\'', "''"))
    }

    fn insert(&self, random: &mut StdRng) -> String {
        let values: Vec<String> = (0..self.columns.len()).map(|c| self.value(random, c)).collect();
        let names: Vec<&str> = self.columns.iter().map(|(n, _)| n.as_str()).collect();
        let end = if self.key > 0 { " ON CONFLICT DO NOTHING" } else { "" };
        format!("INSERT INTO {} ({}) VALUES ({}){end}", self.name, names.join(", "), values.join(", "))
    }

    /// Rows that a number picks, the same ones for the same contents.
    fn some(&self, random: &mut StdRng) -> String {
        let n = random.random_range(2..20);
        format!("abs(hashtext({0}::text)) % {n} = {1}", self.name, random.random_range(0..n))
    }

    fn statement(&self, random: &mut StdRng) -> String {
        let some = self.some(random);
        match random.random_range(0..100) {
            0..40 => self.insert(random),
            40..75 => {
                let column = random.random_range(self.key..self.columns.len());
                let value = self.value(random, column);
                format!("UPDATE {} SET {} = {value} WHERE {some}", self.name, self.columns[column].0)
            }
            // Of a key column, one row at most: more would collide.
            75..85 if self.key > 0 => {
                let column = random.random_range(0..self.key);
                let value = self.value(random, column);
                let row = format!("(SELECT min(ctid) FROM {} WHERE {some})", self.name);
                format!("UPDATE {} SET {} = {value} WHERE ctid = {row}", self.name, self.columns[column].0)
            }
            75..98 => format!("DELETE FROM {} WHERE {some}", self.name),
            _ => format!("TRUNCATE {}", self.name),
        }
    }
}

/// One transaction; one that fails is rolled back, which is a workload as well.
async fn transaction(db: &Db, tables: &[Table], random: &mut StdRng) {
    let mut sql = String::from("BEGIN;");
    for _ in 0..*[1, 1, 2, 4, 12, 60].choose(random).unwrap_or(&1) {
        let Some(table) = tables.choose(random) else { return };
        let statement = table.statement(random);
        match random.random_range(0..12) {
            0 => sql.push_str(&format!("SAVEPOINT s; {statement}; ROLLBACK TO s;")),
            1 => sql.push_str(&format!("SAVEPOINT s; {statement}; RELEASE s;")),
            _ => sql.push_str(&format!("{statement};")),
        }
    }
    if db.try_exec(&format!("{sql} COMMIT")).await.is_err() {
        db.exec("ROLLBACK").await;
    }
}

async fn random_world(seed: u64, world: &mut World) {
    let random = &mut StdRng::seed_from_u64(seed);
    world.source.exec(TYPES).await;
    let mut tables = Vec::new();
    for number in 0..random.random_range(1..5) {
        let (table, sql) = Table::draw(random, number);
        world.source.exec(&sql).await;
        tables.push(table);
    }
    let batch = random.random_range(1..60);
    world.configure(|c| c.sections = format!("[TASK.batch]\nmax-rows = {batch}\nmax-bytes = \"64KiB\"\n"));
    for _ in 0..random.random_range(0..60) {
        transaction(&world.source, &tables, random).await;
    }
    for round in 0..random.random_range(3..6) {
        let running = world.trem.start();
        let end = std::time::Instant::now() + Duration::from_millis(random.random_range(20..500));
        for _ in 0..random.random_range(0..60) {
            transaction(&world.source, &tables, random).await;
        }
        tokio::time::sleep_until(end.into()).await;
        running.kill();
        if round == 2
            && let Some(table) = tables.choose_mut(random)
        {
            world.source.exec(&format!("ALTER TABLE {} ADD \"added é\" int DEFAULT 7", table.name)).await;
            table.columns.push(("\"added é\"".into(), 0));
            // The log speaks of a new shape with the next change only: one row in, or if that is refused one out.
            let (name, insert) = (&table.name, table.insert(random));
            let delete = format!("DELETE FROM {name} WHERE ctid = (SELECT min(ctid) FROM {name})");
            world.source.exec(&format!("{insert}; {delete}")).await;
        }
        for _ in 0..random.random_range(0..20) {
            transaction(&world.source, &tables, random).await;
        }
        world.trem.until_current().expect(0);
        world.assert_equal(TABLES).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_worlds_and_random_kills() {
    let first = seed();
    let replayed = std::env::var_os("TREM_SEED").is_some();
    let mut world = World::one_with(PgOptions::default()).await;
    for number in 0..if replayed { 1 } else { 10 } {
        let seed = first.wrapping_add(number);
        eprintln!("world {number}: TREM_SEED={seed}");
        if number > 0 {
            let (from, to) = (format!("shop{number}"), format!("reports{number}"));
            world.source = world.cluster.create_database(&from).await;
            world.target = world.cluster.create_database(&to).await;
            let (source, target) = (world.cluster.url(&from), world.cluster.url(&to));
            // Slots belong to the whole server: a task of its own for each world.
            world.configure(|c| (c.name, c.source, c.target) = (format!("t{number}"), source, target));
        }
        random_world(seed, &mut world).await;
    }
}
