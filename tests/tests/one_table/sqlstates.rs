//! Every class of SQLSTATE that a statement for one table can meet.

use trem_tests::World;

use super::{FINE, assert_left_out};
use crate::PATIENCE;

/// Codes that a trigger raises, and what is said beside them.
const OF_THE_TABLE: &[(&str, &str)] = &[
    ("02000", ""),
    ("0A000", ""),
    ("09000", "see which trigger"),
    ("21000", ""),
    ("22003", "change its type"),
    ("22012", ""),
    ("22P05", "UTF8"),
    ("23502", "NOT NULL"),
    ("23503", "foreign key"),
    ("23514", "check constraint"),
    ("24000", ""),
    ("27000", "see which trigger"),
    ("2F003", ""),
    ("38000", "see which trigger"),
    ("39P01", "see which trigger"),
    ("3F000", "create the schema"),
    ("42501", "grant"),
    ("42601", ""),
    ("42704", "type"),
    ("42883", "create the function"),
    ("44000", "check option"),
    ("54000", "too large"),
    ("54001", ""),
    ("55000", ""),
    ("58P01", ""),
    ("F0000", ""),
    ("HV000", ""),
    ("P0001", "see which trigger"),
    ("P0002", ""),
    ("XX000", ""),
    ("XX001", "damaged"),
    ("XX002", "REINDEX"),
    // Of somebody's own making.
    ("ZZ123", ""),
];

/// Codes that heal by themselves.
const HEAL: &[&str] =
    &["40001", "40P01", "53000", "53100", "53200", "55006", "55P03", "57014", "57P05", "58030", "08006"];

fn trigger(table: &str, code: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION f_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         RAISE EXCEPTION 'a fault made by a test' USING errcode = '{code}'; END $$;
         CREATE OR REPLACE TRIGGER f BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION f_{table}();
         ALTER TABLE {table} ENABLE ALWAYS TRIGGER f;"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_one_table_are_its_own() {
    let world = World::two().await;
    world.source.exec(FINE).await;
    let name = |code: &str| format!("t_{}", code.to_lowercase());
    for (code, _) in OF_THE_TABLE {
        world.source.exec(&format!("CREATE TABLE {} (id int PRIMARY KEY)", name(code))).await;
    }
    world.trem.until_current().expect(0);
    let mut changes = "INSERT INTO fine VALUES (2, 'b');".to_owned();
    for (code, _) in OF_THE_TABLE {
        world.target.exec(&trigger(&name(code), code)).await;
        changes.push_str(&format!("INSERT INTO {} VALUES (1);", name(code)));
    }
    world.source.exec(&format!("BEGIN; {changes} COMMIT")).await;
    world.trem.until_current().expect(3);
    let wrong: Vec<(String, [&str; 3])> = OF_THE_TABLE
        .iter()
        .map(|(code, says)| (format!("public.{}", name(code)), [*code, *says, "a fault made by a test"]))
        .collect();
    let wrong: Vec<(&str, &[&str])> = wrong.iter().map(|(t, says)| (t.as_str(), says.as_slice())).collect();
    assert_left_out(&world, &wrong).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_that_heal_suspend_nothing() {
    let world = World::two().await;
    world.source.exec(&format!("{FINE}; CREATE TABLE sick (id int PRIMARY KEY)")).await;
    let mut running = world.trem.start();
    world.equal(&["public.%"], &mut running).await;
    for (n, code) in HEAL.iter().enumerate() {
        world.target.exec(&trigger("sick", code)).await;
        world.source.exec(&format!("INSERT INTO sick VALUES ({n}); UPDATE fine SET v = '{code}'")).await;
        running.wait_log(&format!("SQLSTATE {code}"), PATIENCE).await;
        world.target.exec("ALTER TABLE sick DISABLE TRIGGER f").await;
        world.equal(&["public.%"], &mut running).await;
        assert_eq!(world.table_state("public.sick").await, "ready", "{code}");
    }
    running.stop(PATIENCE).expect(0);
}
