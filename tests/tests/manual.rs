//! Every example of docs/RULES.md: the rules, tables at the source, and what the target has then, once by a load and
//! once by changes.

use trem_tests::binaries::root;
use trem_tests::{Trem, World};

/// What comes before it is there when the task begins, and what comes after it is changes.
const FOLLOWS: &str = "-- while trem follows\n";

struct Example {
    rules: String,
    sql: String,
    expected: String,
}

/// Three blocks each, one below the other.
fn examples() -> Vec<Example> {
    let text = std::fs::read_to_string(root().join("docs/RULES.md")).expect("the manual");
    let (mut blocks, mut open) = (Vec::new(), None::<(String, String)>);
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    let languages: Vec<&str> = blocks.iter().map(|(language, _)| language.as_str()).collect();
    assert!(languages.chunks(3).all(|three| three == ["toml", "sql", "text"]), "{languages:?}");
    let example = |three: &[(String, String)]| Example {
        rules: three[0].1.clone(),
        sql: three[1].1.clone(),
        expected: three[2].1.clone(),
    };
    blocks.chunks(3).map(example).collect()
}

/// What each table that is expected has.
async fn shown(world: &World, expected: &str) -> String {
    let mut out = String::new();
    let (schema, _) = expected.split_once('.').expect("schema.table");
    for (at, line) in expected.lines().enumerate() {
        if at == 0 || line.split_once('.').is_some_and(|(first, _)| first == schema) {
            out.push_str(&table(world, line).await);
        }
    }
    out
}

/// `schema.table`, the columns, and the rows in order.
async fn table(world: &World, table: &str) -> String {
    let (schema, name) = table.split_once('.').expect("schema.table");
    let columns = format!(
        "SELECT string_agg(attname, '|' ORDER BY attnum), string_agg(quote_ident(attname), ', ' ORDER BY attnum) \
         FROM pg_attribute WHERE attrelid = '{schema}.{name}'::regclass AND attnum > 0 AND NOT attisdropped"
    );
    let row = world.target.rows(&columns).await.remove(0);
    let (names, columns) = (row[0].clone().unwrap_or_default(), row[1].clone().unwrap_or_default());
    let mut out = format!("{table}\n{names}\n");
    let order = if names.contains("trem_operation") { "trem_committed_at NULLS FIRST" } else { "1" };
    for row in world.target.rows(&format!("SELECT {columns} FROM {table} ORDER BY {order}")).await {
        out.push_str(&row.into_iter().map(|v| known(v.unwrap_or_default())).collect::<Vec<_>>().join("|"));
        out.push('\n');
    }
    out
}

/// Times and places in the log are others each time.
fn known(value: String) -> String {
    let is = |shape: &[&str]| {
        let digits = |c: char| if c.is_ascii_hexdigit() { '9' } else { c };
        let seen: String = value.chars().map(digits).collect();
        shape.iter().any(|shape| seen.starts_with(shape))
    };
    if value.len() > 20 && is(&["9999-99-99 99:99:99"]) {
        "(time)".to_owned()
    } else if is(&["9/9"]) {
        "(position)".to_owned()
    } else {
        value
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_manual_come_true() {
    let examples = examples();
    assert!(examples.len() >= 5);
    for Example { rules, sql, expected } in examples {
        let follows = sql.contains(FOLLOWS);
        for by_changes in [false, true] {
            if follows && !by_changes {
                continue;
            }
            let world = World::one().await;
            let (source, target) = (&world.config.source, &world.config.target);
            let tables = match rules.contains("[[tasks.t.tables]]") {
                true => "",
                false => "[[tasks.t.tables]]\ninclude = \"public.*\"\n",
            };
            let (before, own) = rules.split_once("[tasks.t]\n").unwrap_or(("", &rules));
            let trem = Trem::with_text(&format!(
                "{before}[endpoints.s]\nkind = \"postgres\"\nurl = {source:?}\n[endpoints.t]\nkind = \"postgres\"\n\
                 url = {target:?}\n[tasks.t]\nsource = \"s\"\ntarget = \"t\"\n{}{tables}{}",
                if before.is_empty() { "" } else { own },
                if before.is_empty() { own } else { "" },
            ));
            let (made, changed): (Vec<&str>, Vec<&str>) = match sql.split_once(FOLLOWS) {
                Some((made, changed)) => (made.lines().collect(), changed.lines().collect()),
                None => sql.lines().partition(|l| l.starts_with("CREATE") || l.starts_with("ALTER")),
            };
            world.source.exec(&made.join("\n")).await;
            if by_changes {
                trem.until_current().expect(0);
            }
            for statement in changed {
                world.source.exec(statement).await;
            }
            trem.until_current().expect(0);
            assert_eq!(shown(&world, &expected).await, expected, "{rules}\nby changes: {by_changes}");
        }
    }
}
