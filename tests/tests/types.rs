//! Every type, every edge value: loaded and streamed, the text on both sides is the same.

use trem_tests::{World, wait_equal};

use crate::PATIENCE;

/// A type, the statements that make it, and its edge values as literals.
type Case = (&'static str, &'static [&'static str]);

/// Types that travel in binary: a task of these alone streams in binary.
const NATIVE: &[Case] = &[
    ("int2", &["-32768", "32767", "0"]),
    ("int4", &["-2147483648", "2147483647", "0"]),
    ("int8", &["-9223372036854775808", "9223372036854775807", "0"]),
    ("float4", &["NaN", "Infinity", "-Infinity", "1e-45", "-3.4028235e38", "-0", "0", "0.1"]),
    ("float8", &["NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e308", "-0", "0", "0.30000000000000004"]),
    (
        "numeric",
        &[
            "NaN",
            "0",
            "0.00",
            "1.50",
            "-1.5",
            "10000",
            "9999.9999",
            "0.0001",
            "100000000",
            "1e-30",
            "-1e40",
            "12345678901234567890123456789012345678901234567890.123456789012345678901234567890123456789",
        ],
    ),
    ("numeric(10,2)", &["99999999.99", "-0.01", "NaN", "0"]),
    ("bool", &["t", "f"]),
    ("text", &["", " ", "\\N", "\\.", "a\tb\nc\rd", "quote ' \" \\", "Größe 表 🐘", "{x,NULL}", "(1,)", "NULL"]),
    ("varchar(7)", &["", "1234567", "sieben "]),
    ("char(5)", &["", "ab", "abcde"]),
    ("name", &["", "a name", "Ünicode"]),
    ("bytea", &["", "\\x00", "\\xdeadbeef00ff5c", "\\x5c5c"]),
    ("date", &["infinity", "-infinity", "4713-11-24 BC", "5874897-12-31", "2000-02-29", "1970-01-01", "0001-01-01"]),
    ("time", &["00:00", "24:00:00", "23:59:59.999999"]),
    ("time(2)", &["12:34:56.789"]),
    (
        "timestamp",
        &[
            "infinity",
            "-infinity",
            "4714-11-24 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "1969-12-31 23:59:59.999999",
            "294247-01-10 04:00:54.775808",
            "2000-01-01 00:00:00",
            "0001-12-31 23:59:59 BC",
        ],
    ),
    (
        "timestamptz",
        &[
            "infinity",
            "-infinity",
            "4714-11-24 00:00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "2026-03-29 01:59:59.000001+05:45",
            "1883-11-18 12:03:58-04:56:02",
        ],
    ),
    ("timestamptz(0)", &["2026-01-01 00:00:00.6+00"]),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    ("json", &["{\"b\": 1,   \"a\":2, \"b\":3}", "null", "[1e400, \"\\u00e9\"]", "  {}  ", "\"\\\\\""]),
    ("jsonb", &["{\"b\": 1, \"a\": {\"x\": [1, null, 1.50]}}", "null", "[]", "\"\\\\ \\\" é\"", "1e100"]),
];

/// Types that travel as canonical text.
const OTHER: &[Case] = &[
    ("\"char\"", &["a", "", "\\"]),
    ("timetz", &["24:00:00+15:59", "00:00:00-15:59:59", "12:00:00.000001+00"]),
    ("interval", &["178000000 years", "-178000000 years", "1 mon -1 day 00:00:00.000001", "0", "-1 year 400:00:00"]),
    ("interval day to second(3)", &["3 days 04:05:06.789"]),
    ("xml", &["<a b=\"c\">d &amp; e</a>", "text <b/> text", ""]),
    ("bit(9)", &["000000000", "101010101"]),
    ("varbit", &["", "1", "0000000000000000000000000000000000000000000000000000000000000000001"]),
    ("inet", &["127.0.0.1", "10.1.2.3/8", "::1", "2001:db8::/32", "0.0.0.0/0"]),
    ("cidr", &["10.0.0.0/8", "::/0", "2001:db8::/32"]),
    ("macaddr", &["08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("money", &["-92233720368547758.08", "92233720368547758.07", "0", "1234.56"]),
    ("point", &["(1,2)", "(NaN,-Infinity)", "(-0,1e-300)"]),
    ("line", &["{1,2,3}"]),
    ("lseg", &["[(1,2),(3,4)]"]),
    ("box", &["(3,4),(1,2)"]),
    ("path", &["[(1,2),(3,4)]", "((1,2),(3,4))"]),
    ("polygon", &["((0,0),(1,1.5),(2,0))"]),
    ("circle", &["<(1,2),3>"]),
    ("tsvector", &["", "'a':1A,3B 'it''s':2 '\\\\':4"]),
    ("tsquery", &["'a' & !'b' | 'c':*AB", "'it''s' <-> 'x'"]),
    ("int4range", &["empty", "[1,5)", "(,)", "[,7)"]),
    ("int8range", &["[9223372036854775806,)"]),
    ("numrange", &["[1.50,2.0]", "(NaN,)", "empty"]),
    ("tsrange", &["[2026-01-01,infinity)", "[\"-infinity\",\"4713-01-01 BC\")"]),
    ("tstzrange", &["[2026-01-01 00:00:00+02,)"]),
    ("daterange", &["[2026-01-01,2026-02-01)", "(,infinity)"]),
    ("int4multirange", &["{}", "{[1,3),[5,)}"]),
    ("nummultirange", &["{[1.5,2.50]}"]),
    ("datemultirange", &["{(,2026-01-01)}"]),
    ("pg_lsn", &["0/0", "FFFFFFFF/FFFFFFFF"]),
    ("oid", &["0", "4294967295"]),
    ("xid8", &["18446744073709551615"]),
    ("tid", &["(4294967295,65535)"]),
    ("jsonpath", &["$.\"a\"[*]?(@ > 1)"]),
    ("regtype", &["integer", "-"]),
    ("mood", &["", "it's \"ok\"", "a,b {c}", "Größe"]),
    ("positive", &["1", "2147483647"]),
    ("shout", &["A", "ÄÖ"]),
    ("address", &["(,,)", "(\"Main St, 1\",5,\"{1,2}\")", "(\"quote \"\"x\"\" \\\\ y\",,)", "(\"\",-1,{})"]),
    ("person", &["(Ann,\"(\"\"Main, 2\"\",7,)\",\"it's \"\"ok\"\"\")", "(,,)"]),
    ("span", &["[1.5,2.5)", "empty"]),
    ("spans", &["{[1.5,2.5)}"]),
];

/// Types of extensions, which a build may lack: extension, type, values.
const EXTENSIONS: &[(&str, Case)] = &[
    ("hstore", ("hstore", &["", "a=>1, \"b c\"=>NULL, \"quote\\\"\"=>\"x=>y\""])),
    ("citext", ("citext", &["", "MiXed", "Größe"])),
    ("ltree", ("ltree", &["", "a.b.C"])),
    ("cube", ("cube", &["(1,2,3)", "(0,0),(1,1)"])),
];

const DEFINITIONS: &str = "
CREATE TYPE mood AS ENUM ('', 'it''s \"ok\"', 'a,b {c}', 'Größe');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN shout AS text CHECK (VALUE = upper(VALUE));
CREATE TYPE address AS (street text, number int, flats int[]);
CREATE TYPE person AS (name varchar(20), home address, state mood);
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = spans);
";

/// The table of the n-th case: a key, the value, an array of it.
fn create(n: usize, case: &Case, prefix: &str, key: &str) -> String {
    let (name, values) = case;
    let table = format!("{prefix}{n}");
    let mut sql = format!("CREATE TABLE {table} (id int {key}, v {name}, a {name}[]);\n");
    for (i, value) in values.iter().enumerate() {
        sql.push_str(&format!("INSERT INTO {table} VALUES ({i}, $q${value}$q$);\n"));
    }
    sql.push_str(&format!(
        "INSERT INTO {table} VALUES (100, NULL, NULL), (101, NULL, '{{}}');
         INSERT INTO {table} VALUES (102, NULL, array_fill(NULL::{name}, '{{2}}', '{{-3}}'));
         INSERT INTO {table} SELECT 103, NULL, array_agg(v ORDER BY id) FROM {table};
         INSERT INTO {table} SELECT 104, NULL, ARRAY[a, a] FROM {table} WHERE id = 103;\n"
    ));
    sql
}

/// The same values again, by way of the log; then updates and deletes of them.
fn change(n: usize, prefix: &str) -> String {
    let table = format!("{prefix}{n}");
    format!(
        "INSERT INTO {table} SELECT id + 1000, v, a FROM {table};
         INSERT INTO {table} SELECT id + 3000, v, a FROM {table} WHERE id < 1000;
         UPDATE {table} SET v = (SELECT v FROM {table} WHERE id = 0), a = NULL WHERE id BETWEEN 3100 AND 3102;
         UPDATE {table} SET id = id + 8000 WHERE id BETWEEN 1000 AND 1002;
         DELETE FROM {table} WHERE id IN (1, 101, 1101, 3001);\n"
    )
}

/// A world with a table for each case, and how many there are.
async fn all_types(mut world: World) -> (World, usize) {
    let mut cases = NATIVE.to_vec();
    let mut extensions = String::new();
    for (extension, case) in EXTENSIONS {
        let sql = format!("SELECT count(*) FROM pg_available_extensions WHERE name = '{extension}'");
        if world.source.one(&sql).await == "1" {
            extensions.push_str(&format!("CREATE EXTENSION {extension};"));
            cases.push(*case);
        }
    }
    let no_xml = world.source.try_exec("SELECT '<a/>'::xml").await.is_err();
    cases.extend(OTHER.iter().filter(|(name, _)| *name != "xml" || !no_xml));
    if world.cluster.major() >= 15 {
        cases.push(("numeric(3,-2)", &["12300", "-99900"]));
        cases.push(("numeric", &["Infinity", "-Infinity"]));
    }
    if world.cluster.major() >= 17 {
        cases.push(("interval", &["infinity", "-infinity"]));
    }
    world.source.exec(&format!("{extensions}{DEFINITIONS}")).await;
    // What an extension brings is the operator's to install.
    world.target.exec(&extensions).await;
    world.configure(|c| c.include = vec!["public.*".into()]);
    for (n, case) in cases.iter().enumerate() {
        world.source.exec(&create(n, case, "ty_", "PRIMARY KEY")).await;
    }
    (world, cases.len())
}

/// Declared types are the same on both sides.
async fn assert_same_types(world: &World) {
    let sql = "SELECT string_agg(format('%s.%s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod)), \
               E'\\n' ORDER BY attrelid::regclass::text, attname) FROM pg_attribute \
               WHERE attnum > 0 AND NOT attisdropped AND attrelid::regclass::text LIKE 'ty\\_%' \
               AND NOT attrelid::regclass::text LIKE \
               '%pkey'";
    assert_eq!(world.source.one(sql).await, world.target.one(sql).await);
}

async fn load_then_stream(world: World, count: usize) {
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.ty\\_%"]).await;
    assert_same_types(&world).await;
    let mut running = world.trem.start();
    for n in 0..count {
        world.source.exec(&change(n, "ty_")).await;
    }
    wait_equal(&world.source, &world.target, &["public.ty\\_%"], &mut running, PATIENCE).await;
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_the_same_on_both_paths() {
    let (world, count) = all_types(World::one().await).await;
    load_then_stream(world, count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_the_same_on_both_paths_on_the_newest_server() {
    let Some(world) = World::newest().await else { return };
    let (world, count) = all_types(world).await;
    load_then_stream(world, count).await;
}

/// With types that have a binary form only, the log is read in binary.
#[tokio::test(flavor = "multi_thread")]
async fn native_types_are_the_same_on_the_binary_path() {
    let world = World::one().await;
    for (n, case) in NATIVE.iter().enumerate() {
        let sql = create(n, case, "ty_", "PRIMARY KEY");
        world.source.exec(&format!("{sql}; ALTER TABLE ty_{n} DROP COLUMN a")).await;
    }
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.ty\\_%"]).await;
    assert_same_types(&world).await;
    let mut running = world.trem.start();
    for n in 0..NATIVE.len() {
        world.source.exec(&change(n, "ty_").replace(", v, a ", ", v ").replace(", a = NULL", "")).await;
    }
    wait_equal(&world.source, &world.target, &["public.ty\\_%"], &mut running, PATIENCE).await;
    running.stop(PATIENCE).expect(0);
}

/// Without a key a row is found by all its values, whatever their types; equal ones are told apart by number only.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_every_type_are_found_by_their_values() {
    let (world, count) = all_types(World::one().await).await;
    for n in 0..count {
        world
            .source
            .exec(&format!(
                "ALTER TABLE ty_{n} DROP CONSTRAINT ty_{n}_pkey, ALTER id DROP NOT NULL, REPLICA IDENTITY FULL;
                 INSERT INTO ty_{n} SELECT id % 3, v, a FROM ty_{n}"
            ))
            .await;
    }
    world.trem.until_current().expect(0);
    let mut running = world.trem.start();
    for n in 0..count {
        world
            .source
            .exec(&format!(
                "DELETE FROM ty_{n} WHERE ctid IN (SELECT min(ctid) FROM ty_{n} WHERE id < 3 GROUP BY id);
                 UPDATE ty_{n} SET id = id + 5 WHERE id % 2 = 0; UPDATE ty_{n} SET a = NULL WHERE id > 100;
                 DELETE FROM ty_{n} WHERE id IS NULL OR id = 1"
            ))
            .await;
    }
    wait_equal(&world.source, &world.target, &["public.ty\\_%"], &mut running, PATIENCE).await;
    running.stop(PATIENCE).expect(0);
}

/// Values that need pages of their own: the longest numbers, and texts beyond any buffer.
#[tokio::test(flavor = "multi_thread")]
async fn long_values_arrive_whole() {
    let world = World::one().await;
    world
        .source
        .exec(
            "CREATE DOMAIN amounts AS numeric[];
             CREATE TABLE ty_long (id int PRIMARY KEY, n numeric, t text, b bytea, j jsonb, v int2vector DEFAULT '1 2',
                 o oidvector DEFAULT '', a amounts DEFAULT '{1.50,NULL}');
             INSERT INTO ty_long VALUES
                 (1, repeat('9', 131072)::numeric, repeat('é', 3000000), decode(repeat('00ff', 4000000), 'hex'), NULL),
                 (2, ('0.' || repeat('1', 16383))::numeric, repeat(E'\\\\\\n\\t', 500000), '', to_jsonb(repeat('x', \
                 5000000)));",
        )
        .await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.ty_long"]).await;
    let mut running = world.trem.start();
    world.source.exec("INSERT INTO ty_long SELECT id + 10, -n, t, b, j, v, o, a FROM ty_long").await;
    world.source.exec("UPDATE ty_long SET n = 0 WHERE id > 10; UPDATE ty_long SET t = b::text WHERE id = 1").await;
    wait_equal(&world.source, &world.target, &["public.ty_long"], &mut running, PATIENCE).await;
    running.stop(PATIENCE).expect(0);
}
