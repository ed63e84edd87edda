//! Values of MariaDB in PostgreSQL: what a load brings and what changes bring is the same, and is what the source has.

use crate::mariadb::across;

/// Tables, what is done to them, and what the target has then, in the order of the first column.
pub struct Case {
    pub create: &'static str,
    /// Statements; `DB` stands for the database.
    pub change: &'static str,
    pub table: &'static str,
    columns: &'static str,
    rows: &'static [&'static str],
}

pub const CASES: &[Case] = &[
    // Unsigned numbers above what a sign leaves room for, in the key as well.
    Case {
        create: "CREATE TABLE u64 (id BIGINT UNSIGNED PRIMARY KEY, a TINYINT UNSIGNED, b SMALLINT UNSIGNED, \
                 c MEDIUMINT UNSIGNED, d INT UNSIGNED)",
        change: "INSERT INTO u64 VALUES (1,255,65535,16777215,4294967295), (9223372036854775807,0,0,0,0), \
                   (9223372036854775808,128,32768,8388608,2147483648), \
                   (18446744073709551614,200,33000,8888607,2247483647), (5,1,1,1,1), \
                   (18446744073709551615,255,65535,16777215,4294967295); \
                 UPDATE u64 SET d=7 WHERE id=18446744073709551614; DELETE FROM u64 WHERE id=9223372036854775808",
        table: "u64",
        columns: "id, a, b, c, d",
        rows: &[
            "1 255 65535 16777215 4294967295",
            "5 1 1 1 1",
            "9223372036854775807 0 0 0 0",
            "18446744073709551614 200 33000 8888607 7",
            "18446744073709551615 255 65535 16777215 4294967295",
        ],
    },
    Case {
        create: "CREATE TABLE i (id INT PRIMARY KEY, a TINYINT, b SMALLINT, c MEDIUMINT, d INT, e BIGINT)",
        change: "INSERT INTO i VALUES (1,-128,-32768,-8388608,-2147483648,-9223372036854775808), \
                   (2,127,32767,8388607,2147483647,9223372036854775807), (3,-1,-1,-1,-1,-1), \
                   (4,NULL,NULL,NULL,NULL,NULL)",
        table: "i",
        columns: "id, a, b, c, d, e",
        rows: &[
            "1 -128 -32768 -8388608 -2147483648 -9223372036854775808",
            "2 127 32767 8388607 2147483647 9223372036854775807",
            "3 -1 -1 -1 -1 -1",
            "4 - - - - -",
        ],
    },
    // The fraction of a negative time is the complement of the whole number.
    Case {
        create: "CREATE TABLE tm (id INT PRIMARY KEY, a TIME(2), b TIME(1), c TIME(4), d TIME(6), e TIME)",
        change: "INSERT INTO tm VALUES (1,'-00:00:00.01','-00:00:00.1','-00:00:00.0001',\
                   '-00:00:00.000001','-00:00:01'), \
                   (2,'-838:59:58.99','-838:59:58.9','-838:59:58.9999','-838:59:58.999999','-838:59:59'), \
                   (3,'838:59:59','838:59:59','838:59:59','838:59:59','838:59:59'), \
                   (4,'-00:00:01.00','-00:00:01.0','0','-12:30:01.25','24:00:00'); \
                 UPDATE tm SET a='-16:08:04.01', d='-16:08:04.010123' WHERE id=4",
        table: "tm",
        columns: "id, a, b, c, d, e",
        rows: &[
            "1 -00:00:00.01 -00:00:00.1 -00:00:00.0001 -00:00:00.000001 -00:00:01",
            "2 -838:59:58.99 -838:59:58.9 -838:59:58.9999 -838:59:58.999999 -838:59:59",
            "3 838:59:59 838:59:59 838:59:59 838:59:59 838:59:59",
            "4 -16:08:04.01 -00:00:01 00:00:00 -16:08:04.010123 24:00:00",
        ],
    },
    // No year is 1900.
    Case {
        create: "CREATE TABLE yz (id INT PRIMARY KEY, y YEAR, d DATE, dt DATETIME(3), ts TIMESTAMP(6) NULL)",
        change: "INSERT INTO yz VALUES (1,0,'1000-01-01','9999-12-31 23:59:59.999','2038-01-19 03:14:07'), \
                   (2,'0','2024-02-29','2000-01-01','1970-01-01 00:00:01.000001'), \
                   (3,1901,'9999-12-31','1000-01-01 00:00:00.001',NULL), (4,2155,NULL,NULL,'1999-12-31 23:59:59.5')",
        table: "yz",
        columns: "id, y, d, dt, ts",
        rows: &[
            "1 0 1000-01-01 9999-12-31 23:59:59.999 2038-01-19 03:14:07+00",
            "2 2000 2024-02-29 2000-01-01 00:00:00 1970-01-01 00:00:01.000001+00",
            "3 1901 9999-12-31 1000-01-01 00:00:00.001 -",
            "4 2155 - - 1999-12-31 23:59:59.5+00",
        ],
    },
    // The character set is the column's; the server's latin1 is not the standard's.
    Case {
        create: "CREATE TABLE cs (id INT PRIMARY KEY, l VARCHAR(20) CHARACTER SET latin1, \
                   c VARCHAR(20) CHARACTER SET cp1251, g VARCHAR(20) CHARACTER SET gbk, \
                   s VARCHAR(20) CHARACTER SET sjis, u3 VARCHAR(20) CHARACTER SET utf8mb3, \
                   u16 VARCHAR(20) CHARACTER SET utf16, u4 TEXT CHARACTER SET utf8mb4, k CHAR(5) CHARACTER SET latin1, \
                   e ENUM('é','ü€') CHARACTER SET latin1, st SET('ñ','ß') CHARACTER SET latin1, \
                   raw VARCHAR(20) CHARACTER SET binary)",
        change: "INSERT INTO cs VALUES (1,'é€Œ','Жук','中文','日本ー','漢字','😀é','😀é','ab  ','ü€','ñ,ß',x'00ff41'); \
                 INSERT INTO cs(id,l) VALUES (2,CONVERT(x'8d8f90' USING latin1)); UPDATE cs SET id=3 WHERE id=1",
        table: "cs",
        columns: "id, l, c, g, s, u3, u16, u4, k, e, st, raw",
        rows: &["2 \u{8d}\u{8f}\u{90} - - - - - - - - - -", "3 é€Œ Жук 中文 日本ー 漢字 😀é 😀é ab ü€ ñ,ß \\x00ff41"],
    },
    // The log leaves zero bytes at the end out, of keys too.
    Case {
        create: "CREATE TABLE bn (id BINARY(4) PRIMARY KEY, v VARBINARY(4), w BINARY(3))",
        change: "INSERT INTO bn VALUES (x'01020000',x'0100',x'41'),(x'00000000','',''),(x'01','\\0',x'4100'); \
                 UPDATE bn SET v=x'0000' WHERE id=x'01020000'; DELETE FROM bn WHERE id=x'00000000'; \
                 INSERT INTO bn VALUES (x'00000000',x'09',x'09')",
        table: "bn",
        columns: "id, v, w",
        rows: &["\\x00000000 \\x09 \\x090000", "\\x01000000 \\x00 \\x410000", "\\x01020000 \\x0000 \\x410000"],
    },
    // Six digits are not all of a FLOAT.
    Case {
        create: "CREATE TABLE fl (id INT PRIMARY KEY, f FLOAT, f2 FLOAT(10,3), d DOUBLE)",
        change: "INSERT INTO fl VALUES (1,1.234567,0.0005,0.1),(2,16777216,123.4565,0), \
                   (3,3.40282346e38,-99999.9995,1.7976931348623157e308),(4,1e-45,0,5e-324); \
                   UPDATE fl SET d=d+1 WHERE id=1",
        table: "fl",
        columns: "id, f, d",
        rows: &["1 1.234567 1.1", "2 1.6777216e+07 0", "3 3.4028235e+38 1.7976931348623157e+308", "4 1e-45 5e-324"],
    },
    // TINYINT(1) is a number, and BIT is none.
    Case {
        create: "CREATE TABLE tb (id INT PRIMARY KEY, t TINYINT(1), u TINYINT(1) UNSIGNED, b1 BIT(1), \
                   b9 BIT(9), b64 BIT(64))",
        change: "INSERT INTO tb VALUES (1,2,255,b'1',b'111111111',0xFFFFFFFFFFFFFFFF),(2,-1,0,b'0',1,1), \
                   (3,NULL,NULL,NULL,NULL,NULL),(4,-128,2,1,256,9223372036854775808)",
        table: "tb",
        columns: "id, t, u, b1, b9, to_hex(b64::bigint)",
        rows: &[
            "1 2 255 1 111111111 ffffffffffffffff",
            "2 -1 0 0 000000001 1",
            "3 - - - - -",
            "4 -128 2 1 100000000 8000000000000000",
        ],
    },
    Case {
        create: "CREATE TABLE dc (id INT PRIMARY KEY, a DECIMAL(65,30), b DECIMAL(5,2), \
                   c DECIMAL(10,0), d DECIMAL(9,9))",
        change: "INSERT INTO dc VALUES (1, 99999999999999999999999999999999999.999999999999999999999999999999, -0.05, \
                   -1234567890, 0.000000001), (2, -0.000000000000000000000000000001, 999.99, 0, -0.999999999), \
                   (3, 0, 1.5, 9999999999, 0)",
        table: "dc",
        columns: "id, a, b, c, d",
        rows: &[
            "1 99999999999999999999999999999999999.999999999999999999999999999999 -0.05 -1234567890 0.000000001",
            "2 -0.000000000000000000000000000001 999.99 0 -0.999999999",
            "3 0.000000000000000000000000000000 1.50 9999999999 0.000000000",
        ],
    },
    // What is no label has the number 0. MariaDB keeps JSON as it was written.
    Case {
        create: "CREATE TABLE en (id INT PRIMARY KEY, e ENUM('val1','it''s'), s SET('a','b','c'), j JSON, u UUID)",
        change: "SET sql_mode=''; INSERT INTO en VALUES (1,'val1','a,c','{\"b\":1, \"a\": 1.50}', \
                   '123e4567-e89b-12d3-a456-426655440000'), (2,'nonsense','',NULL,NULL), (3,'it''s',NULL,'[]',NULL); \
                 SET sql_mode=DEFAULT",
        table: "en",
        columns: "id, e, s, j, u",
        rows: &["1 val1 a,c {\"b\":1, \"a\": 1.50} 123e4567-e89b-12d3-a456-426655440000", "2   - -", "3 it's - [] -"],
    },
    // One key to the source, whatever its spelling; and keys that change places.
    Case {
        create: "CREATE TABLE ci (k VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, n INT)",
        change: "INSERT INTO ci VALUES ('abc',1),('straße',2); UPDATE ci SET k='ABC' WHERE k='abc'; \
                 REPLACE INTO ci VALUES ('aBc',5); BEGIN; UPDATE ci SET n=7 WHERE k='ABC'; \
                   DELETE FROM ci WHERE k='ABC'; \
                 INSERT INTO ci VALUES ('Abc',8); COMMIT",
        table: "ci",
        columns: "k, n",
        rows: &["Abc 8", "straße 2"],
    },
    Case {
        create: "CREATE TABLE sw (id INT PRIMARY KEY, v VARCHAR(3))",
        change: "INSERT INTO sw VALUES (1,'a'),(2,'b'),(3,'c'); BEGIN; UPDATE sw SET id=-1 WHERE id=1; \
                 UPDATE sw SET id=1 WHERE id=2; UPDATE sw SET id=2 WHERE id=-1; \
                   UPDATE sw SET id=id+10 ORDER BY id DESC; COMMIT",
        table: "sw",
        columns: "id, v",
        rows: &["11 b", "12 a", "13 c"],
    },
    // What the server computes, and what it hides.
    Case {
        create: "CREATE TABLE g (id INT PRIMARY KEY, a INT, v INT AS (a * 2) VIRTUAL, \
                   p VARCHAR(20) AS (concat('x', a)) PERSISTENT, hidden INT INVISIBLE DEFAULT 7)",
        change: "INSERT INTO g (id, a) VALUES (1, 5), (2, NULL); UPDATE g SET a = 6 WHERE id = 1",
        table: "g",
        columns: "id, a, v, p, hidden",
        rows: &["1 6 12 x6 7", "2 - - - 7"],
    },
    // Names of any kind.
    Case {
        create: "CREATE TABLE `t``x'y\"z.ü select` (`id.1` INT PRIMARY KEY, `order` VARCHAR(5), `SELECT` INT, \
                   `ключ` INT, \
                 `Mixed` INT, `per%cent` INT)",
        change: "INSERT INTO `t``x'y\"z.ü select` VALUES (1,'x',2,3,4,5); UPDATE `t``x'y\"z.ü select` SET `SELECT`=9",
        table: "t`x'y\"z.ü select",
        columns: "\"id.1\", \"order\", \"SELECT\", \"ключ\", \"Mixed\", \"per%cent\"",
        rows: &["1 x 9 3 4 5"],
    },
    // Rows that nothing tells apart.
    Case {
        create: "CREATE TABLE nk (a INT, b VARCHAR(5))",
        change: "INSERT INTO nk VALUES (1,'x'),(1,'x'),(2,NULL),(3,'z'); UPDATE nk SET b='y' WHERE a=1 LIMIT 1; \
                 DELETE FROM nk WHERE a=2",
        table: "nk",
        columns: "a, b",
        rows: &["1 x", "1 y", "3 z"],
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn values_come_through_loads_and_changes_alike() {
    let world = across(&["loaded.*", "changed.*"]).await;
    world.source.exec("CREATE DATABASE changed; CREATE TABLE changed.first (id INT PRIMARY KEY)").await;
    for database in ["loaded", "changed"] {
        world.source.exec(&format!("CREATE DATABASE IF NOT EXISTS {database}; USE {database}")).await;
        for case in CASES {
            world.source.exec(case.create).await;
        }
        let change = async || {
            for case in CASES {
                world.source.exec(case.change).await;
            }
        };
        if database == "loaded" {
            change().await;
            world.trem.until_current().expect(0);
        } else {
            world.trem.until_current().expect(0);
            change().await;
            world.trem.until_current().expect(0).never_says("rows_loaded=0 changes=0");
        }
        for case in CASES {
            let table = case.table.replace('"', "\"\"");
            let sql = format!(
                "SELECT {} FROM {database}.\"{table}\" ORDER BY 1, {}",
                case.columns,
                case.columns.split(", ").nth(1).unwrap()
            );
            let rows = world.target.rows(&sql).await;
            let text = |row: &Vec<Option<String>>| {
                row.iter().map(|value| value.clone().unwrap_or("-".into())).collect::<Vec<_>>().join(" ")
            };
            let rows: Vec<String> = rows.iter().map(text).collect();
            assert_eq!(rows, case.rows, "{database}: {}", case.create);
        }
    }
}

/// Character sets of one byte, and of up to two.
const CHARSETS: &[(&str, bool)] = &[
    ("armscii8", false),
    ("cp1250", false),
    ("cp1251", false),
    ("cp1256", false),
    ("cp1257", false),
    ("cp850", false),
    ("cp852", false),
    ("cp866", false),
    ("dec8", false),
    ("geostd8", false),
    ("greek", false),
    ("hebrew", false),
    ("hp8", false),
    ("keybcs2", false),
    ("koi8r", false),
    ("koi8u", false),
    ("latin1", false),
    ("latin2", false),
    ("latin5", false),
    ("latin7", false),
    ("macce", false),
    ("macroman", false),
    ("swe7", false),
    ("tis620", false),
    ("gbk", true),
    ("gb2312", true),
    ("big5", true),
    ("sjis", true),
    ("cp932", true),
    ("ujis", true),
    ("eucjpms", true),
    ("euckr", true),
    ("ucs2", true),
    ("utf16", true),
    ("utf16le", true),
];

/// Every character of every set that the log can be read in is the one that the server makes of it.
#[tokio::test(flavor = "multi_thread")]
async fn every_character_is_the_servers() {
    let world = across(&["shop.*"]).await;
    world.source.exec("CREATE DATABASE shop; USE shop").await;
    for (charset, _) in CHARSETS {
        for how in ["loaded", "changed"] {
            world
                .source
                .exec(&format!(
                    "CREATE TABLE {how}_{charset} (id INT PRIMARY KEY, v VARCHAR(4) CHARACTER SET {charset})"
                ))
                .await;
        }
    }
    let fill = async |how: &str| {
        for (charset, wide) in CHARSETS {
            // No byte is zero where it would be a character, and half a character is none.
            let which = match (wide, charset.starts_with('u') && *charset != "ujis") {
                (false, _) => "seq < 256",
                (true, false) => "seq > 33088 AND seq % 256 >= 48",
                (true, true) => "seq NOT BETWEEN 55296 AND 57343 AND seq % 256 NOT BETWEEN 216 AND 223",
            };
            let sql = format!(
                "INSERT IGNORE INTO {how}_{charset} SELECT seq, CHAR(seq USING {charset}) FROM seq_1_to_65535 \
                 WHERE {which} AND CHAR(seq USING {charset}) IS NOT NULL"
            );
            world.source.exec(&sql).await;
        }
    };
    fill("loaded").await;
    world.trem.until_current().expect(0);
    fill("changed").await;
    let ended = world.trem.until_current();
    let mut wrong = Vec::new();
    for (charset, _) in CHARSETS {
        let sql = format!(
            "SELECT count(*)::text, min(to_hex(id)), max(to_hex(id)) \
             FROM shop.loaded_{charset} l FULL JOIN shop.changed_{charset} c USING (id) WHERE l.v IS DISTINCT FROM c.v"
        );
        let row = world.target.rows(&sql).await.remove(0);
        if row[0].as_deref() != Some("0") {
            wrong.push(format!("{charset}: {row:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), ended.stderr);
    ended.expect(0);
}

/// A date that is in no calendar suspends its table, in a load and in changes.
#[tokio::test(flavor = "multi_thread")]
async fn dates_of_no_calendar_are_told() {
    let world = across(&["shop.*"]).await;
    world.source.exec("CREATE DATABASE shop; USE shop; SET sql_mode = ''").await;
    world.source.exec("CREATE TABLE l (id INT PRIMARY KEY, d DATE); INSERT INTO l VALUES (1, '0000-00-00')").await;
    world.source.exec("CREATE TABLE c (id INT PRIMARY KEY, d DATETIME, ts TIMESTAMP NULL)").await;
    world.trem.until_current().expect(3).says(&["shop.l", "0000-00-00 is in no calendar", "column d"]);
    world.source.exec("INSERT INTO c VALUES (1, '2023-02-31', NULL)").await;
    world.trem.until_current().expect(3).says(&["shop.c", "0000-00-00 is in no calendar", "column d"]);
    world.source.exec("UPDATE c SET d = NULL; INSERT INTO c VALUES (2, NULL, '0000-00-00')").await;
    world.trem.command(&["reload", "--task", "t", "--table", "shop.c"]).expect(0);
    world.trem.until_current().expect(3).says(&["shop.c", "0000-00-00 is in no calendar", "column ts"]);
    world.source.exec("DELETE FROM c WHERE id = 2; UPDATE l SET d = '2024-02-29'").await;
    for table in ["shop.c", "shop.l"] {
        world.trem.command(&["reload", "--task", "t", "--table", table]).expect(0);
    }
    world.trem.until_current().expect(0);
    assert_eq!(world.target.one("SELECT d::text FROM shop.l").await, "2024-02-29");
    assert_eq!(world.target.one("SELECT count(*)::text FROM shop.c").await, "1");
}
