//! Random tables under random rules, through loads, changes and kills: what the target has in the end is what a load of
//! the same tables under the same rules brings to an empty one, and every change of the source is accounted for.

use std::fmt::Write;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trem_tests::{Db, Trem, World, compare};

use crate::{PATIENCE, conserved, seed};

const TABLES: usize = 8;
/// Beside the key: a name, a type, and a value made of a number.
const COLUMNS: [(&str, &str, &str); 7] = [
    ("a", "int", "{n} % 12"),
    ("v", "text", "chr(97 + {n} % 26) || ' {n}@x.org'"),
    ("big", "text", "repeat(md5({n}::text), 90)"),
    ("d", "numeric(9,2)", "{n} * 137.25"),
    ("day", "date", "'2026-01-01'::date + {n}"),
    ("b", "bool", "{n} % 3 = 0"),
    ("j", "json", "'[{n}]'"),
];

/// A table, what it is called now and what the rules have made of its columns.
struct Table {
    name: String,
    text_key: bool,
    whole: bool,
    columns: Vec<usize>,
    rules: String,
    soft: bool,
    added: usize,
}

impl Table {
    fn random(random: &mut StdRng, number: usize) -> Self {
        let columns = (0..COLUMNS.len()).filter(|_| random.random_bool(0.7)).collect();
        let (text_key, whole) = (random.random(), random.random());
        let (rules, name) = (String::new(), format!("t{number}"));
        let mut table = Self { name, text_key, whole, columns, rules, soft: false, added: 0 };
        table.make_rules(random);
        table
    }

    fn create(&self) -> String {
        let key = if self.text_key { "text" } else { "bigint" };
        let mut sql = format!("CREATE TABLE {} (id {key} PRIMARY KEY", self.name);
        for at in &self.columns {
            let (name, ty, _) = COLUMNS[*at];
            write!(sql, ", {name} {ty}").unwrap();
        }
        sql.push_str(");");
        if self.columns.contains(&2) {
            write!(sql, "ALTER TABLE {} ALTER big SET STORAGE EXTERNAL;", self.name).unwrap();
        }
        if self.whole {
            write!(sql, "ALTER TABLE {} REPLICA IDENTITY FULL;", self.name).unwrap();
        }
        sql
    }

    fn make_rules(&mut self, random: &mut StdRng) {
        let table = format!("public.{}", self.name);
        let has: Vec<&str> = self.columns.iter().map(|at| COLUMNS[*at].0).collect();
        let mut names: Vec<(&str, String)> = has.iter().map(|name| (*name, (*name).to_owned())).collect();
        let mut rules = String::new();
        let mut rule = |body: &str| write!(rules, "[[TASK.rules]]\nmatch = \"{table}\"\n{body}\n").unwrap();
        if self.text_key && random.random() {
            rule("action = \"set-value\"\ncolumn = \"id\"\nmask = \"hash\"\nsalt = \"s\"");
        }
        for number in 0..random.random_range(1..7) {
            let Some((was, name)) = names.get(random.random_range(0..names.len().max(1))).cloned() else { break };
            let mask = |mask: &str| format!("action = \"set-value\"\ncolumn = \"{name}\"\nmask = {mask}");
            let create = |ty: &str, value: &str| {
                format!("action = \"create-column\"\ncolumn = \"c{number}\"\ntype = \"{ty}\"\nvalue = \"{value}\"")
            };
            let change = |to: &str| format!("action = \"change-type\"\ncolumn = \"{name}\"\nto = \"{to}\"");
            let body = match (was, random.random_range(0..6)) {
                (_, 0) => {
                    let to = format!("{name}_{number}");
                    names.iter_mut().filter(|(_, n)| *n == name).for_each(|(_, n)| n.clone_from(&to));
                    format!("action = \"rename-column\"\ncolumn = \"{name}\"\nto = \"{to}\"")
                }
                (_, 1) => {
                    names.retain(|(_, n)| *n != name);
                    format!("action = \"drop-column\"\ncolumn = \"{name}\"")
                }
                ("a", 2) => create("int64", &format!("{name} * 1000 + 1")),
                ("a", 3) => {
                    format!("action = \"set-value\"\ncolumn = \"{name}\"\nvalue = \"coalesce({name}, -1) + 1\"")
                }
                ("v" | "big", 2) => create("int32", &format!("character_length({name})")),
                ("v" | "big", 3) => mask("\"hash\"\nsalt = \"pepper\""),
                ("v", 4) => {
                    mask(["\"email\"\nsalt = \"x\"", "\"format\"\nsalt = \"y\"", "\"keep-last\"\nkeep = 3"][number % 3])
                }
                ("big", 4) => create("text", "source_schema() || '.' || source_table()"),
                ("d", 2) => create("decimal(12, 1)", &format!("{name} * 1.5")),
                ("d", 3) => {
                    names.retain(|(_, n)| *n != name);
                    change(["int16\"\non-misfit = \"clamp", "int16\"\non-misfit = \"null", "text"][number % 3])
                }
                ("day", 2) => create("bool", &format!("{name} > DATE '2026-01-20'")),
                ("b", 2) => create("text", &format!("CASE WHEN {name} THEN 'yes' ELSE 'no' END")),
                ("j", 2) => create("text", &format!("{name} #>> '{{0}}'")),
                ("j", 3) => mask("\"null\""),
                _ => continue,
            };
            rule(&body);
        }
        if random.random() {
            rule(&format!("action = \"rename-table\"\nto = \"{}_there\"", self.name));
        }
        self.soft = self.whole && random.random_bool(0.4);
        if self.soft {
            let now = if rules.contains("rename-table") { format!("{table}_there") } else { table.clone() };
            write!(rules, "[[TASK.rules]]\nmatch = \"{now}\"\naction = \"soft-delete\"\ncolumn = \"gone_at\"\n")
                .unwrap();
        }
        self.rules = rules;
    }

    /// What lets rows through.
    fn entry(&self, random: &mut StdRng) -> String {
        let mut entry = format!("[[TASK.tables]]\ninclude = \"public.{}\"\n", self.name);
        let filters: Vec<&str> = [(0, "a > 2"), (4, "day >= '2026-01-09' OR day IS NULL"), (5, "NOT b")]
            .into_iter()
            .filter_map(|(at, filter)| self.columns.contains(&at).then_some(filter))
            .collect();
        if !filters.is_empty() && random.random() {
            let filter = filters[random.random_range(0..filters.len())];
            writeln!(entry, "filter = \"{filter}\"").unwrap();
        }
        entry
    }

    fn row(&self, random: &mut StdRng, id: i64) -> String {
        let n = random.random_range(0..60);
        let value = |at: &usize| match (n + at) % 9 {
            0 => "NULL".to_owned(),
            _ => COLUMNS[*at].2.replace("{n}", &n.to_string()),
        };
        let values = std::iter::once(self.key(id)).chain(self.columns.iter().map(value));
        values.collect::<Vec<_>>().join(", ")
    }

    fn key(&self, id: i64) -> String {
        if self.text_key { format!("'k{id}'") } else { id.to_string() }
    }

    fn change(&mut self, random: &mut StdRng) -> String {
        let (name, id) = (self.name.clone(), random.random_range(0..40));
        let columns: Vec<&str> = self.columns.iter().map(|at| COLUMNS[*at].0).collect();
        let names = std::iter::once("id").chain(columns.iter().copied()).collect::<Vec<_>>().join(", ");
        match random.random_range(0..40) {
            0..14 => format!("INSERT INTO {name} ({names}) VALUES ({}) ON CONFLICT DO NOTHING;", self.row(random, id)),
            14..28 if !columns.is_empty() => {
                let at = self.columns[random.random_range(0..self.columns.len())];
                let (column, _, value) = COLUMNS[at];
                let value = value.replace("{n}", &random.random_range(0..60).to_string());
                format!(
                    "UPDATE {name} SET {column} = {value} WHERE ctid IN (SELECT ctid FROM {name} LIMIT 5 OFFSET {id});"
                )
            }
            28..34 => {
                let to = self.key(random.random_range(0..40));
                format!(
                    "UPDATE {name} SET id = {to} WHERE id = {} AND NOT EXISTS (SELECT FROM {name} WHERE id = {to});",
                    self.key(id)
                )
            }
            34..37 => format!("DELETE FROM {name} WHERE id = {};", self.key(id)),
            37 => format!("TRUNCATE {name};"),
            38 if self.added < 3 => {
                self.added += 1;
                format!("ALTER TABLE {name} ADD added{} int DEFAULT {id};", self.added)
            }
            _ => format!("DELETE FROM {name} WHERE id::text LIKE '%7';"),
        }
    }
}

/// An empty database that the same tables are loaded into, by the same rules.
async fn load(world: &World, tables: &[Table], name: &str) -> Db {
    let fresh = world.target_cluster().create_database(name).await;
    let mut config = world.config.clone();
    config.target = world.target_cluster().url(name);
    config.keys.push("mode = \"full-load\"".to_owned());
    Trem::new(&config).until_current().expect(0);
    for table in tables.iter().filter(|t| t.soft) {
        let there = world.target.one(&there(table)).await;
        world.target.exec(&format!("DELETE FROM {there} WHERE gone_at IS NOT NULL")).await;
    }
    fresh
}

/// What the target calls it.
fn there(table: &Table) -> String {
    format!("SELECT table_name::text FROM information_schema.tables WHERE table_name LIKE '{}%'", table.name)
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_bring_what_a_load_would() {
    let mut world = World::one().await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut tables: Vec<Table> = (0..TABLES).map(|n| Table::random(&mut random, n)).collect();
    for table in &tables {
        world.source.exec(&table.create()).await;
        for id in 0..15 {
            world.source.exec(&format!("INSERT INTO {} VALUES ({})", table.name, table.row(&mut random, id))).await;
        }
    }
    let entries: String = tables.iter().map(|table| table.entry(&mut random)).collect();
    let rules: String = tables.iter().map(|table| table.rules.as_str()).collect();
    world.source.exec("CREATE TABLE unruled (id int PRIMARY KEY)").await;
    world.configure(|c| {
        c.include = vec!["public.unruled".to_owned()];
        c.sections = format!("{entries}{rules}");
    });
    eprintln!("{}", world.config.sections);
    for _ in 0..3 {
        let loading = world.trem.start();
        tokio::time::sleep(Duration::from_millis(random.random_range(50..700))).await;
        loading.kill();
    }
    for round in 0..4 {
        let mut running = world.trem.start();
        running.wait_log("starting", PATIENCE).await;
        for step in 0..60 {
            let at = random.random_range(0..tables.len());
            let sql: String = (0..random.random_range(1..5)).map(|_| tables[at].change(&mut random)).collect();
            world.source.exec(&format!("BEGIN; {sql} COMMIT")).await;
            if round == 2 && step == 30 && !tables[at].soft {
                let name = format!("public.{}", tables[at].name);
                world.trem.command(&["reload", "--task", "t", "--table", &name]).expect(0);
            }
        }
        // The log tells of a column with the first row after it.
        for table in &tables {
            let (name, id) = (&table.name, table.key(-1));
            let sql = format!("INSERT INTO {name} (id) VALUES ({id}); DELETE FROM {name} WHERE id = {id}");
            world.source.exec(&sql).await;
        }
        if round % 2 == 0 {
            running.kill();
        } else {
            running.stop(PATIENCE).expect(0);
        }
        world.trem.until_current().expect(0);
        let fresh = load(&world, &tables, &format!("fresh{round}")).await;
        let differences = compare::differences(&fresh, &world.target, &["public.%"]).await;
        assert!(differences.is_empty(), "TREM_SEED={seed} round {round}: {}", differences.join("\n"));
    }
    let mut changed = 0;
    for _ in 0..60 {
        let table = &mut tables[random.random_range(0..TABLES)];
        changed += conserved::changed(&world, &(0..3).map(|_| table.change(&mut random)).collect::<String>()).await;
    }
    eprintln!("TREM_SEED={seed}: {changed} changes");
    world.trem.until_current().expect(0).says(&[&format!("changes={changed} ")]);
}
