//! Style that only a test keeps: who may depend on whom, how long files and functions may be, and that every
//! file says what it is for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use trem_tests::binaries::root;

mod circles;

/// Lines of a file.
const FILE: usize = 500;
/// Lines of a function, its signature and closing brace included.
const FUNCTION: usize = 70;
/// Characters of a line.
const LINE: usize = 120;

/// Files that may be longer, each with its reason. Limits only tighten.
const LONG_FILES: &[(&str, usize, &str)] = &[];
/// Functions that may be longer, each with its reason. Limits only tighten.
const LONG_FUNCTIONS: &[(&str, &str, usize, &str)] = &[];

/// What each crate may see of the others: `engine <- transforms`, `engine <- endpoints`, all three `<- server`.
/// The tests see the binary from outside.
const EDGES: &[(&str, &[&str])] = &[
    ("engine", &[]),
    ("transforms", &["trem-engine"]),
    ("endpoints", &["trem-engine"]),
    ("server", &["trem-engine", "trem-transforms", "trem-endpoints"]),
    ("tests", &[]),
    ("demo", &["trem-tests"]),
    ("benches", &["trem-engine", "trem-endpoints", "trem-tests"]),
];
/// What the engine must not know: drivers and HTTP.
const NOT_IN_THE_ENGINE: &[&str] = &["tokio-postgres", "postgres-protocol", "mysql_async", "tiberius", "axum", "hyper"];

/// What one database calls its things: the engine has words of its own (`docs/GLOSSARY.md`). Plurals are meant too.
const WORDS_OF_DATABASES: &str = "oid, xid, xmin, ctid, lsn, wal, mvcc, vacuum, toast, slot, publication, \
    replica identity, convert from, bytea, jsonb, regclass, sqlstate, savepoint, pg, pgoutput, postgres, postgresql, \
    gtid, binlog, redo, innodb, mysql, mariadb, oracle, mssql, sql server";

#[test]
fn crates_depend_in_one_direction() {
    let members: BTreeSet<String> = manifest(&root())["workspace"]["members"]
        .as_array()
        .expect("members")
        .iter()
        .filter_map(|m| m.as_str().map(str::to_owned))
        .collect();
    let known: BTreeSet<String> = EDGES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(members, known, "a new crate needs its edges stated here");
    for (member, allowed) in EDGES {
        let manifest = manifest(&root().join(member));
        for name in dependencies(&manifest, "dependencies") {
            if name.starts_with("trem") {
                assert!(allowed.contains(&name.as_str()), "{member} must not depend on {name}");
            }
            if *member == "engine" {
                assert!(!NOT_IN_THE_ENGINE.contains(&name.as_str()), "the engine must not know {name}");
            }
        }
    }
}

/// The engine has no word of any database, in comments neither: what it needs to say it says of all of them.
#[test]
fn the_engine_knows_no_database() {
    let mut faults = Vec::new();
    for folder in ["engine/src", "engine/tests"] {
        for path in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&path).expect("a file");
            for (number, line) in text.lines().enumerate() {
                faults.extend(word_of_a_database(line).map(|w| format!("{}:{}: `{w}`", path.display(), number + 1)));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The first word of the line that only some database has. `SlotName`, `slot_name` and `slots` have `slot`.
fn word_of_a_database(line: &str) -> Option<&'static str> {
    let mut words = String::from(" ");
    let mut before = ' ';
    for c in line.chars() {
        if c.is_uppercase() && before.is_lowercase() {
            words.push(' ');
        }
        words.extend(if c.is_alphanumeric() { c.to_lowercase().next() } else { Some(' ') });
        before = c;
    }
    words.push(' ');
    let has = |word: &&str| words.contains(&format!(" {word} ")) || words.contains(&format!(" {word}s "));
    WORDS_OF_DATABASES.split(", ").find(has)
}

#[test]
fn words_of_databases_are_found() {
    let found = ["the Slot's name", "a SlotName", "lost_slots", "REPLICA IDENTITY", "x.convert_from(a)", "// GTID"];
    for line in found {
        assert!(word_of_a_database(line).is_some(), "{line}");
    }
    for line in ["walk to the wall", "avoid", "identity of a replica", "slotted"] {
        assert_eq!(word_of_a_database(line), None, "{line}");
    }
}

/// Inside the engine: vocabulary <- ports <- runner.
#[test]
fn the_engines_modules_depend_in_one_direction() {
    let engine = root().join("engine/src");
    for path in rust_files(&engine) {
        let place = path.strip_prefix(&engine).expect("below").to_string_lossy().into_owned();
        let text = code_of(&fs::read_to_string(&path).expect("a file"));
        let rank = |module: &str| match module {
            "runner" | "testkit" => 3,
            "ports" | "routes" => 2,
            _ => 1,
        };
        let own = rank(place.split(['/', '.']).next().unwrap_or_default());
        for module in ["ports", "runner", "testkit"] {
            let uses = text.contains(&format!("crate::{module}")) && place != "lib.rs";
            // What a task has done so far is kept in the ports' terms.
            let allowed = rank(module) <= own || (place == "progress.rs" && module == "ports");
            assert!(!uses || allowed, "engine/src/{place} must not use crate::{module}");
        }
    }
}

#[test]
fn files_and_functions_are_short_and_say_what_they_are() {
    let mut faults = Vec::new();
    for path in rust_files(&root()) {
        let name = path.strip_prefix(root()).expect("below").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a file");
        let lines: Vec<&str> = text.lines().collect();
        if !lines.first().is_some_and(|l| l.starts_with("//! ")) {
            faults.push(format!("{name}: the first line must be `//! ` and what the file is for"));
        }
        let limit = LONG_FILES.iter().find(|f| f.0 == name).map_or(FILE, |f| f.1);
        if lines.len() > limit {
            faults.push(format!("{name}: {} lines, more than {limit}", lines.len()));
        }
        for (number, line) in lines.iter().enumerate() {
            if line.chars().count() > LINE {
                faults.push(format!("{name}:{}: {} characters, more than {LINE}", number + 1, line.chars().count()));
            }
        }
        for (function, at, length) in functions(&lines) {
            let exception = LONG_FUNCTIONS.iter().find(|f| f.0 == name && f.1 == function);
            let limit = exception.map_or(FUNCTION, |f| f.2);
            if length > limit {
                faults.push(format!("{name}:{at}: fn {function} has {length} lines, more than {limit}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn exceptions_are_still_needed() {
    for (name, limit, reason) in LONG_FILES {
        let lines = fs::read_to_string(root().join(name)).expect(name).lines().count();
        assert!(lines > FILE && lines <= *limit && !reason.is_empty(), "{name}: tighten or drop its exception");
    }
    for (name, function, _, reason) in LONG_FUNCTIONS {
        let text = fs::read_to_string(root().join(name)).expect(name);
        let lines: Vec<&str> = text.lines().collect();
        let long = functions(&lines).into_iter().any(|(f, _, length)| f == *function && length > FUNCTION);
        assert!(long && !reason.is_empty(), "{name}: fn {function} needs no exception");
    }
}

/// The server asks the kind of an endpoint and names none; commands are written by the faces alone.
#[test]
fn databases_and_commands_are_each_known_in_one_place() {
    let mut faults = Vec::new();
    let mut look = |folder: &str, faulty: &dyn Fn(&str) -> bool| {
        for path in rust_files(&root().join(folder)) {
            let text = code_of(&fs::read_to_string(&path).expect("a file"));
            faults.extend(text.lines().filter(|l| faulty(l)).map(|l| format!("{}: {l}", path.display())));
        }
    };
    look("server/src", &|line| line.contains("trem_endpoints::") && !line.contains("trem_endpoints::kind"));
    for folder in ["engine/src", "endpoints/src"] {
        look(folder, &|line| ["trem run ", "trem reload ", "trem drop ", "`trem "].iter().any(|c| line.contains(c)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Secrets and machines have no place in the repository.
#[test]
fn no_path_of_one_machine() {
    for path in rust_files(&root()) {
        let text = fs::read_to_string(&path).expect("a file");
        for word in [concat!("/ho", "me/"), concat!("/ro", "ot/")] {
            assert!(!text.contains(word), "{} names {word}", path.display());
        }
    }
}

fn manifest(folder: &Path) -> toml::Table {
    let text = fs::read_to_string(folder.join("Cargo.toml")).expect("Cargo.toml");
    text.parse().expect("Cargo.toml is TOML")
}

fn dependencies(manifest: &toml::Table, kind: &str) -> Vec<String> {
    let table = manifest.get(kind).and_then(toml::Value::as_table);
    table.into_iter().flat_map(|t| t.keys().cloned()).collect()
}

/// All Rust files below a folder, build output (which cargo marks as a cache) left out.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !path.join("CACHEDIR.TAG").exists() && !name.starts_with('.') {
                files.extend(rust_files(&path));
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The text without its tests and comments.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Name, first line and length of every function. In formatted code a function's last line is the first one that
/// is indented like its first and closes a brace.
fn functions(lines: &[&str]) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let rest = lines[start..].iter().enumerate();
        let end = rest.take_while(|(n, l)| *n == 0 || !ends_without_body(l, indent)).find(|(_, l)| {
            l.len() - l.trim_start().len() == indent && (l.trim_start().starts_with('}') || l.ends_with('}'))
        });
        if let Some((length, _)) = end {
            found.push((name, start + 1, length + 1));
        }
    }
    found
}

/// The end of a declaration in a trait.
fn ends_without_body(line: &str, indent: usize) -> bool {
    line.len() - line.trim_start().len() == indent && line.ends_with(';')
}

fn function_name(line: &str) -> Option<String> {
    let mut rest = line.trim_start();
    if let Some(visible) = rest.strip_prefix("pub") {
        rest = visible.strip_prefix("(crate)").or(visible.strip_prefix("(super)")).unwrap_or(visible).trim_start();
    }
    for word in ["default ", "const ", "async ", "extern \"C\" "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let rest = rest.strip_prefix("fn ")?;
    if line.ends_with(';') {
        return None;
    }
    Some(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

#[test]
fn functions_are_measured() {
    let text = "fn one() {}\n\
                impl A {\n    pub(crate) async fn two(\n        a: u8,\n    ) -> u8 {\n        a\n    }\n\n\
                \x20   fn three();\n    fn four(\n        a: u8,\n    );\n}\n";
    let lines: Vec<&str> = text.lines().collect();
    let found: Vec<(String, usize)> = functions(&lines).into_iter().map(|(n, _, l)| (n, l)).collect();
    assert_eq!(found, [("one".into(), 1), ("two".into(), 5)]);
}
