//! Secondary indexes and constraints, on request.

use trem_tests::World;

const MADE: &str =
    "SELECT count(*) FROM pg_constraint WHERE conrelid IN ('a'::regclass, 'b'::regclass) AND contype <> 'p'";

#[tokio::test(flavor = "multi_thread")]
async fn indexes_and_constraints_come_after_the_load() {
    let mut world = World::one().await;
    world.configure(|c| c.keys.push("after-load = \"indexes-and-constraints\"".to_owned()));
    let tables = "CREATE TABLE a (id int PRIMARY KEY, u int UNIQUE, n text CHECK (n <> ''), \"Q x\" int);
                  CREATE INDEX \"by Q\" ON a (\"Q x\") WHERE u > 0; CREATE INDEX ON a (lower(n));
                  CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON UPDATE CASCADE ON DELETE SET NULL);
                  INSERT INTO a SELECT i, i, 'n' || i, i FROM generate_series(1, 100) i;
                  INSERT INTO b SELECT i, i FROM generate_series(1, 50) i";
    world.source.exec(tables).await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
    assert_eq!(world.target.number(MADE).await, 3, "unique, check and foreign key");
    let indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'";
    assert_eq!(world.target.number(indexes).await, world.source.number(indexes).await);
    // With them there, changes still go through, and a second start finds nothing to do.
    world
        .source
        .exec("UPDATE a SET u = -u; DELETE FROM a WHERE id > 40; UPDATE a SET id = id + 1000 WHERE id < 5")
        .await;
    world.source.exec("BEGIN; UPDATE a SET u = 7000 WHERE id = 20; UPDATE a SET u = -20 WHERE id = 21; COMMIT").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
    assert_eq!(world.target.number(MADE).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_keys_unless_asked() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE a (id int PRIMARY KEY, u int UNIQUE); CREATE TABLE b (id int PRIMARY KEY)").await;
    world.trem.until_current().expect(0);
    assert_eq!(world.target.number(MADE).await, 0);
}

/// A key is sorted in memory where the target's own setting is small, and a larger one stays.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_built_with_enough_memory() {
    let world = World::one().await;
    let note = "CREATE SCHEMA seen; CREATE TABLE seen.memory (setting text);
                CREATE FUNCTION seen.note() RETURNS event_trigger LANGUAGE plpgsql AS
                  $$ BEGIN INSERT INTO seen.memory SELECT current_setting('maintenance_work_mem')
                     FROM pg_event_trigger_ddl_commands() WHERE schema_name = 'public'; END $$;
                CREATE EVENT TRIGGER note ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION seen.note();
                ALTER EVENT TRIGGER note ENABLE ALWAYS";
    world.target.exec(note).await;
    let settings = "SELECT string_agg(DISTINCT setting, ' ') FROM seen.memory";
    world.source.exec("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)").await;
    world.trem.until_current().expect(0);
    assert_eq!(world.target.one(settings).await, "256MB");
    let larger = "ALTER DATABASE {} SET maintenance_work_mem TO '300MB'; TRUNCATE seen.memory";
    world.target.exec(&larger.replace("{}", world.target.database())).await;
    world.source.exec("CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b VALUES (1)").await;
    world.trem.until_current().expect(0);
    assert_eq!(world.target.one(settings).await, "300MB");
    world.target.exec("DROP EVENT TRIGGER note").await;
}

/// A role whose rows are checked by foreign keys gets none: it would suspend its own tables on them.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_that_would_refuse_rows_are_not_created() {
    let mut world = World::two().await;
    world.target.exec("CREATE ROLE plain LOGIN; GRANT CREATE ON DATABASE reports TO plain").await;
    world.target.exec("GRANT ALL ON SCHEMA public TO plain").await;
    world.configure(|c| {
        c.target = c.target.replacen("postgres://postgres:", "postgres://plain:", 1);
        c.keys.push("after-load = \"indexes-and-constraints\"".to_owned());
    });
    world
        .source
        .exec(
            "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);
             CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent, CHECK (id > 0));
             CREATE INDEX ON child (p); INSERT INTO child VALUES (1, 1)",
        )
        .await;
    world.trem.command(&["check"]).expect(0).says(&["creates no foreign keys", "GRANT SET ON PARAMETER"]);
    world.trem.until_current().expect(0);
    world.source.exec("BEGIN; INSERT INTO parent VALUES (2); INSERT INTO child VALUES (2, 2); COMMIT").await;
    world.source.exec("BEGIN; DELETE FROM child WHERE id = 1; DELETE FROM parent WHERE id = 1; COMMIT").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.parent", "public.child"]).await;
    let made = "SELECT string_agg(contype::text, '' ORDER BY contype) || count(*) FILTER (WHERE contype = 'f') \
                FROM pg_constraint WHERE conrelid = 'child'::regclass AND contype IN ('c', 'f', 'p')";
    assert_eq!(world.target.one(made).await, "cp0");
    world.target.exec("GRANT SET ON PARAMETER session_replication_role TO plain").await;
    world.trem.until_current().expect(0);
    assert_eq!(world.target.one(made).await, "cfp1");
}
