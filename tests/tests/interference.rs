//! What the target's own rules and triggers do to rows that trem writes is found, told and counted.

use trem_tests::World;

use crate::PATIENCE;

/// A rule is not asked when rows are loaded, and swallows what changes afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn rules_of_the_target() {
    let mut world = World::one().await;
    world.configure(|c| c.keys.push("on-existing = \"truncate\"".to_owned()));
    let tables = "CREATE TABLE r (id int PRIMARY KEY, v text); CREATE TABLE fine (id int PRIMARY KEY, v text)";
    world.source.exec(&format!("{tables}; INSERT INTO r VALUES (1, 'a'), (2, 'b'); INSERT INTO fine VALUES (1)")).await;
    world.target.exec(&format!("{tables}; CREATE RULE eat AS ON INSERT TO r DO INSTEAD NOTHING")).await;
    // It does not fire for replicated rows.
    world.trem.command(&["check"]).expect(0).never_says("rule");
    world.target.exec("ALTER TABLE r ENABLE ALWAYS RULE eat").await;
    let says = ["public.r", "rule eat fires", "ALTER TABLE public.r DISABLE RULE eat"];
    world.trem.command(&["check"]).expect(1).says(&says);
    world.trem.until_current().expect(1).says(&says);
    world.target.exec("ALTER TABLE r DISABLE RULE eat").await;
    let mut running = world.trem.start();
    world.equal(&["public.%"], &mut running).await;

    // Made while trem runs: all that is seen of it is that too few rows are met.
    for (rule, change) in [
        ("INSERT TO r", "INSERT INTO r VALUES (3, 'c')"),
        ("UPDATE TO r", "UPDATE r SET v = v || '!' WHERE id = 1"),
        ("DELETE TO r", "DELETE FROM r WHERE id = 2"),
    ] {
        let make =
            format!("CREATE OR REPLACE RULE eat AS ON {rule} DO INSTEAD NOTHING; ALTER TABLE r ENABLE ALWAYS RULE eat");
        world.target.exec(&make).await;
        world.source.exec(&format!("{change}; UPDATE fine SET v = v || 'x'")).await;
        let state = "SELECT state FROM trem.table_state WHERE table_name = 'r'";
        world.target.wait_for(state, "suspended", PATIENCE).await;
        world.trem.command(&["status"]).expect(0).says(&["DISABLE RULE"]);
        world.equal(&["public.fine"], &mut running).await;
        world.target.exec("DROP RULE eat ON r").await;
        world.trem.command(&["reload", "--task", "t", "--table", "public.r"]).expect(0);
        world.equal(&["public.%"], &mut running).await;
    }
    running.stop(PATIENCE).expect(0);
}

/// Somebody wants the trigger: it is told of, and what it keeps out is counted.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_trigger_keeps_out() {
    let mut world = World::one().await;
    world.configure(|c| c.keys.push("on-existing = \"truncate\"".to_owned()));
    let tables = "CREATE TABLE k (id int PRIMARY KEY, v text); CREATE TABLE n (id int, v text);
                  ALTER TABLE n REPLICA IDENTITY FULL;
                  CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
                  CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000)";
    world.source.exec(tables).await;
    world.target.exec(tables).await;
    world
        .target
        .exec(
            "CREATE FUNCTION even() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF new.id % 2 = 0 THEN \
               RETURN new; END IF; RETURN NULL; END'",
        )
        .await;
    for table in ["k", "n", "p"] {
        world.source.exec(&format!("INSERT INTO {table} SELECT n FROM generate_series(1, 200) n")).await;
        let trigger = format!("CREATE TRIGGER even BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION even()");
        world.target.exec(&format!("{trigger}; ALTER TABLE {table} ENABLE ALWAYS TRIGGER even")).await;
    }
    let says = ["public.k", "trigger even fires", "ALTER TABLE public.k DISABLE TRIGGER even"];
    world.trem.command(&["check"]).expect(0).says(&says);
    world.trem.until_current().expect(0).says(&["has kept rows out"]);
    // By parameters, and by COPY.
    for rows in ["201, 210", "301, 400"] {
        for table in ["k", "n", "p"] {
            world.source.exec(&format!("INSERT INTO {table} SELECT n FROM generate_series({rows}) n")).await;
        }
        world.trem.until_current().expect(0);
    }
    for table in ["k", "n", "p"] {
        assert_eq!(world.target.number(&format!("SELECT count(*) FROM {table}")).await, 155, "{table}");
        let conflicts = format!("SELECT conflicts FROM trem.table_state WHERE table_name = '{table}'");
        assert_eq!(world.target.number(&conflicts).await, 155, "{table}");
    }
}

/// A key that changes is an UPDATE for whoever looks at the target, unless rows change places.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_change_is_an_update() {
    let mut world = World::one().await;
    world.configure(|c| c.keys.push("on-existing = \"truncate\"".to_owned()));
    world
        .source
        .exec(
            "CREATE TABLE k (a numeric, b text, v text, n timestamptz, PRIMARY KEY (a, b));
             CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
             ALTER TABLE k ALTER v SET STORAGE EXTERNAL; INSERT INTO always (v) VALUES ('a'), ('b');
             INSERT INTO k SELECT n, 'b' || n, repeat('v', 3000), now() FROM generate_series(1, 60) n",
        )
        .await;
    world
        .target
        .exec(
            "CREATE TABLE k (a numeric, b text, v text, n timestamptz, own text DEFAULT 'ours', PRIMARY KEY (a, b));
             CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
             CREATE TABLE seen (op text, old numeric, new numeric);
             CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO public.seen VALUES (tg_op, CASE tg_op WHEN 'INSERT' THEN NULL ELSE old.a END,
                 CASE tg_op WHEN 'DELETE' THEN NULL ELSE new.a END); RETURN NULL; END $$;
             CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON k FOR EACH ROW EXECUTE FUNCTION see();
             ALTER TABLE k ENABLE REPLICA TRIGGER see",
        )
        .await;
    world.trem.until_current().expect(0);
    world.target.exec("TRUNCATE seen; UPDATE k SET own = a || ' is mine'; TRUNCATE seen").await;
    let seen = "SELECT coalesce(string_agg(op || ' ' || n, ', ' ORDER BY op), '') \
                FROM (SELECT op, count(*) n FROM seen GROUP BY op) s";
    for (change, expected) in [
        ("UPDATE k SET a = 100 WHERE a = 1", "UPDATE 1"),
        ("UPDATE k SET a = a + 1000, n = NULL WHERE a <= 10", "UPDATE 9"),
        ("UPDATE k SET b = 'other' || a, v = 'w' WHERE a > 50 AND a < 60", "UPDATE 9"),
        (
            "UPDATE k SET a = 9999 WHERE a = 41; UPDATE k SET (a, b) = (41, 'b41') WHERE a = 42; \
             UPDATE k SET (a, b) = (42, 'b42') WHERE a = 9999",
            "DELETE 2, INSERT 2",
        ),
        ("DELETE FROM k WHERE a = 30; UPDATE k SET (a, b) = (30, 'b30') WHERE a = 31", "DELETE 1, UPDATE 1"),
        ("UPDATE always SET id = DEFAULT", ""),
    ] {
        world.source.exec(&format!("BEGIN; {change}; COMMIT")).await;
        world.trem.until_current().expect(0);
        assert_eq!(world.target.one(seen).await, expected, "{change}");
        world.target.exec("TRUNCATE seen").await;
    }
    let own = "SELECT count(*) FROM k WHERE own !~ 'is mine$'";
    assert_eq!(world.target.number(own).await, 0, "what only the target has of a row is kept");
    let rows = "SELECT a, b, md5(v), n FROM k ORDER BY 1, 2";
    assert_eq!(world.target.rows(rows).await, world.source.rows(rows).await);
    world.assert_equal(&["public.always"]).await;
    // Somebody has put a row where one is to go.
    world.target.exec("INSERT INTO k (a, b, v) VALUES (777, 'b40', 'in the way')").await;
    world.source.exec("UPDATE k SET a = 777 WHERE a = 40").await;
    world.trem.until_current().expect(0);
    assert_eq!(world.target.rows(rows).await, world.source.rows(rows).await);
}
