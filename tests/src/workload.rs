//! Random transactions over a few tables of different kinds: the same ones for the same seed.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::db::Db;

/// The workload's tables, for comparing.
pub const TABLES: &[&str] = &["public.w\\_%"];

const SCHEMA: &str = "
CREATE TABLE w_plain (id bigint PRIMARY KEY, n int, t text, f float8, at timestamptz DEFAULT now());
CREATE TABLE w_wide (a int, b text, doc text, extra text, j jsonb, PRIMARY KEY (a, b));
ALTER TABLE w_wide ALTER doc SET STORAGE EXTERNAL, ALTER extra SET STORAGE EXTERNAL;
CREATE TABLE w_rank (id int PRIMARY KEY, place int NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED, doc text);
ALTER TABLE w_rank ALTER doc SET STORAGE EXTERNAL;
CREATE TABLE w_bag (k int, v numeric, d date);
ALTER TABLE w_bag REPLICA IDENTITY FULL;
CREATE TABLE w_parts (id bigint, region text, amount numeric, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE w_parts_a PARTITION OF w_parts FOR VALUES IN ('a');
CREATE TABLE w_parts_b PARTITION OF w_parts DEFAULT;
";

/// Creates the tables with `rows` rows each.
pub async fn create(db: &Db, rows: u32) {
    db.exec(SCHEMA).await;
    db.exec(&format!(
        "INSERT INTO w_plain SELECT i, i % 97, md5(i::text), i / 3.0 FROM generate_series(1, {rows}) i;
         INSERT INTO w_wide SELECT i, 'k' || i % 7, repeat(md5(i::text), 80), repeat('x', i % 5000), '{{\"a\": 1}}'
             FROM generate_series(1, {rows} / 10) i;
         INSERT INTO w_rank SELECT i, i, repeat(md5(i::text), 80) FROM generate_series(1, {rows} / 20) i;
         INSERT INTO w_bag SELECT i % 40, i / 8, date '2000-01-01' + i % 9 FROM generate_series(1, {rows} / 20) i;
         INSERT INTO w_parts SELECT i, CASE WHEN i % 3 = 0 THEN 'a' ELSE 'r' || i % 5 END, i
             FROM generate_series(1, {rows}) i;
         ANALYZE"
    ))
    .await;
}

/// Draws transactions.
#[derive(Debug)]
pub struct Workload {
    random: StdRng,
    next_id: i64,
    rows: i64,
}

impl Workload {
    /// A workload over tables that were created with `rows` rows.
    pub fn new(seed: u64, rows: u32) -> Self {
        Self { random: StdRng::seed_from_u64(seed), next_id: i64::from(rows) + 1, rows: i64::from(rows) }
    }

    /// The statements of one transaction.
    pub fn transaction(&mut self) -> String {
        let statements = *[1, 1, 1, 2, 3, 8, 40].choose(&mut self.random).unwrap_or(&1);
        let mut sql = String::from("BEGIN;\n");
        for _ in 0..statements {
            let statement = self.statement();
            if self.random.random_bool(0.08) {
                sql.push_str(&format!("SAVEPOINT s; {statement}; ROLLBACK TO s;\n"));
            } else {
                sql.push_str(&format!("{statement};\n"));
            }
        }
        sql.push_str(if self.random.random_bool(0.04) { "ROLLBACK" } else { "COMMIT" });
        sql
    }

    /// Runs transactions for about so long and returns how many.
    pub async fn run(&mut self, db: &Db, time: std::time::Duration) -> u64 {
        let (start, mut done) = (std::time::Instant::now(), 0);
        while start.elapsed() < time {
            db.exec(&self.transaction()).await;
            done += 1;
        }
        done
    }

    fn statement(&mut self) -> String {
        let id = self.random.random_range(1..=self.rows);
        let n = self.random.random_range(0..1000);
        let span = self.random.random_range(1..30);
        match self.random.random_range(0..100) {
            0..18 => {
                let first = self.new_ids(span);
                let last = first + span - 1;
                format!("INSERT INTO w_plain SELECT i, {n}, md5(i::text), i FROM generate_series({first}, {last}) i")
            }
            18..34 => format!("UPDATE w_plain SET n = {n}, t = t || 'u' WHERE id BETWEEN {id} AND {id} + {span}"),
            34..42 => format!("DELETE FROM w_plain WHERE id BETWEEN {id} AND {id} + {}", span / 8),
            42..46 => format!("UPDATE w_plain SET id = {} WHERE id = {id}", self.new_ids(1)),
            46..54 => {
                format!("UPDATE w_wide SET j = '{{\"n\": {n}}}' WHERE a BETWEEN {id} / 10 AND {id} / 10 + {span}")
            }
            54..58 => format!("UPDATE w_wide SET doc = repeat(md5('{n}'), 90), extra = NULL WHERE a = {id} / 10"),
            // The key changes and the large values stay: the log does not carry them.
            58..62 => format!("UPDATE w_wide SET b = b || '.{}' WHERE a = {id} / 10", self.new_ids(1)),
            62..65 => format!(
                "INSERT INTO w_wide VALUES ({id} / 10, 'n{n}', repeat('d{n}', 900), NULL, NULL) \
                 ON CONFLICT DO NOTHING"
            ),
            65..67 => format!("DELETE FROM w_wide WHERE a = {id} / 10"),
            67..73 => self.rotate(),
            73..79 => format!("INSERT INTO w_bag SELECT {n} % 40, {n} / 8, NULL FROM generate_series(1, {span})"),
            79..84 => format!("UPDATE w_bag SET v = v + 1 WHERE k = {n} % 40 AND v = {n} / 8"),
            84..87 => format!("DELETE FROM w_bag WHERE k = {n} % 40 AND v < {n} / 16"),
            87..92 => format!("INSERT INTO w_parts VALUES ({}, 'r{}', 'NaN')", self.new_ids(1), n % 6),
            92..97 => format!("UPDATE w_parts SET amount = amount * 1.10 WHERE id BETWEEN {id} AND {id} + {span}"),
            // The row moves to another partition.
            97..99 => format!("UPDATE w_parts SET region = CASE region WHEN 'a' THEN 'z' ELSE 'a' END WHERE id = {id}"),
            _ if n % 20 == 0 => "TRUNCATE w_bag".to_owned(),
            _ => format!("DELETE FROM w_parts WHERE id = {id}"),
        }
    }

    /// The first of `count` ids that no row had yet.
    fn new_ids(&mut self, count: i64) -> i64 {
        let first = self.next_id;
        self.next_id += count;
        first
    }

    /// Values of a unique column, or keys, change places among neighbours.
    fn rotate(&mut self) -> String {
        let from = self.random.random_range(1..=(self.rows / 20 - 4).max(1));
        let to = from + 3;
        if self.random.random_bool(0.5) {
            return format!(
                "UPDATE w_rank SET place = CASE place WHEN {to} THEN {from} ELSE place + 1 END \
                 WHERE place BETWEEN {from} AND {to}"
            );
        }
        format!(
            "UPDATE w_rank SET id = -id WHERE id BETWEEN {from} AND {to}; \
             UPDATE w_rank SET id = CASE id WHEN -{to} THEN {from} ELSE -id + 1 END WHERE id BETWEEN -{to} AND -{from}"
        )
    }
}
