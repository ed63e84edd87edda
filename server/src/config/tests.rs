//! Every message of a refused configuration.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use trem_engine::budget::Budget;
use trem_engine::schema::TableId;
use trem_engine::task::{Mode, OnExisting};

use super::{Config, Problems, parse};

const ENDPOINTS: &str = r#"
[endpoints.shop]
kind = "postgres"
url = "postgres://trem:${SHOP_PASSWORD}@127.0.0.1:5432/shop"

[endpoints.reports]
kind = "postgres"
url = "postgres://trem@127.0.0.1:5433/reports"

[endpoints.nothing]
kind = "null"
"#;

const TASK: &str = r#"
[tasks.copy]
source = "shop"
target = "reports"
"#;

const TABLES: &str = r#"
[[tasks.copy.tables]]
include = "public.*"
"#;

fn read(text: &str) -> Result<Config, Problems> {
    let env = |name: &str| match name {
        "SHOP_PASSWORD" => Some("hush-hush".to_owned()),
        "SCHEMA" => Some("public".to_owned()),
        _ => None,
    };
    parse(Path::new("tasks.toml"), text, &env)
}

fn refused(text: &str) -> String {
    let message = read(text).expect_err("a configuration that is refused").to_string();
    assert!(!message.contains("hush-hush"), "{message}");
    message
}

/// With the endpoints above and the lines added to a task that is otherwise right.
fn task_refused(lines: &str) -> String {
    refused(&format!("{ENDPOINTS}{TASK}{lines}{TABLES}"))
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn a_small_file_has_defaults() {
    let config = read(&format!("{ENDPOINTS}{TASK}{TABLES}")).unwrap();
    let task = &config.tasks[0];
    assert_eq!((task.plan.mode, task.plan.on_existing), (Mode::FullLoadAndCdc, OnExisting::Refuse));
    assert_eq!(task.budget.bytes(), 128 << 20);
    assert_eq!(task.plan.rediscover, Duration::from_secs(60));
    assert!(task.plan.selection.takes(&TableId::new("public", "a")));
    assert_eq!(task.source.configured.kind(), "postgres");
    assert!(!format!("{config:?}").contains("hush-hush"));
}

#[tokio::test]
async fn all_tasks_share_the_memory_of_the_process() {
    let task = format!("{TASK}{TABLES}");
    let two = format!("{ENDPOINTS}{task}{}", task.replace("copy", "other"));
    let budgets = |top: &str| read(&format!("{top}{two}")).unwrap().tasks.into_iter().map(|t| t.budget).collect();
    let budgets: Vec<Budget> = budgets("memory = \"100MiB\"\n");
    assert_eq!(budgets.iter().map(Budget::bytes).collect::<Vec<_>>(), [100 << 20, 100 << 20]);
    let all = budgets[0].room(100 << 20).await.unwrap();
    let other = tokio::time::timeout(Duration::from_millis(1), budgets[1].room(1));
    assert!(other.await.is_err(), "the first task has all there is");
    drop(all);

    let large = |top: &str| read(&format!("{top}{ENDPOINTS}{TASK}memory = \"1GiB\"\n{TABLES}"));
    assert_eq!(large("").unwrap().tasks[0].budget.bytes(), 1 << 30);
    let message = large("memory = \"512MiB\"\n").unwrap_err().to_string();
    says(&message, &["tasks.copy.memory: 1073741824 bytes are more than the 536870912 bytes of all tasks together"]);
    let message = read(&format!("memory = \"1KiB\"\n{two}")).unwrap_err().to_string();
    says(&message, &["memory: expected at least 8388608 bytes"]);
}

#[test]
fn every_key_is_read() {
    let text = r#"
mode = "full-load"
on-existing = "keep"
memory = "1GiB"
rediscover = "5m"
batch = { max-rows = 7, max-bytes = "2MB", linger = "0ms" }
load = { workers = 3, chunk-bytes = "1MiB", resume-above-bytes = "0B" }
retry = { initial = "1s", max = "2s", give-up-after = "1h", tell-after = "5s" }
tables = [{ include = ["${SCHEMA}.a", "x$${y.b"], exclude = "public.c" }]
"#;
    let config = read(&format!("{ENDPOINTS}{TASK}{text}")).unwrap();
    let plan = &config.tasks[0].plan;
    assert_eq!((plan.mode, plan.on_existing), (Mode::FullLoad, OnExisting::Keep));
    assert_eq!((config.tasks[0].budget.bytes(), plan.rediscover), (1 << 30, Duration::from_secs(300)));
    assert_eq!((plan.batch.max_rows, plan.batch.max_bytes, plan.batch.linger), (7, 2_000_000, Duration::ZERO));
    assert_eq!((plan.load.workers, plan.load.chunk_bytes, plan.load.resume_above_bytes), (3, 1 << 20, 0));
    assert_eq!((plan.retry.initial, plan.retry.max), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!(plan.retry.give_up_after, Some(Duration::from_secs(3600)));
    assert_eq!(plan.retry.tell_after, Duration::from_secs(5));
    assert!(plan.selection.names(&TableId::new("public", "a")));
    assert!(plan.selection.names(&TableId::new("x${y", "b")));
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let manual = include_str!("../../../docs/CONFIGURATION.md");
    let example = manual.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let written = parse(Path::new("tasks.toml"), example, &|_| Some("x".to_owned())).unwrap();
    let required = format!("{ENDPOINTS}{TASK}{TABLES}").replace("copy", "shop-to-reports");
    let defaults = read(&required).unwrap();
    assert_eq!(format!("{:?}", written.tasks[0].plan), format!("{:?}", defaults.tasks[0].plan));
}

#[test]
fn null_is_a_target() {
    let text = format!("{ENDPOINTS}{TASK}{TABLES}").replace("target = \"reports\"", "target = \"nothing\"");
    assert_eq!(read(&text).unwrap().tasks[0].target.configured.kind(), "null");
    let text = format!("{ENDPOINTS}{TASK}{TABLES}").replace("source = \"shop\"", "source = \"nothing\"");
    says(&refused(&text), &["tasks.toml:14:10: tasks.copy.source: ", "it can only be a target"]);
}

#[test]
fn wrong_toml() {
    let message = refused("[endpoints.shop]\nurl = \"postgres://trem:hush-hush@h/shop\nkind = 1\n");
    says(&message, &["tasks.toml:2:"]);
    says(&refused("[tasks.a\n"), &["tasks.toml:1:"]);
    says(&refused("[endpoints.a]\nkind = \"null\"\nkind = \"null\"\n"), &["tasks.toml:3:1: ", "duplicate key"]);
}

#[test]
fn a_file_that_is_not_there() {
    let message = super::load(Path::new("/nowhere/tasks.toml")).expect_err("no file").to_string();
    says(&message, &["/nowhere/tasks.toml: cannot read the file: "]);
}

#[test]
fn unknown_keys() {
    let message = task_refused("speed = \"high\"\n");
    says(&message, &["tasks.toml:16:1: tasks.copy.speed: ", "unknown key `speed`", "`on-existing`"]);
    let message = task_refused("[tasks.copy.batch]\nrows = 5\n");
    says(&message, &["tasks.toml:17:1: tasks.copy.batch.rows: ", "expected one of `max-rows`, `max-bytes`, `linger`"]);
    says(
        &refused("[endpoint.a]\n"),
        &["tasks.toml:1:2: endpoint: ", "expected one of `memory`, `endpoints`, `rule-sets`, `tasks`"],
    );
}

#[test]
fn missing_keys() {
    let message = refused("[tasks.copy]\ntarget = \"a\"\n");
    says(&message, &["tasks.toml:1:1: tasks.copy: missing key `source`"]);
    says(&refused("[endpoints.a]\nkind = \"postgres\"\n"), &["tasks.toml:1:1: endpoints.a: the key `url` is missing"]);
}

#[test]
fn endpoints() {
    let text = format!("{ENDPOINTS}{TASK}{TABLES}").replace("target = \"reports\"", "target = \"report\"");
    let message = refused(&text);
    says(&message, &["tasks.toml:15:10: tasks.copy.target: no endpoint is called \"report\""]);
    says(&message, &["expected the target to be \"nothing\", \"reports\" or \"shop\""]);
    let text = format!("{ENDPOINTS}{TASK}{TABLES}").replace("kind = \"null\"", "kind = \"oracle\"");
    let message = refused(&text);
    says(&message, &["tasks.toml:11:8: endpoints.nothing.kind: kind \"oracle\" is not supported by this version"]);
    says(&refused("[endpoints.a]\nkind = 5\n"), &["endpoints.a.kind: expected the kind", "found the integer 5"]);
    let message = refused("[endpoints.a]\nkind = \"null\"\nurl = \"x\"\n");
    says(&message, &["tasks.toml:3:1: endpoints.a.url: unknown key `url` in an endpoint of kind null: leave it out"]);
    let message = refused("[endpoints.a]\nkind = \"postgres\"\nulr = \"x\"\n");
    says(&message, &["tasks.toml:3:1: endpoints.a.ulr: unknown key `ulr`", "expected `kind`, `url`"]);
    says(&message, &["tasks.toml:1:1: endpoints.a: the key `url` is missing: expected a URL such as \"postgres://"]);
    let message = refused("[endpoints.a]\nkind = \"postgres\"\nurl = 5\n");
    says(&message, &["tasks.toml:3:7: endpoints.a.url: expected a URL such as", "found the integer 5"]);
    says(&refused("[endpoints.a]\nurl = \"x\"\n"), &["tasks.toml:1:1: endpoints.a: missing key `kind`"]);
    let message = refused("[endpoints.a]\nkind = \"postgres\"\nurl = \"http://trem:hush-hush@h/d\"\n");
    says(&message, &["tasks.toml:3:7: endpoints.a.url: "]);
}

#[test]
fn variables() {
    let text = format!("{ENDPOINTS}{TASK}{TABLES}").replace("SHOP_PASSWORD", "SHOP_SECRET");
    let message = refused(&text);
    says(&message, &["tasks.toml:4:7: endpoints.shop.url: the environment variable SHOP_SECRET is not set"]);
    says(&task_refused("memory = \"${\"\n"), &["tasks.copy.memory: `${` has no closing `}`"]);
    says(&task_refused("memory = \"${a b}\"\n"), &["tasks.copy.memory: ", "the name of an environment variable"]);
    says(&task_refused("mode = \"${SHOP_PASSWORD}\"\n"), &["found a value with a variable in it, which is not shown"]);
}

#[test]
fn passwords_in_wrong_places() {
    const URL: &str = "postgres://u:hush-hush@h.example/d";
    let good = format!("{ENDPOINTS}{TASK}{TABLES}");
    let message = refused(&format!("endpoints.shop = \"{URL}\"\n"));
    says(&message, &["tasks.toml:1:18: endpoints.shop: expected a table of keys, found a string"]);
    says(&refused("endpoints.shop = \"host=h password=hush-hush\"\n"), &["endpoints.shop: expected a table of keys"]);
    let message = refused(&format!("[endpoints]\na = [\"{URL}\"]\n"));
    says(&message, &["endpoints.a: expected a table of keys, found a list"]);
    let message = refused(&good.replace("kind = \"null\"", &format!("kind = \"{URL}\"")));
    says(&message, &["endpoints.nothing.kind: kind a value that is not shown", "is not supported"]);
    let message = refused(&good.replace("source = \"shop\"", &format!("source = \"{URL}\"")));
    says(
        &message,
        &["tasks.copy.source: no endpoint is called a value that is not shown", "expected the source to be"],
    );
    for line in ["mode", "on-existing", "memory", "rediscover"] {
        says(&task_refused(&format!("{line} = \"{URL}\"\n")), &[line, "found a value that is not shown"]);
        says(&task_refused(&format!("{line} = \"x ${{SHOP_PASSWORD}}\"\n")), &["found a value with a variable in it"]);
    }
    for value in [URL, "${SHOP_PASSWORD}", "u:hush-hush@h/d"] {
        let message = task_refused(&format!("[[tasks.copy.tables]]\ninclude = [\"{value}\"]\n"));
        says(&message, &["tasks.copy.tables[0].include: bad pattern, which is not shown"]);
    }
    for lines in ["tables = \"URL\"\n", "tables = [\"URL\"]\n", "batch = \"URL\"\n", "\"URL\" = 1\n", "\"`URL\" = 1\n"]
    {
        refused(&format!("{ENDPOINTS}{TASK}{}", lines.replace("URL", URL)));
    }
    let name = format!("[endpoints.\"{URL}\"]\nkind = \"null\"\n");
    says(&refused(&format!("{name}{good}")), &["endpoints.\"***\": a name must not be a URL"]);
    refused(&format!("{name}{good}").replace("target = \"reports\"", "target = \"report\""));
    let message = refused(&good.replace("tasks.copy", &format!("tasks.\"{URL}\"")));
    says(&message, &["tasks.\"***\": a name must not be a URL"]);
    refused(&format!("[endpoints.a]\nkind = \"postgres\"\n\"{URL}\" = 1\n"));
    refused("[endpoints.a]\nkind = \"postgres\"\n\"hush-hush@\" = \"x\"\n");
    for url in ["postgres://u:a@h/d?hush-hush=1@h/d", "postgres://u@h/d?sslmode=${SHOP_PASSWORD}", "u:hush-hush@h/d"] {
        refused(&format!("[endpoints.a]\nkind = \"postgres\"\nurl = \"{url}\"\n"));
    }
}

#[test]
fn source_equal_to_target() {
    let text = format!("{ENDPOINTS}{TASK}{TABLES}").replace("target = \"reports\"", "target = \"shop\"");
    says(&refused(&text), &["tasks.toml:15:10: tasks.copy.target: source and target are the same endpoint"]);
    let text = format!("{ENDPOINTS}{TASK}{TABLES}").replace("5433/reports", "5432/shop?sslmode=disable");
    says(&refused(&text), &["tasks.copy.target: source `shop` and target `reports` are the same database"]);
}

#[test]
fn modes() {
    let message = task_refused("mode = \"fullload\"\non-existing = \"overwrite\"\n");
    says(&message, &["tasks.copy.mode: expected \"full-load\", \"cdc\" or \"full-load-and-cdc\", found \"fullload\""]);
    says(&message, &["tasks.copy.on-existing: expected \"refuse\", \"keep\", \"truncate\" or \"recreate\""]);
    assert_eq!(message.lines().count(), 2, "every problem is told at once");
}

#[test]
fn filters() {
    let filter = |text: &str| format!("[[tasks.copy.tables]]\ninclude = \"public.a\"\nfilter = {text}\n");
    says(
        &task_refused(&filter("5")),
        &["tasks.copy.tables[0].filter: expected a SQL expression", "found the integer 5"],
    );
    says(&task_refused(&filter("''")), &["tables[0].filter: expected a SQL expression", "found an empty one"]);
}

#[test]
fn tables() {
    let message = refused(&format!("{ENDPOINTS}{TASK}"));
    says(
        &message,
        &["tasks.toml:13:1: tasks.copy: the task selects no tables: expected at least one [[tasks.NAME.tables]]"],
    );
    let message = refused(&format!("{ENDPOINTS}{TASK}tables = []\n"));
    says(&message, &["tasks.copy.tables: the task selects no tables"]);
    let message = task_refused("[[tasks.copy.tables]]\ninclude = []\n");
    says(&message, &["tasks.toml:17:11: tasks.copy.tables[0].include: the list is empty"]);
    let message = task_refused("[[tasks.copy.tables]]\ninclude = \"orders\"\nexclude = [\"a.b.c\"]\n");
    says(&message, &["tasks.copy.tables[0].include: bad pattern: `orders` is not of the form schema.table"]);
    says(&message, &["tasks.copy.tables[0].exclude: bad pattern: `a.b.c`"]);
    let message = task_refused("[[tasks.copy.tables]]\ninclude = 5\n");
    says(&message, &["expected a pattern such as \"public.*\" or"]);
}

#[test]
fn limits() {
    let message = task_refused("[tasks.copy.batch]\nmax-rows = 0\nmax-bytes = \"0MiB\"\nlinger = \"5 parsecs\"\n");
    says(
        &message,
        &[
            "tasks.toml:17:12: tasks.copy.batch.max-rows: expected a whole number from 1 to 4294967295",
            "found the integer 0",
        ],
    );
    says(&message, &["tasks.copy.batch.max-bytes: expected at least 1 bytes, found \"0MiB\""]);
    says(&message, &["tasks.copy.batch.linger: expected a duration such as \"50ms\"", "found \"5 parsecs\""]);
    says(
        &task_refused("memory = 5\n"),
        &["tasks.copy.memory: expected a size such as \"16MiB\"", "found the integer 5"],
    );
    says(&task_refused("memory = \"5\"\n"), &["tasks.copy.memory: expected a size such as \"16MiB\""]);
    says(&task_refused("memory = \"1MiB\"\n"), &["tasks.copy.memory: expected at least 8388608 bytes"]);
    let message = task_refused("memory = \"9MiB\"\nbatch = { max-bytes = \"10MiB\" }\n");
    says(&message, &["tasks.copy.batch.max-bytes: a batch of 10485760 bytes does not fit"]);
    says(
        &task_refused("load = { workers = 1000 }\n"),
        &["tasks.copy.load.workers: expected a whole number from 1 to 64"],
    );
    says(
        &task_refused("retry = { initial = \"0s\" }\n"),
        &["tasks.copy.retry.initial: expected a duration longer than zero"],
    );
    says(&task_refused("retry = { initial = \"1h\" }\n"), &["tasks.copy.retry.initial: the first pause is longer"]);
    says(&task_refused("rediscover = \"0s\"\n"), &["tasks.copy.rediscover: expected a duration longer than zero"]);
}

#[test]
fn task_names() {
    let second = TASK.replace("copy", "c_py").replace("target = ", "tables = [{ include = \"a.b\" }]\ntarget = ");
    let third = second.replace("c_py", "c-py");
    let message = refused(&format!("{ENDPOINTS}{second}{third}"));
    says(
        &message,
        &["the tasks `c-py` and `c_py` would share the slot and publication trem_c_py", "rename one of them"],
    );
    // As the server sees them, not as the file writes them.
    let (upper, lower) = (second.replace("c_py", "Shop"), second.replace("c_py", "shop"));
    let both = format!("{ENDPOINTS}{upper}{lower}");
    says(&refused(&both), &["the tasks `Shop` and `shop` would share the slot and publication trem_shop"]);
    // Slots of two servers have nothing to do with each other.
    let elsewhere = "[endpoints.other]\nkind = \"postgres\"\nurl = \"postgres://trem@10.0.0.1/shop\"\n";
    read(&format!("{both}{elsewhere}").replacen("source = \"shop\"", "source = \"other\"", 1)).unwrap();
    let long = TASK.replace("copy", &"a".repeat(59)) + "tables = [{ include = \"a.b\" }]\n";
    says(&refused(&format!("{ENDPOINTS}{long}")), &["the name of a task has 1 to 58 characters"]);
    says(&refused(ENDPOINTS), &["no task is configured: expected at least one [tasks.NAME]"]);
}
