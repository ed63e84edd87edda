//! Indexes, constraints and computed columns under other names. What they should be is what the server itself makes of
//! them when tables and columns are renamed.

use std::sync::Arc;

use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::{PostgresSource, PostgresTarget};
use trem_engine::ports::{NoRules, Rules, Source, Target};
use trem_engine::record::{TableRecord, TableState, TaskRecord};
use trem_engine::route::Route;
use trem_engine::routes::Routes;
use trem_engine::schema::{Catalog, Dialect, TableId, TableSchema};
use trem_engine::task::{OnExisting, Pattern, Selection, TableRule};
use trem_engine::template::{Names, Template};
use trem_tests::binaries::PgBinaries;
use trem_tests::{Db, PgCluster, PgOptions};

const TABLES: &str = r#"
    CREATE SCHEMA "s x"; CREATE SCHEMA lower; SET search_path TO "s x", public;
    CREATE FUNCTION lower.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
    CREATE TYPE lower.year AS ENUM ('year', 'lower');
    CREATE TYPE lower.pair AS (lower int, year int);
    CREATE TABLE other (id int PRIMARY KEY, "Größe" int, zone int4range, year int4range, UNIQUE ("Größe", id));
    CREATE TABLE elsewhere (year int PRIMARY KEY);
    CREATE TABLE "T.a" (
        id int PRIMARY KEY, lower text, year int, zone timestamp, "Größe" int, "a.b" text, "q""x" int, "true" bool,
        span int4range, year_to int4range, text_pattern_ops text, varying text[], mood lower.year, two lower.pair,
        "with ""x"" (" int,
        twice int GENERATED ALWAYS AS ("Größe" * 2 + year) STORED,
        same text GENERATED ALWAYS AS (lower.lower(lower) || 'lower') STORED,
        CHECK (lower <> 'lower' AND "Größe" > 0), CHECK (lower(lower) <> 'it''s \lower'), CHECK ("true" = true),
        CHECK (zone > '2001-01-01'::timestamp without time zone AND (lower)::timestamp with time zone > now()),
        CHECK (EXTRACT(year FROM zone) >= year), CHECK ((lower COLLATE "C") < (text_pattern_ops COLLATE "C")),
        CHECK ("T.a".* IS NOT NULL), CHECK (make_interval(years => year) > interval '1' year),
        CHECK (mood <> 'year'::lower.year AND (two).lower > (two).year), CHECK (cardinality(varying::varchar[]) > year),
        CHECK (CASE WHEN "true" THEN year ELSE "with ""x"" (" END > 0) NO INHERIT,
        CHECK (lower = ANY (ARRAY['year', lower, varying[year]])),
        UNIQUE ("a.b", year) INCLUDE (zone) DEFERRABLE INITIALLY DEFERRED,
        EXCLUDE USING gist (span WITH &&, int4range(year, "Größe") range_ops WITH &&) WHERE (year > 0) DEFERRABLE,
        EXCLUDE (text_pattern_ops text_pattern_ops WITH =) WHERE ("true"),
        FOREIGN KEY ("q""x") REFERENCES other ON UPDATE CASCADE ON DELETE SET NULL DEFERRABLE,
        FOREIGN KEY ("Größe", id) REFERENCES other ("Größe", id) MATCH FULL,
        FOREIGN KEY (year) REFERENCES elsewhere NOT VALID,
        FOREIGN KEY ("with ""x"" (") REFERENCES "T.a" (id));
    CREATE INDEX "by (lower)" ON "T.a" (lower(lower), ("Größe" + year) DESC NULLS LAST, year) INCLUDE (id, zone)
        WITH (fillfactor = 70) WHERE year > 0 AND lower <> 'year';
    CREATE UNIQUE INDEX plain ON "T.a" (year, text_pattern_ops text_pattern_ops, lower COLLATE "C" varchar_pattern_ops);
    CREATE INDEX quoted ON "T.a" ("q""x", ("a.b" || ', '), COALESCE(lower, 'a, b')) WHERE "true";
    CREATE INDEX other_on ON other ((id + "Größe"));
"#;

/// What servers know from some version on.
const LATER: [(i64, &str); 3] = [
    (
        150_000,
        r#"ALTER TABLE "T.a" ADD FOREIGN KEY ("q""x") REFERENCES other ON DELETE SET NULL ("q""x");
           CREATE UNIQUE INDEX ON "T.a" (year, lower) NULLS NOT DISTINCT"#,
    ),
    (
        170_000,
        r#"ALTER TABLE "T.a" ADD CHECK (JSON_VALUE(jsonb_build_object('year', year), '$.year' RETURNING text) <> lower);
           ALTER TABLE "T.a" ADD CHECK (JSON_VALUE('{}', '$.a' PASSING year AS year DEFAULT 'lower' ON EMPTY) IS NULL);
           ALTER TABLE "T.a" ADD CHECK (JSON_OBJECT(lower : year RETURNING text) IS JSON OBJECT)"#,
    ),
    (
        180_000,
        r#"ALTER TABLE other ADD UNIQUE (zone, year WITHOUT OVERLAPS);
           ALTER TABLE "T.a" ADD FOREIGN KEY (span, PERIOD year_to) REFERENCES other (zone, PERIOD year);
           ALTER TABLE "T.a" ADD CHECK (year > 7) NOT ENFORCED"#,
    ),
];

/// Columns that are called otherwise; two of them exchange their names.
const COLUMNS: [(&str, &str); 8] = [
    ("lower", "text_pattern_ops"),
    ("text_pattern_ops", "lower"),
    ("year", "Jahr \"x\""),
    ("Größe", "size"),
    ("q\"x", "order"),
    ("true", "is.true"),
    ("twice", "double"),
    ("id", "number"),
];

const RENAME: &str = r#"
    CREATE SCHEMA dw; SET search_path TO "s x";
    ALTER TABLE "T.a" RENAME lower TO tmp; ALTER TABLE "T.a" RENAME text_pattern_ops TO lower;
    ALTER TABLE "T.a" RENAME tmp TO text_pattern_ops; ALTER TABLE "T.a" RENAME year TO "Jahr ""x""";
    ALTER TABLE "T.a" RENAME "Größe" TO size; ALTER TABLE "T.a" RENAME "q""x" TO "order";
    ALTER TABLE "T.a" RENAME "true" TO "is.true"; ALTER TABLE "T.a" RENAME twice TO double;
    ALTER TABLE "T.a" RENAME id TO number;
    ALTER TABLE "T.a" SET SCHEMA dw; ALTER TABLE dw."T.a" RENAME TO "new ""T""";
    ALTER TABLE other RENAME "Größe" TO size; ALTER TABLE other RENAME id TO number;
    ALTER TABLE other RENAME year TO "Jahr ""x""";
    ALTER TABLE other SET SCHEMA dw; ALTER TABLE dw.other RENAME TO "new other";
"#;

/// Every definition of the two tables, whatever they are called.
const DEFINITIONS: &str = r#"
    WITH t AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE nspname IN ('s x', 'dw') AND relkind = 'r' AND relname <> 'elsewhere')
    SELECT x.relname::text AS name, pg_get_indexdef(x.oid) AS definition
    FROM pg_index i JOIN t ON t.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid WHERE NOT i.indisprimary
    UNION ALL SELECT conname, pg_get_constraintdef(o.oid) FROM pg_constraint o JOIN t ON t.oid = o.conrelid
    WHERE contype IN ('u', 'x', 'c', 'f')
    UNION ALL SELECT a.attname, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d JOIN t ON t.oid = d.adrelid
    JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum ORDER BY 1, 2"#;

struct Renaming;

impl Names for Renaming {
    fn table(&self, id: &TableId) -> Option<TableId> {
        Some(TableId::new("dw", format!("new {}", if id.table == "T.a" { "\"T\"" } else { id.table.as_str() })))
    }

    fn column(&self, _: &TableId, column: &str) -> Option<String> {
        let renamed = COLUMNS.iter().find(|(from, _)| *from == column);
        Some(renamed.map_or(column, |(_, to)| to).to_owned())
    }
}

impl Rules for Renaming {
    fn route(&self, table: &Arc<TableSchema>) -> Result<Route, trem_engine::Error> {
        let (mut target, id) = ((**table).clone(), &table.id);
        target.id = self.table(id).unwrap();
        target.columns.iter_mut().for_each(|c| c.name = self.column(id, &c.name).unwrap());
        for column in &mut target.generated {
            column.name = self.column(id, &column.name).unwrap();
            column.expression = column.expression.renamed(id, self).unwrap();
        }
        Route::renamed(Arc::clone(table), Arc::new(target))
    }
}

async fn definitions(db: &Db) -> Vec<(String, String)> {
    // Nothing is found without its schema, so that every name has one.
    db.exec("SET search_path TO pg_catalog").await;
    let text = |column: Option<String>| column.unwrap();
    let rows = db.rows(DEFINITIONS).await.into_iter();
    rows.map(|r| <[_; 2]>::try_from(r).unwrap()).map(|[name, sql]| (text(name), text(sql))).collect()
}

/// What a target of its own makes of the catalogue.
async fn replicate(server: &PgCluster, database: &str, rules: &dyn Rules, catalog: &Catalog) -> Db {
    let db = server.create_database(database).await;
    let elsewhere = "CREATE SCHEMA \"s x\"; CREATE TABLE \"s x\".elsewhere (year int PRIMARY KEY);
                     CREATE SCHEMA lower; CREATE FUNCTION lower.lower(text) RETURNS text LANGUAGE sql IMMUTABLE
                     AS 'SELECT $1'";
    db.exec(elsewhere).await;
    let target = PostgresTarget::new(PgConfig::parse(&server.url(database)).unwrap(), "task");
    let (epoch, _) = target.take_over().await.unwrap();
    let mut lane = target.open_lane(epoch, None).await.unwrap();
    let routes = Routes::of(rules, catalog);
    assert!(routes.refused().is_empty(), "{:?}", routes.refused());
    lane.prepare_types(&catalog.types).await.unwrap();
    for route in routes.all() {
        let table = TableRecord::new(route.source(), route.target(), TableState::Ready);
        lane.prepare(table, None, OnExisting::Refuse).await.unwrap();
    }
    lane.create_secondary(routes.secondary()).await.unwrap();
    db
}

#[tokio::test]
async fn definitions_follow_the_names() {
    follow(PgBinaries::packaged()).await;
}

#[tokio::test]
async fn definitions_of_the_newest_server_follow_too() {
    match PgBinaries::newest() {
        Some(binaries) => follow(binaries).await,
        None => eprintln!("skipped: there is no newer PostgreSQL"),
    }
}

async fn follow(binaries: PgBinaries) {
    let server = PgCluster::start(PgOptions { binaries, ..PgOptions::default() });
    let db = server.create_database("s").await;
    db.exec(TABLES).await;
    let version = db.number("SELECT current_setting('server_version_num')").await;
    for (_, sql) in LATER.iter().filter(|(since, _)| *since <= version) {
        db.exec(sql).await;
    }
    let source = PostgresSource::new(PgConfig::parse(&server.url("s")).unwrap(), "task");
    let globs = |texts: &[&str]| texts.iter().map(|t| Pattern::glob(t).unwrap()).collect();
    let rule = TableRule { include: globs(&["s x.*"]), exclude: globs(&["*.elsewhere"]) };
    let catalog = source.discover(&Selection { rules: vec![rule] }).await.unwrap();
    let before = definitions(&db).await;
    let of_constraints = "SELECT count(*) FROM pg_constraint WHERE contype IN ('u', 'x') \
                          AND conrelid >= 16384";
    let indexes = db.number(of_constraints).await as usize;
    assert_eq!(catalog.secondary.len() + 2 + indexes, before.len(), "two columns are computed");

    let same = replicate(&server, "same", &NoRules, &catalog).await;
    assert_eq!(definitions(&same).await, before);
    let renamed = replicate(&server, "renamed", &Renaming, &catalog).await;
    db.exec(RENAME).await;
    let expected = definitions(&db).await;
    assert_ne!(expected, before);
    assert_eq!(definitions(&renamed).await, expected);
}

/// An expression of another database is not guessed at.
#[tokio::test]
async fn definitions_of_another_dialect_are_left_out() {
    let server = PgCluster::start(PgOptions::default());
    let db = server.create_database("s").await;
    db.exec("CREATE TABLE a (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED)").await;
    db.exec("CREATE INDEX by_n ON a (n)").await;
    let source = PostgresSource::new(PgConfig::parse(&server.url("s")).unwrap(), "task");
    let include = vec![Pattern::glob("public.*").unwrap()];
    let selection = Selection { rules: vec![TableRule { include, exclude: Vec::new() }] };
    let mut catalog = source.discover(&selection).await.unwrap();
    let mut table = (*catalog.tables[0]).clone();
    table.generated[0].expression = Template::verbatim(Dialect::new("mysql"), "`n` * 2");
    catalog.tables[0] = Arc::new(table);
    catalog.secondary[0].ddl.dialect = Dialect::new("mysql");
    let db = replicate(&server, "t", &NoRules, &catalog).await;
    let columns = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
                   WHERE attrelid = 'public.a'::regclass AND attnum > 0";
    assert_eq!(db.one(columns).await, "id n");
    assert_eq!(db.number("SELECT count(*) FROM pg_indexes WHERE indexname = 'by_n'").await, 0);
    let target = PostgresTarget::new(PgConfig::parse(&server.url("t")).unwrap(), "other");
    let said = async || {
        let previews = target.plan(&catalog, &TaskRecord::default(), OnExisting::Keep, true).await.unwrap();
        let of_column = previews[0].findings.iter().filter(|f| f.subject.ends_with("twice"));
        of_column.map(|f| format!("{:?} {}: {}", f.severity, f.subject, f.message)).next()
    };
    let expected = "Warning public.a.twice: the source computes this column as ``n` * 2`, the target table lacks it";
    assert_eq!(said().await.as_deref(), Some(expected));
    db.exec("ALTER TABLE public.a ADD twice int").await;
    assert!(said().await.is_some_and(|text| text.starts_with("Error public.a.twice: ")));
    db.exec("DROP TABLE public.a").await;
    assert!(said().await.is_some_and(|text| text.ends_with("which is not created on the target")));
}
