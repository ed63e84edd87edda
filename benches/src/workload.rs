//! Tables and backlogs, made on the source by the source itself.

use trem_tests::Db;

/// What happens in a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Transactions of 5 inserts, 4 updated rows and 1 delete.
    Mix,
    /// Transactions of 10 inserts.
    Inserts,
    /// Transactions of 10 updated rows, anywhere in the table.
    Updates,
    /// Transactions of 10 deletes.
    Deletes,
    /// Transactions of 10 updated rows among 1,000.
    Hot,
    /// One transaction that inserts everything.
    One,
}

/// A table shape and what happens to it.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What happens.
    pub kind: Kind,
    /// Tables, all alike; the changes go to one after the other, transaction by transaction.
    pub tables: u32,
    /// Rows of each table before.
    pub rows: u64,
    /// Changes of a backlog.
    pub changes: u64,
    /// Bytes of the text that makes rows wide; 0 for the ordinary row of about 120 bytes.
    pub wide: u32,
    /// Whether that text lies out of line, uncompressed.
    pub toasted: bool,
}

/// Eight columns, about 120 bytes a row.
const COLUMNS: &str = "id bigint, customer int NOT NULL, quantity int NOT NULL, price numeric(12,2) NOT NULL, \
     name text NOT NULL, note text, active boolean NOT NULL, changed timestamptz NOT NULL";

fn values(id: &str, note: &str) -> String {
    format!(
        "{id}, ({id} % 100000)::int, ({id} % 7)::int, ({id} % 1000000) / 100.0, 'customer ' || {id}, {note}, \
         {id} % 3 <> 0, timestamptz '2026-01-01 00:00:00+00' + {id} * interval '1 second'"
    )
}

impl Workload {
    /// Creates tables and rows, and what makes backlogs.
    pub async fn create(&self, db: &Db) {
        db.exec("CREATE TABLE public.marker (id int PRIMARY KEY, changes bigint NOT NULL)").await;
        for table in 0..self.tables {
            let table = table_name(table);
            db.exec(&format!("CREATE TABLE {table} ({COLUMNS})")).await;
            if self.toasted {
                db.exec(&format!("ALTER TABLE {table} ALTER note SET STORAGE EXTERNAL")).await;
            }
            if self.rows > 0 {
                let values = values("i", &self.note("i"));
                let rows = self.rows;
                db.exec(&format!("INSERT INTO {table} SELECT {values} FROM generate_series(1, {rows}::bigint) i"))
                    .await;
            }
            db.exec(&format!("ALTER TABLE {table} ADD PRIMARY KEY (id)")).await;
        }
        if self.tables > 1 {
            self.create_procedures(db).await;
        }
        db.exec("VACUUM ANALYZE").await;
    }

    fn note(&self, id: &str) -> String {
        let bytes = if self.wide == 0 { 40 } else { self.wide };
        // Of unlike pieces, so that nothing is gained by compressing it.
        if bytes <= 64 {
            return format!("left(md5({id}::text) || md5(({id} + 1)::text), {bytes})");
        }
        format!(
            "(SELECT left(string_agg(md5(({id} * 7 + g)::text), ''), {bytes}) \
             FROM generate_series(1, {bytes} / 32 + 1) g)"
        )
    }

    /// Makes a backlog, ended by a row in `public.marker`; returns its number of changes.
    pub async fn backlog(&self, db: &Db) -> u64 {
        db.exec("SET synchronous_commit = off").await;
        let mut changes = 0;
        let transactions = if self.kind == Kind::One { 1 } else { self.changes / 10 };
        let each = (transactions / u64::from(self.tables)).max(1);
        if self.tables == 1 {
            changes += self.run(db, &table_name(0), each).await;
        } else {
            // Turn about, so that every batch holds changes of many tables.
            changes += self.run_over_all(db, each).await;
        }
        db.exec("SET synchronous_commit = on").await;
        db.exec(&format!("INSERT INTO public.marker VALUES (0, {changes})")).await;
        changes
    }

    async fn run(&self, db: &Db, table: &str, transactions: u64) -> u64 {
        let body = self.transaction(table);
        db.exec("CREATE TEMPORARY TABLE IF NOT EXISTS counted (n bigint); TRUNCATE counted").await;
        db.exec(&format!(
            "DO $$ DECLARE lo bigint; hi bigint; n bigint := 0; k bigint; keys bigint[]; BEGIN
             SELECT coalesce(min(id), 0), coalesce(max(id), 0) INTO lo, hi FROM {table};
             FOR i IN 1..{transactions} LOOP {body} COMMIT; END LOOP;
             INSERT INTO counted VALUES (n); END $$"
        ))
        .await;
        count(db.number("SELECT n FROM counted").await)
    }

    /// One for each table, and before anybody follows the log: they are none of the backlog.
    async fn create_procedures(&self, db: &Db) {
        db.exec("CREATE SCHEMA bench").await;
        for table in 0..self.tables {
            let body = self.transaction(&table_name(table));
            db.exec(&format!(
                "CREATE PROCEDURE bench.t{table}(lo bigint, hi bigint, INOUT n bigint) LANGUAGE plpgsql \
                 AS $b$ DECLARE k bigint; keys bigint[]; BEGIN {body} END $b$"
            ))
            .await;
        }
    }

    /// The same over all tables in turn; their bounds move alike.
    async fn run_over_all(&self, db: &Db, each: u64) -> u64 {
        let tables = self.tables;
        db.exec("CREATE TEMPORARY TABLE IF NOT EXISTS counted (n bigint); TRUNCATE counted").await;
        let (down, up) = self.moves();
        db.exec(&format!(
            "DO $$ DECLARE lo bigint; hi bigint; n bigint := 0; BEGIN
             SELECT coalesce(min(id), 0), coalesce(max(id), 0) INTO lo, hi FROM t0;
             FOR i IN 1..{each} LOOP
               FOR t IN 0..{tables} - 1 LOOP EXECUTE format('CALL bench.t%s($1, $2, $3)', t) INTO n USING lo, hi, n; \
             COMMIT; END LOOP;
               lo := lo + {down}; hi := hi + {up};
             END LOOP;
             INSERT INTO counted VALUES (n); END $$"
        ))
        .await;
        count(db.number("SELECT n FROM counted").await)
    }

    /// By how much a transaction moves the lowest and the highest key.
    fn moves(&self) -> (u32, u32) {
        match self.kind {
            Kind::Mix => (1, 5),
            Kind::Inserts => (0, 10),
            Kind::Deletes => (10, 0),
            Kind::Updates | Kind::Hot | Kind::One => (0, 0),
        }
    }

    /// One transaction in PL/pgSQL: `lo` and `hi` bound the keys, `n` counts the changes.
    fn transaction(&self, table: &str) -> String {
        let insert = |from: &str, to: &str| {
            let values = values("g", &self.note("g"));
            format!("INSERT INTO {table} SELECT {values} FROM generate_series({from}, {to}) g; ")
        };
        let update = |from: &str, span: &str, rows: u32| {
            let one = format!("{from} + floor(random() * ({span}))::bigint");
            let keys = vec![one; rows as usize].join(", ");
            // In a variable: with random() inside, the condition could not use the index.
            format!(
                "keys := ARRAY[{keys}]; \
                 UPDATE {table} SET quantity = quantity + 1, changed = clock_timestamp() WHERE id = ANY (keys); \
                 GET DIAGNOSTICS k = ROW_COUNT; n := n + k; "
            )
        };
        let (down, up) = self.moves();
        let step = if self.tables == 1 { format!("lo := lo + {down}; hi := hi + {up};") } else { String::new() };
        let body = match self.kind {
            Kind::Mix => {
                let insert = insert("hi + 1", "hi + 5");
                let update = update("lo + 1", "hi - lo", 4);
                format!("{insert} {update} DELETE FROM {table} WHERE id = lo; n := n + 6;")
            }
            Kind::Inserts => format!("{} n := n + 10;", insert("hi + 1", "hi + 10")),
            Kind::Updates => update("lo", "hi - lo + 1", 10),
            Kind::Hot => update("lo", "least(hi - lo + 1, 1000)", 10),
            Kind::Deletes => format!("DELETE FROM {table} WHERE id BETWEEN lo AND lo + 9; n := n + 10;"),
            Kind::One => format!("{} n := n + {};", insert("hi + 1", &format!("hi + {}", self.changes)), self.changes),
        };
        format!("{body} {step}")
    }

    /// The DDL for whoever does not create tables itself.
    pub async fn create_empty(&self, db: &Db) {
        db.exec("CREATE TABLE public.marker (id int PRIMARY KEY, changes bigint NOT NULL)").await;
        for table in 0..self.tables {
            let table = table_name(table);
            db.exec(&format!("CREATE TABLE {table} ({COLUMNS}, PRIMARY KEY (id))")).await;
        }
        self.store(db).await;
    }

    /// Long values out of line, and uncompressed at both sides: compressing them would be all that is measured.
    pub async fn store(&self, db: &Db) {
        for table in (0..self.tables).filter(|_| self.toasted) {
            db.exec(&format!("ALTER TABLE {} ALTER note SET STORAGE EXTERNAL", table_name(table))).await;
        }
    }
}

/// The columns of the one table, without a key.
pub fn keyless_table() -> String {
    format!("CREATE TABLE public.t0 ({COLUMNS})")
}

fn table_name(number: u32) -> String {
    format!("public.t{number}")
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A number that two databases share exactly if all tables in `public` are equal, whatever the order of rows.
pub async fn digest(db: &Db) -> String {
    let sql = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1";
    let mut all = String::new();
    for row in db.rows(sql).await {
        let name = row.into_iter().next().flatten().unwrap_or_default();
        let sums = "count(*) || ' rows ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)";
        all.push_str(&format!("{name}: {}\n", db.one(&format!("SELECT {sums} FROM public.\"{name}\" t")).await));
    }
    all
}
