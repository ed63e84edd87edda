//! Several tables of the source that become one of the target.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trem_tests::World;

use crate::{PATIENCE, conserved, seed};

const BY_REGION: &str = r#"
[[TASK.rules]]
match = "*.orders"
action = "rename-schema"
to = "everywhere"
merge = true
[[TASK.rules]]
match = "everywhere.orders"
action = "create-column"
column = "region"
type = "text"
value = "source_schema()"
[[TASK.rules]]
match = "everywhere.orders"
action = "set-key"
columns = ["region", "id"]
"#;

const BY_KEY: &str = r#"
[[TASK.rules]]
match = { regex = "public\\.(part|late)_.*" }
action = "rename-table"
to = "parts"
merge = true
"#;

const OTHER_TYPE: &str = r#"
[[TASK.rules]]
match = "us.orders"
action = "change-type"
column = "v"
to = "json"
"#;

const REGIONS: [&str; 3] = ["eu", "us", "asia"];

fn table(region: &str) -> String {
    format!(
        "CREATE SCHEMA {region}; CREATE TABLE {region}.orders (id int PRIMARY KEY, v text, big text);
         ALTER TABLE {region}.orders ALTER big SET STORAGE EXTERNAL; CREATE INDEX by_v ON {region}.orders (v);
         INSERT INTO {region}.orders SELECT n, '{region}', repeat('x', 2500) FROM generate_series(1, 20) n"
    )
}

fn change(random: &mut StdRng, regions: &[&str]) -> String {
    let region = regions[random.random_range(0..regions.len())];
    let (id, n) = (random.random_range(0..40), random.random_range(2..6));
    match random.random_range(0..12) {
        0..5 => {
            format!("INSERT INTO {region}.orders VALUES ({id}, 'n{n}', repeat('{id}', 2000)) ON CONFLICT DO NOTHING;")
        }
        5..8 => format!("UPDATE {region}.orders SET v = v || {n} WHERE id % {n} = 0;"),
        8 => format!("UPDATE {region}.orders SET id = id + 100 WHERE id = {id};"),
        9 => format!("UPDATE {region}.orders SET id = id - 100 WHERE id > 100;"),
        10 => format!("DELETE FROM {region}.orders WHERE id % 7 = {n};"),
        _ => format!("TRUNCATE {region}.orders;"),
    }
}

async fn assert_same(world: &World, regions: &[&str], columns: &str, what: &str) {
    let each: Vec<String> =
        regions.iter().map(|r| format!("SELECT '{r}' AS region, {columns} FROM {r}.orders")).collect();
    let expected = world.source.rows(&format!("{} ORDER BY 1, 2", each.join(" UNION ALL "))).await;
    let found = world.target.rows(&format!("SELECT region, {columns} FROM everywhere.orders ORDER BY 1, 2")).await;
    assert_eq!(found, expected, "{what}");
}

/// Each table is emptied, loaded again and changed by itself, under kills, while the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn tables_become_one() {
    let mut world = World::two().await;
    world.configure(|c| {
        c.include = vec!["*.orders".to_owned()];
        c.sections = BY_REGION.to_owned();
        c.keys.push("after-load = \"indexes-and-constraints\"".to_owned());
    });
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    world.source.exec(&table("eu")).await;
    world.source.exec(&table("us")).await;
    world.trem.command(&["plan"]).expect(0).says(&["becomes one table with us.orders"]);
    let mut regions = REGIONS[..2].to_vec();
    world.trem.until_current().expect(0);
    let columns = "id, v, md5(big)";
    assert_same(&world, &regions, columns, "loaded").await;
    assert_eq!(world.target.number("SELECT count(*) FROM pg_indexes WHERE schemaname = 'everywhere'").await, 2);
    for round in 0..5 {
        let mut running = world.trem.start();
        running.wait_log("starting", PATIENCE).await;
        for step in 0..40 {
            let sql: String = (0..random.random_range(1..4)).map(|_| change(&mut random, &regions)).collect();
            if world.source.try_exec(&format!("BEGIN; {sql} COMMIT")).await.is_err() {
                world.source.exec("ROLLBACK").await;
            }
            if step == 20 && round == 1 {
                world.source.exec(&table("asia")).await;
                regions = REGIONS.to_vec();
            }
            if step == 20 && round == 2 {
                world.trem.command(&["reload", "--task", "t", "--table", "us.orders"]).expect(0);
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        if round % 2 == 0 {
            running.kill();
        } else {
            running.stop(PATIENCE).expect(0);
        }
        world.trem.until_current().expect(0);
        assert_same(&world, &regions, columns, &format!("TREM_SEED={seed} round {round}")).await;
    }
    let mut changed = 0;
    for _ in 0..40 {
        changed += conserved::changed(&world, &change(&mut random, &regions)).await;
    }
    world.trem.until_current().expect(0).says(&[&format!("changes={changed} ")]);
    world.trem.command(&["status"]).expect(0).never_says("met rows");
}

/// A column is added to one table after the other, each with another value in the rows that are there.
#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_one_by_one() {
    let mut world = World::two().await;
    world.configure(|c| {
        c.include = vec!["*.orders".to_owned()];
        c.sections = BY_REGION.to_owned();
    });
    world.source.exec(&table("eu")).await;
    world.source.exec(&table("us")).await;
    world.trem.until_current().expect(0);
    let rows = "SELECT region, count(*), min(w), max(w), count(w) FROM everywhere.orders GROUP BY 1 ORDER BY 1";
    let found = async |world: &World| {
        let rows = world.target.rows(rows).await;
        rows.iter().map(|r| r.iter().map(|v| v.clone().unwrap_or_default()).collect::<Vec<_>>().join(" ")).collect()
    };
    world.source.exec("ALTER TABLE us.orders ADD w int NOT NULL DEFAULT 7; DELETE FROM us.orders WHERE id = 1").await;
    world.trem.until_current().expect(0);
    let seen: Vec<String> = found(&world).await;
    assert_eq!(seen, ["eu 20   0", "us 19 7 7 19"]);
    world.source.exec("INSERT INTO eu.orders VALUES (99, 'a', 'b'); UPDATE us.orders SET w = 8 WHERE id = 2").await;
    world
        .source
        .exec("ALTER TABLE eu.orders ADD w int DEFAULT 1; INSERT INTO eu.orders VALUES (98, 'a', 'b', 3)")
        .await;
    world.trem.until_current().expect(0);
    let seen: Vec<String> = found(&world).await;
    assert_eq!(seen, ["eu 22 1 3 22", "us 19 7 8 19"]);
    // What is loaded later, and knows less, or more.
    world.source.exec(&table("asia")).await;
    world.source.exec("ALTER TABLE asia.orders ADD more int; UPDATE asia.orders SET more = id WHERE id < 5").await;
    world.trem.until_current().expect(0);
    let seen: Vec<String> = found(&world).await;
    assert_eq!(seen, ["asia 20   0", "eu 22 1 3 22", "us 19 7 8 19"]);
    assert_eq!(world.target.number("SELECT sum(more) FROM everywhere.orders").await, 10);
    world.trem.command(&["reload", "--task", "t", "--table", "eu.orders"]).expect(0);
    world.source.exec("TRUNCATE us.orders").await;
    world.trem.until_current().expect(0);
    let seen: Vec<String> = found(&world).await;
    assert_eq!(seen, ["asia 20   0", "eu 22 1 3 22"]);
}

/// Rows of a table that the task has no more are nobody's to delete.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_left_out_and_its_rows_stay() {
    let mut world = World::two().await;
    world.configure(|c| {
        c.include = vec!["*.orders".to_owned()];
        c.sections = BY_REGION.to_owned();
    });
    world.source.exec(&table("eu")).await;
    world.source.exec(&table("us")).await;
    world.trem.until_current().expect(0);
    world.configure(|c| c.include = vec!["eu.orders".to_owned()]);
    world.trem.until_current().expect(0);
    world.source.exec("DELETE FROM eu.orders WHERE id > 5; DELETE FROM us.orders").await;
    world.trem.command(&["reload", "--task", "t", "--table", "eu.orders"]).expect(0);
    world.trem.until_current().expect(0);
    let rows = "SELECT string_agg(region || n, ' ' ORDER BY region) \
                FROM (SELECT region, count(*) n FROM everywhere.orders GROUP BY 1) r";
    assert_eq!(world.target.one(rows).await, "eu5 us20");
}

/// Without a column that says where a row is from: keys are trusted, a row may move, and what needs to know is refused.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_trusted() {
    let mut world = World::two().await;
    world.configure(|c| c.sections = BY_KEY.to_owned());
    world
        .source
        .exec(
            "CREATE TABLE part_1 (id int PRIMARY KEY, v text); CREATE TABLE part_2 (id int PRIMARY KEY, v text);
             INSERT INTO part_1 SELECT n, 'one' FROM generate_series(1, 9) n;
             INSERT INTO part_2 SELECT n, 'two' FROM generate_series(11, 19) n",
        )
        .await;
    world.trem.command(&["plan"]).expect(0).says(&[
        "public.part_1: becomes public.parts together with public.part_2",
        "the same key is taken for granted",
    ]);
    world.trem.until_current().expect(0);
    world
        .source
        .exec(
            "BEGIN; INSERT INTO part_2 VALUES (20, 'x'); INSERT INTO part_2 SELECT * FROM part_1 WHERE id < 4;
             DELETE FROM part_1 WHERE id < 4; COMMIT; UPDATE part_1 SET v = 'three' WHERE id = 5",
        )
        .await;
    world.trem.until_current().expect(0);
    let rows = "SELECT id, v FROM parts ORDER BY 1";
    let both = "SELECT * FROM part_1 UNION ALL SELECT * FROM part_2 ORDER BY 1";
    assert_eq!(world.target.rows(rows).await, world.source.rows(both).await);
    world.source.exec("TRUNCATE part_1; INSERT INTO part_2 VALUES (21, 'y')").await;
    world.trem.until_current().expect(3);
    assert_eq!(world.table_state("public.part_1").await, "suspended");
    assert_eq!(world.table_state("public.part_2").await, "ready");
    assert_eq!(world.target.number("SELECT count(*) FROM parts").await, 6 + 14);
    world.trem.command(&["status"]).says(&["cannot be told from those of others", "create-column"]);
}

/// Two tables become one only where that is asked for, of one key and with what tells them apart.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_one_is_refused() {
    let mut world = World::two().await;
    world.source.exec(&table("eu")).await;
    world.source.exec(&table("us")).await;
    let by_table = BY_REGION.replace("source_schema()", "source_table()");
    for (sections, says) in [
        (BY_REGION.replace("merge = true", ""), ["would become the target table everywhere.orders", "merge = true"]),
        (by_table, ["could not be told from those of us.orders", "source_schema()"]),
        (format!("{OTHER_TYPE}{BY_REGION}"), ["everywhere.orders.v", "another type"]),
    ] {
        world.configure(|c| {
            c.include = vec!["*.orders".to_owned()];
            c.sections = sections.clone();
        });
        world.trem.command(&["plan"]).expect(1).says(&says);
    }
    world.source.exec("ALTER TABLE us.orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (id, v)").await;
    let last = BY_REGION.rfind("[[TASK.rules]]").unwrap();
    world.configure(|c| c.sections = BY_REGION[..last].to_owned());
    world.trem.command(&["plan"]).expect(1).says(&["has another key there", "set-key"]);
    world.configure(|c| c.sections = BY_REGION.replace("merge = true", "merge = 1"));
    world.trem.command(&["check"]).expect(2).says(&["merge", "expected true or false"]);
}
