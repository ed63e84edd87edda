//! What the PostgreSQL source makes of the catalogue: canonical types with their parameters, and what the log may leave
//! out.

use trem_endpoints::postgres::PostgresSource;
use trem_endpoints::postgres::config::PgConfig;
use trem_engine::ports::Source;
use trem_engine::schema::{Length, TableSchema, Type as T};
use trem_engine::task::{Pattern, Selection, TableRule};
use trem_tests::{PgCluster, PgOptions};

use crate::rig::TEXT;

const TABLES: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'it''s'); CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN code AS varchar(10); CREATE DOMAIN codes AS code[]; CREATE DOMAIN spirit AS mood;
    CREATE TABLE t (id bigint PRIMARY KEY, n numeric, n2 numeric(10,2), n3 numeric(3,5), v varchar(20), v0 varchar,
        c char(3), b bit(3), vb bit varying(8), t0 time(0), ts timestamp, tz timestamptz(3), i interval(2), x xml,
        m mood, s spirit, d code, ds codes, na numeric(5,1)[][], ma mood[], j jsonb, p pair, ip inet, tt timetz(1),
        cc \"char\", o oidvector, by bytea);
    ALTER TABLE t ALTER j SET STORAGE PLAIN;
    CREATE TABLE whole (id bigint PRIMARY KEY, v text); ALTER TABLE whole REPLICA IDENTITY FULL";

#[tokio::test]
async fn columns_are_what_the_catalogue_says() {
    let server = PgCluster::start(PgOptions::default());
    let db = server.create_database("s").await;
    db.exec(TABLES).await;
    let source = PostgresSource::new(PgConfig::parse(&server.url("s")).unwrap(), "types");
    let include = vec![Pattern::glob("public.*").unwrap()];
    let selection = Selection { rules: vec![TableRule { include, exclude: Vec::new() }] };
    let catalog = source.discover(&selection).await.unwrap();
    let [t, whole] = catalog.tables.as_slice() else { panic!("{catalog:?}") };

    let mood = || T::Enum(vec!["sad".to_owned(), "it's".to_owned()]);
    let array = |ty| T::Array(Box::new(ty));
    let named = |n: &str| T::Named(n.to_owned());
    let code = || T::Text(Length::AtMost(10));
    let want = [
        ("id", T::Int64, false),
        ("n", T::Decimal(None), true),
        ("n2", T::Decimal(Some((10, 2))), true),
        ("n3", T::Decimal(Some((3, 5))), true),
        ("v", T::Text(Length::AtMost(20)), true),
        ("v0", TEXT, true),
        ("c", T::Text(Length::Exactly(3)), true),
        ("b", T::Bit(Length::Exactly(3)), true),
        ("vb", T::Bit(Length::AtMost(8)), true),
        ("t0", T::Time(0), false),
        ("ts", T::Timestamp(6), false),
        ("tz", T::TimestampTz(3), false),
        ("i", T::Interval, false),
        ("x", T::Xml, true),
        ("m", mood(), false),
        ("s", mood(), false),
        ("d", code(), true),
        ("ds", array(code()), true),
        ("na", array(T::Decimal(Some((5, 1)))), true),
        ("ma", array(mood()), true),
        ("j", T::Json, false),
        ("p", named("public.pair"), true),
        ("ip", named("inet"), true),
        ("tt", named("time with time zone"), false),
        ("cc", named("\"char\""), false),
        ("o", named("oidvector"), false),
        ("by", T::Binary(Length::Unlimited), true),
    ];
    let found: Vec<_> = t.columns.iter().map(|c| (c.name.as_str(), c.ty.clone(), c.omissible)).collect();
    assert_eq!(found, want);
    assert_eq!(t.columns[2].native.name, "numeric(10,2)");
    assert_eq!(t.native_id, db.one("SELECT 't'::regclass::oid::text").await.parse().ok());
    assert!(whole.columns.iter().all(|c| !c.omissible), "the log has whole old rows");
    assert!(catalog.types.iter().all(|ty| ty.dialect == t.columns[0].native.dialect) && !catalog.types.is_empty());

    // What a record keeps of it is the same again.
    let stored = serde_json::to_string(&**t).unwrap();
    assert_eq!(serde_json::from_str::<TableSchema>(&stored).unwrap(), **t);
}
