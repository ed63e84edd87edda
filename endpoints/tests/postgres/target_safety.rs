//! What must never happen to rows of the target, and what the role must be granted first.

use std::sync::Arc;

use crate::rig::{Keeper, Rig, TEXT, V, batch, checkpoint, column, from, i, insert, set, t, table, update};
use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::target::PostgresTarget;
use trem_engine::change::{Step, Truncate};
use trem_engine::ports::{Finding, Severity, Target};
use trem_engine::schema::{Catalog, Dialect, GeneratedColumn, Identity, TableId, TableSchema, Type};
use trem_engine::task::OnExisting;
use trem_engine::template::Template;
use trem_engine::{Class, Error};

fn public(name: &str) -> Arc<TableSchema> {
    let mut table = (*table(name, Identity::Key)).clone();
    table.id = TableId::new("public", name);
    Arc::new(table)
}

async fn plan(target: &PostgresTarget, table: &Arc<TableSchema>, on_existing: OnExisting) -> Vec<Finding> {
    let catalog = Catalog { tables: vec![Arc::clone(table)], ..Catalog::default() };
    let known = target.record().await.unwrap().unwrap_or_default();
    target.plan(&catalog, &known, on_existing, true).await.unwrap().remove(0).findings
}

fn remedies(findings: &[Finding], severity: Severity) -> Vec<String> {
    let statement = |said: String| match said.strip_prefix("run `").and_then(|rest| rest.strip_suffix('`')) {
        Some(statement) => statement.to_owned(),
        None => said,
    };
    let found = findings.iter().filter(|f| f.severity == severity);
    found.map(|f| statement(f.remedy.as_ref().unwrap().to_string())).collect()
}

fn as_role(rig: &Rig, role: &str, task: &str) -> PostgresTarget {
    let url = format!("postgres://{role}@127.0.0.1:{}/t", rig.server.port());
    PostgresTarget::new(PgConfig::parse(&url).unwrap(), task)
}

/// A key change takes the row out and puts it in again: a cascade in between would take the children.
#[tokio::test]
async fn cascades_that_would_fire_are_refused() {
    let rig = Rig::start().await;
    rig.target.forget().await.unwrap();
    rig.db
        .exec(
            "CREATE ROLE owner LOGIN; GRANT CREATE ON DATABASE t TO owner;
             GRANT USAGE, CREATE ON SCHEMA public TO owner;
             CREATE TABLE parent (id int PRIMARY KEY, u int, \"Text\" text); ALTER TABLE parent OWNER TO owner;
             CREATE TABLE child (id int REFERENCES parent ON DELETE CASCADE); ALTER TABLE child OWNER TO owner",
        )
        .await;
    let parent = public("parent");
    let target = as_role(&rig, "owner", "owned");
    let found = remedies(&plan(&target, &parent, OnExisting::Refuse).await, Severity::Error);
    assert!(
        found[0].contains("GRANT SET ON PARAMETER") && found[0].contains("DROP CONSTRAINT child_id_fkey"),
        "{found:?}"
    );
    let mut lane = Keeper::take_over(&target).await.unwrap();
    lane.begin(&checkpoint(1).lineage).await.unwrap();
    let e = lane.prepare(&parent, OnExisting::Refuse, true).await.unwrap_err();
    assert_eq!(e.class(), Class::Refused, "{e}");
    // One that comes later is met when a row has to move.
    let later = table("later", Identity::Key);
    lane.prepare(&later, OnExisting::Refuse, false).await.unwrap();
    rig.db
        .exec("CREATE TABLE late (id int REFERENCES \"s x\".later ON DELETE SET NULL); GRANT ALL ON late TO owner")
        .await;
    let rows = batch(&later, &[insert([i(1), i(1), t("a")])]);
    lane.apply(set(vec![Step::Rows(rows)], 1)).await.unwrap();
    rig.db.exec("INSERT INTO late VALUES (1)").await;
    let rows = batch(&later, &[from(&[i(1)], [i(2), i(1), t("a")])]);
    let e = lane.apply(set(vec![Step::Rows(rows)], 2)).await.unwrap_err();
    assert_eq!(e.class(), Class::Table, "{e}");
    assert_eq!(rig.db.number("SELECT id FROM late").await, 1);
    rig.db.exec("GRANT SET ON PARAMETER session_replication_role TO owner").await;
    assert!(plan(&target, &parent, OnExisting::Refuse).await.is_empty());
}

/// The log names every table that was emptied: another one that refers to it on the target stays.
#[tokio::test]
async fn truncate_empties_what_the_log_names() {
    let mut rig = Rig::start().await;
    rig.db
        .exec(
            "CREATE TABLE a (id int PRIMARY KEY, u int, \"Text\" text);
             CREATE TABLE b (id int PRIMARY KEY, u int REFERENCES a, \"Text\" text);
             CREATE TABLE mine (id int REFERENCES b ON DELETE CASCADE);
             INSERT INTO a VALUES (1); INSERT INTO b VALUES (1, 1); INSERT INTO mine VALUES (1)",
        )
        .await;
    let (a, b) = (public("a"), public("b"));
    for table in [&a, &b] {
        rig.lane.prepare(table, OnExisting::Refuse, false).await.unwrap();
    }
    let tables = vec![Arc::clone(&a), Arc::clone(&b)];
    let truncate = Truncate { tables, cascade: true, restart_identity: false, commit: None };
    rig.try_steps(vec![Step::Truncate(truncate)]).await.unwrap();
    assert_eq!((rig.rows(&a).await.len(), rig.rows(&b).await.len()), (0, 0));
    assert_eq!(rig.db.number("SELECT count(*) FROM mine").await, 1);
}

/// What a user has made of a table since trem created it outlives a reload.
#[tokio::test]
async fn a_reload_empties_what_trem_created() {
    let mut rig = Rig::start().await;
    let ours = table("ours", Identity::Key);
    rig.lane.prepare(&ours, OnExisting::Refuse, true).await.unwrap();
    rig.lane.finish_table(&ours).await.unwrap();
    rig.apply(&ours, &[insert([i(1), i(1), t("a")])]).await;
    rig.db.exec("CREATE INDEX by_u ON \"s x\".ours (u)").await;
    rig.reload(&ours.id).await;
    rig.lane.prepare(&ours, OnExisting::Refuse, true).await.unwrap();
    assert!(rig.rows(&ours).await.is_empty());
    assert_eq!(rig.db.number("SELECT count(*) FROM pg_indexes WHERE indexname = 'by_u'").await, 1);
    rig.lane.finish_table(&ours).await.unwrap();

    let mut changed = (*ours).clone();
    changed.columns[1] = column("u", TEXT, "text");
    let changed = Arc::new(changed);
    rig.reload(&ours.id).await;
    rig.lane.prepare(&changed, OnExisting::Refuse, true).await.unwrap();
    rig.lane.finish_table(&changed).await.unwrap();
    assert_eq!(rig.db.number("SELECT count(*) FROM pg_indexes WHERE tablename = 'ours'").await, 1);
    rig.db.exec("CREATE VIEW looks AS SELECT id FROM \"s x\".ours").await;
    rig.reload(&ours.id).await;
    let e = rig.lane.prepare(&ours, OnExisting::Refuse, true).await.unwrap_err();
    assert!(e.class() == Class::Refused && e.to_string().contains("looks"), "{e}");
}

#[tokio::test]
async fn a_reload_refuses_to_empty_kept_rows_after_the_setting_is_gone() {
    let mut rig = Rig::start().await;
    rig.db.exec("CREATE TABLE kept (id int PRIMARY KEY, u int, \"Text\" text); INSERT INTO kept VALUES (1)").await;
    let kept = public("kept");
    rig.lane.prepare(&kept, OnExisting::Keep, true).await.unwrap();
    rig.lane.finish_table(&kept).await.unwrap();
    rig.reload(&kept.id).await;
    let e: Error = rig.lane.prepare(&kept, OnExisting::Refuse, true).await.unwrap_err();
    assert_eq!(e.class(), Class::Refused, "{e}");
    rig.db.exec("DELETE FROM kept").await;
    rig.lane.prepare(&kept, OnExisting::Keep, true).await.unwrap();
    rig.lane.finish_table(&kept).await.unwrap();
    rig.db.exec("INSERT INTO kept VALUES (7)").await;
    rig.reload(&kept.id).await;
    let e: Error = rig.lane.prepare(&kept, OnExisting::Keep, true).await.unwrap_err();
    assert_eq!(e.class(), Class::Refused, "{e}");
}

#[tokio::test]
async fn missing_privileges_are_found_before_the_run() {
    let rig = Rig::start().await;
    rig.target.forget().await.unwrap();
    rig.db
        .exec(
            "CREATE ROLE poor LOGIN; REVOKE TEMPORARY ON DATABASE t FROM PUBLIC;
             REVOKE ALL ON SCHEMA public FROM PUBLIC;
             CREATE SCHEMA closed; CREATE TABLE closed.there (id int PRIMARY KEY, u int, \"Text\" text);
             GRANT ALL ON closed.there TO poor",
        )
        .await;
    let target = as_role(&rig, "poor", "poor");
    let checked = remedies(&target.check(4).await.unwrap(), Severity::Error);
    assert!(checked.contains(&"GRANT TEMPORARY ON DATABASE \"t\" TO \"poor\"".to_owned()), "{checked:?}");
    let found = remedies(&plan(&target, &public("new"), OnExisting::Refuse).await, Severity::Error);
    assert_eq!(found, ["GRANT USAGE, CREATE ON SCHEMA \"public\" TO \"poor\""]);
    let mut there = (*table("there", Identity::Key)).clone();
    there.id = TableId::new("closed", "there");
    let there = Arc::new(there);
    let findings = plan(&target, &there, OnExisting::Refuse).await;
    assert_eq!(remedies(&findings, Severity::Error), ["GRANT USAGE ON SCHEMA \"closed\" TO \"poor\""]);
    assert_eq!(remedies(&findings, Severity::Warning), ["ALTER TABLE \"closed\".\"there\" OWNER TO \"poor\""]);
    let found = remedies(&plan(&target, &there, OnExisting::Recreate).await, Severity::Error);
    assert_eq!(found.len(), 2, "{found:?}");
    let found = remedies(&plan(&target, &table("new", Identity::Key), OnExisting::Refuse).await, Severity::Error);
    assert_eq!(found, ["CREATE SCHEMA \"s x\" AUTHORIZATION \"poor\""]);
}

/// They would be cut off, and looked for in vain.
#[tokio::test]
async fn names_that_are_too_long_are_refused() {
    let rig = Rig::start().await;
    let mut long = (*table("t", Identity::Key)).clone();
    long.id.schema = "ä".repeat(31) + "x";
    long.columns[1].name = "y".repeat(64);
    let found = plan(&rig.target, &Arc::new(long.clone()), OnExisting::Refuse).await;
    let errors: Vec<_> = found.iter().filter(|f| f.severity == Severity::Error).map(|f| &f.message).collect();
    assert_eq!(errors, [&format!("the name {} has 64 bytes, PostgreSQL keeps 63", long.columns[1].name)]);
}

/// A value that the source computes is never sent.
#[tokio::test]
async fn computed_columns_must_be_computed_on_the_target_too() {
    let rig = Rig::start().await;
    rig.db
        .exec(
            "CREATE TABLE plain (id int PRIMARY KEY, u int, \"Text\" text, twice int);
             CREATE TABLE lacking (id int PRIMARY KEY, u int, \"Text\" text)",
        )
        .await;
    for (name, severity) in [("plain", Severity::Error), ("lacking", Severity::Warning)] {
        let mut table = (*public(name)).clone();
        let native = column("twice", Type::Int32, "integer").native;
        let expression = Template::verbatim(Dialect::new("postgres"), "u * 2");
        table.generated = vec![GeneratedColumn { name: "twice".to_owned(), native, expression }];
        let table = Arc::new(table);
        let found = remedies(&plan(&rig.target, &table, OnExisting::Refuse).await, severity);
        assert!(found[0].contains("ADD COLUMN \"twice\" integer GENERATED ALWAYS AS (u * 2) STORED"), "{found:?}");
        rig.db.exec(found[0].as_str()).await;
        assert!(plan(&rig.target, &table, OnExisting::Refuse).await.is_empty());
    }
}

/// A moved row waits in a temporary table, where nothing of it is missing and nothing made up.
#[tokio::test]
async fn domains_that_forbid_null_and_columns_that_only_the_target_has() {
    let mut rig = Rig::start().await;
    rig.db
        .exec(
            "CREATE DOMAIN pos AS int NOT NULL CHECK (VALUE > 0); CREATE DOMAIN five AS char(5) NOT NULL;
             CREATE TABLE dom (id int PRIMARY KEY, u public.pos, \"Text\" text, more public.five DEFAULT 'abc')",
        )
        .await;
    let dom = public("dom");
    rig.prepare(&dom).await;
    rig.apply(&dom, &[insert([i(1), i(1), t("a")]), insert([i(2), i(2), t("b")])]).await;
    rig.db.exec("UPDATE dom SET more = 'xyz' WHERE id = 1").await;
    rig.apply(&dom, &[from(&[i(1)], [i(3), i(5), V::Unknown]), from(&[i(77)], [i(78), i(7), t("new")])]).await;
    let many: Vec<_> = (1..1200).map(|_| update([i(2), V::Unknown, t("many")])).collect();
    rig.apply(&dom, &many).await;
    assert_eq!(rig.rows(&dom).await, ["(2,2,many,\"abc  \")", "(3,5,a,\"xyz  \")", "(78,7,new,\"abc  \")"]);
    let large = "x".repeat(2 << 20);
    rig.apply(&dom, &[update([i(2), V::Unknown, t(&large)]), from(&[i(80)], [i(81), i(9), t(&large)])]).await;
    assert_eq!(rig.db.number("SELECT count(*) FROM dom WHERE length(\"Text\") = 2097152 AND more = 'abc'").await, 2);
}

#[tokio::test]
async fn columns_that_cannot_be_read_in_binary() {
    let mut rig = Rig::start().await;
    rig.db.exec("CREATE TABLE acl (id int PRIMARY KEY, u int, \"Text\" text, extra aclitem)").await;
    let acl = public("acl");
    rig.prepare(&acl).await;
    let rows: Vec<_> = (0..100).map(|n| insert([i(n), i(n), t("a\tb")])).collect();
    assert_eq!(rig.apply(&acl, &rows).await.inserted, 100);
    let rows: Vec<_> = (0..100).map(|n| update([i(n), i(n), t(&"y".repeat(20_000))])).collect();
    assert_eq!(rig.apply(&acl, &rows).await.updated, 100);
    assert_eq!(rig.db.number("SELECT count(*) FROM acl WHERE length(\"Text\") = 20000").await, 100);
}

/// Two keys may be equal and yet not the same.
#[tokio::test]
async fn an_upsert_writes_the_key_as_it_was_sent() {
    let mut rig = Rig::start().await;
    rig.db
        .exec(
            "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE TABLE blurred (id int, u int, \"Text\" text COLLATE nocase PRIMARY KEY)",
        )
        .await;
    let mut blurred = (*public("blurred")).clone();
    (blurred.key, blurred.primary_key) = (vec![2], vec![2]);
    blurred.columns[2].nullable = false;
    let blurred = Arc::new(blurred);
    rig.prepare(&blurred).await;
    rig.apply(&blurred, &[insert([i(1), i(1), t("key")])]).await;
    rig.apply(&blurred, &[insert([i(2), i(2), t("KEY")])]).await;
    assert_eq!(rig.rows(&blurred).await, ["(2,2,KEY)"]);
    rig.apply(&blurred, &[update([i(3), i(3), t("Key")])]).await;
    assert_eq!(rig.rows(&blurred).await, ["(3,3,Key)"]);
}

#[tokio::test]
async fn large_rows_without_a_key() {
    let mut rig = Rig::start().await;
    let table = table("Heavy", Identity::Full);
    rig.prepare(&table).await;
    let row = |n: i32, c: &str| [i(n), V::Null, t(&c.repeat(3 << 20))];
    rig.apply(&table, &[insert(row(1, "a")), insert(row(1, "a")), insert(row(2, "b")), insert(row(3, "\\"))]).await;
    let gone = |r: [V; 3]| (trem_engine::change::Op::Delete, None, r.to_vec());
    let counts = rig
        .apply(
            &table,
            &[gone(row(1, "a")), from(&row(2, "b"), [i(5), V::Null, V::Unknown]), from(&row(3, "\\"), row(4, "d"))],
        )
        .await;
    assert_eq!((counts.updated, counts.deleted, counts.conflicts), (2, 1, 0));
    let sql = "SELECT string_agg(id || left(\"Text\", 1) || length(\"Text\"), ' ' ORDER BY id) FROM \"s x\".\"Heavy\"";
    assert_eq!(rig.db.one(sql).await, "1a3145728 4d3145728 5b3145728");
}

/// Where commits wait for standbys, what no standby has may be lost in a failover.
#[tokio::test]
async fn what_is_durable_where_standbys_are_waited_for() {
    let mut rig = Rig::start().await;
    let table = table("Durable", Identity::Key);
    rig.prepare(&table).await;
    rig.db.exec("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    rig.db.exec("SELECT pg_reload_conf()").await;
    rig.db.wait_for("SHOW synchronous_standby_names", "nobody", std::time::Duration::from_secs(10)).await;
    rig.apply(&table, &[insert([i(1), i(1), t("a")])]).await;
    let limit = std::time::Duration::from_secs(4);
    let waiting = async {
        loop {
            if rig.lane.durable(false).await.unwrap().is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(limit, waiting).await.unwrap_err();
}
