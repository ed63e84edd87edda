//! A session of the test itself with a server: text in, text out.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Everything a value's text depends on, so that both sides print alike.
const SETTINGS: &str = "SET DateStyle = 'ISO, MDY'; SET IntervalStyle = postgres; SET TimeZone = 'UTC'; \
     SET extra_float_digits = 3; SET bytea_output = hex; SET lc_monetary = 'C'; SET xmloption = content";

/// A session. SQL that fails is a failed test, except through the `try_` methods.
#[derive(Debug)]
pub struct Db {
    client: Client,
    database: String,
}

impl Db {
    /// Connects over the socket in `folder`.
    pub async fn connect(folder: &Path, port: u16, database: &str) -> Self {
        let mut config = Config::new();
        config.host_path(folder).port(port).user("postgres").dbname(database).application_name("trem tests");
        let (client, connection) =
            config.connect(NoTls).await.unwrap_or_else(|e| panic!("connecting to {database} on port {port}: {e}"));
        tokio::spawn(connection);
        client.batch_execute(SETTINGS).await.expect("session settings");
        Self { client, database: database.to_owned() }
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The session underneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Runs statements.
    #[track_caller]
    pub fn exec(&self, sql: &str) -> impl Future<Output = ()> + Send {
        let at = std::panic::Location::caller();
        async move {
            if let Err(e) = self.try_exec(sql).await {
                panic!("{at}: {}: {e}\nin: {}", self.database, shorten(sql));
            }
        }
    }

    /// Runs statements; the error is the server's message.
    pub async fn try_exec(&self, sql: &str) -> Result<(), String> {
        self.client.batch_execute(sql).await.map_err(|e| explain(&e))
    }

    /// The rows of a query, as text.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.try_rows(sql).await.unwrap_or_else(|e| panic!("{}: {e}\nin: {}", self.database, shorten(sql)))
    }

    /// The same; the error is the server's message.
    pub async fn try_rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        let messages = self.client.simple_query(sql).await.map_err(|e| explain(&e))?;
        let rows = messages.into_iter().filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The first column of the first row; empty when it is NULL or there is none.
    pub async fn one(&self, sql: &str) -> String {
        let rows = self.rows(sql).await;
        rows.into_iter().next().and_then(|r| r.into_iter().next()).flatten().unwrap_or_default()
    }

    /// The first column of the first row as a number.
    pub async fn number(&self, sql: &str) -> i64 {
        let text = self.one(sql).await;
        text.parse().unwrap_or_else(|_| panic!("`{text}` is no number, from: {sql}"))
    }

    /// Asks until the answer is `wanted`.
    pub async fn wait_for(&self, sql: &str, wanted: &str, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            let answer = self.try_rows(sql).await;
            let text = answer.as_ref().ok().and_then(|r| r.first()).and_then(|r| r.first()).cloned().flatten();
            if text.as_deref() == Some(wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "still {answer:?} and not `{wanted}` after {limit:?}: {sql}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn explain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(e) => {
            format!("{} ({}){}", e.message(), e.code().code(), e.detail().map_or(String::new(), |d| format!(": {d}")))
        }
        None => error.to_string(),
    }
}

fn shorten(sql: &str) -> &str {
    let end = sql.char_indices().nth(600).map_or(sql.len(), |(i, _)| i);
    &sql[..end]
}
