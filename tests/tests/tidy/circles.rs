//! No circles among the files of a crate: of two files at most one knows of the other, directly or through others.
//!
//! A file knows of another when a `use` of it, or a path in its code, leads to something that the other one defines.
//! A name that a file only hands on (`pub use`, or an import that its children take from there) leads to where the
//! name is defined, and to declare a module is not to know what is in it. Tests may look anywhere, and so may programs
//! in `bin`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use trem_tests::binaries::root;

use super::{EDGES, rust_files};

/// From the root of the crate: `["runner", "follow"]`.
type Module = Vec<String>;

/// What of a file matters here.
#[derive(Default)]
struct File {
    /// Names that `use` brings, and the absolute paths that they stand for.
    names: BTreeMap<String, Vec<String>>,
    /// Absolute paths of all that its code uses.
    used: Vec<Vec<String>>,
}

#[test]
fn files_of_a_crate_form_no_circle() {
    let mut faults = Vec::new();
    for (name, _) in EDGES {
        let files = read(&root().join(name).join("src"));
        let known = edges(&files);
        faults.extend(circles(&known).into_iter().map(|circle| format!("{name}: {}", circle.join(", "))));
    }
    assert!(faults.is_empty(), "these files know of each other:\n{}", faults.join("\n"));
}

fn read(src: &Path) -> BTreeMap<Module, File> {
    let mut texts = BTreeMap::new();
    for path in rust_files(src) {
        let place = path.strip_prefix(src).expect("below").with_extension("");
        let mut module: Module = place.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.iter().any(|part| part == "tests") || module.first().is_some_and(|part| part == "bin") {
            continue;
        }
        if ["mod", "lib", "main"].contains(&module.last().map_or("", String::as_str)) {
            module.pop();
        }
        // Of a library and its program the former has the modules.
        let text: &mut String = texts.entry(module).or_default();
        text.push_str(&fs::read_to_string(&path).expect("a file"));
    }
    let modules: BTreeSet<Module> = texts.keys().cloned().collect();
    texts.into_iter().map(|(module, text)| (module.clone(), parse(&module, &text, &modules))).collect()
}

fn parse(module: &Module, text: &str, modules: &BTreeSet<Module>) -> File {
    let (uses, code) = split(text);
    let mut file = File::default();
    for (path, name, handed_on) in uses {
        if let Some(path) = absolute(module, &path, modules) {
            if !handed_on || words(&code).any(|w| w == name) {
                file.used.push(path.clone());
            }
            file.names.insert(name, path);
        }
    }
    for path in paths(&code) {
        file.used.extend(absolute(module, &path, modules));
    }
    file
}

/// The parts of each `use`, the name that it brings and whether it hands that on; and the code without them, without
/// comments and without what is only for tests.
fn split(text: &str) -> (Vec<(Vec<String>, String, bool)>, String) {
    let (mut uses, mut code) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if trimmed.starts_with("#[cfg(test)]") {
            // To the end of the item, which in formatted code is indented as it begins.
            let _ = lines.by_ref().find(|l| l.len() - l.trim_start().len() == indent && l.ends_with([';', '}']));
            continue;
        }
        let declared = trimmed.strip_prefix("pub").map_or(trimmed, |rest| match rest.strip_prefix('(') {
            Some(scope) => scope.split_once(')').map_or(rest, |(_, rest)| rest).trim_start(),
            None => rest.trim_start(),
        });
        if let Some(first) = declared.strip_prefix("use ") {
            let mut statement = first.to_owned();
            while !statement.ends_with(';') {
                statement.push_str(lines.next().unwrap_or(";").trim());
            }
            let mut paths = Vec::new();
            expand(&[], statement.trim_end_matches(';'), &mut paths);
            uses.extend(paths.into_iter().map(|(path, name)| (path, name, trimmed.starts_with("pub"))));
        } else if !trimmed.starts_with("//") {
            let line = trimmed.split(" // ").next().unwrap_or_default();
            // Who may see something says nothing of what it uses.
            let seen = line.strip_prefix("pub(in ").and_then(|rest| rest.split_once(')'));
            code.push_str(seen.map_or(line, |(_, rest)| rest));
            code.push('\n');
        }
    }
    (uses, code)
}

/// Writes `a::{b, c::{self, d as e}}` out: the paths, and the name that each brings.
fn expand(before: &[String], tree: &str, out: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    let (head, group) = match tree.split_once('{') {
        Some((head, group)) => (head.trim_end_matches("::"), Some(group.strip_suffix('}').unwrap_or(group))),
        None => (tree, None),
    };
    let (head, alias) = head.split_once(" as ").map_or((head, None), |(head, alias)| (head, Some(alias)));
    let mut path = before.to_vec();
    path.extend(head.split("::").filter(|s| !s.is_empty() && *s != "*").map(str::to_owned));
    let Some(group) = group else {
        if path.len() > 1 {
            path.pop_if(|last| last == "self");
        }
        let name = alias.map(str::to_owned).or(path.last().cloned()).unwrap_or_default();
        out.push((path, name));
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    expand(&path, &group[start..at], out);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Everything in the code that looks like a path.
fn paths(code: &str) -> impl Iterator<Item = Vec<String>> {
    let whole = code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    whole.filter(|w| w.contains("::")).map(|w| w.split("::").map(str::to_owned).collect())
}

/// A path from the root of the crate; `None` if it does not lead into the crate.
fn absolute(module: &Module, path: &[String], modules: &BTreeSet<Module>) -> Option<Vec<String>> {
    let mut at = module.clone();
    match path.first()?.as_str() {
        "crate" => at.clear(),
        "self" => {}
        "super" => {
            let up = path.iter().take_while(|part| *part == "super").count();
            at.truncate(at.len().checked_sub(up)?);
            at.extend_from_slice(&path[up..]);
            return Some(at);
        }
        child => {
            at.push(child.to_owned());
            if !modules.contains(&at) {
                return None;
            }
        }
    }
    at.extend_from_slice(&path[1..]);
    Some(at)
}

/// The module that defines what a path leads to, through names that are handed on.
fn defined(path: &[String], files: &BTreeMap<Module, File>) -> Module {
    let mut path = path.to_vec();
    // Names may be handed on more than once, and do not come back.
    for _ in 0..8 {
        let mut at = Module::new();
        let mut rest = path.iter();
        let named = loop {
            let Some(part) = rest.next() else { return at };
            at.push(part.clone());
            if !files.contains_key(&at) {
                at.pop();
                break files.get(&at).and_then(|f| f.names.get(part));
            }
        };
        let Some(named) = named else { return at };
        path = named.iter().chain(rest).cloned().collect();
    }
    Module::new()
}

fn edges(files: &BTreeMap<Module, File>) -> BTreeMap<Module, BTreeSet<Module>> {
    let of = |(module, file): (&Module, &File)| {
        let known = file.used.iter().map(|path| defined(path, files)).filter(|other| other != module);
        (module.clone(), known.collect())
    };
    files.iter().map(of).collect()
}

/// Everything that a module knows, directly or not.
fn reached<'a>(from: &'a Module, known: &'a BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<&'a Module> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        for next in known.get(module).into_iter().flatten() {
            if reached.insert(next) {
                open.push(next);
            }
        }
    }
    reached
}

/// Groups of modules each of which leads to all others of its group.
fn circles(known: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<Vec<String>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = known.keys().map(|m| (m, reached(m, known))).collect();
    let mut groups = BTreeSet::new();
    for (module, to) in &reached {
        if to.contains(*module) {
            let back = to.iter().filter(|other| reached.get(**other).is_some_and(|r| r.contains(*module)));
            groups.insert(back.map(|other| format!("`{}`", other.join("::"))).collect::<Vec<_>>());
        }
    }
    groups.into_iter().collect()
}

#[test]
fn circles_are_found() {
    let texts = [
        (vec![], "pub use a::Shared;\nmod a;\nmod b;\nmod c;"),
        (vec!["a"], "use super::{b::{self, B as Other}, c};\npub struct Shared;"),
        (vec!["b"], "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\nfn f() {\n    super::c::f();\n}"),
        (vec!["c"], "// crate::b\nuse crate::Shared;"),
        (vec!["d"], "use super::c;\npub(super) use e::E;\nmod e;"),
        (vec!["d", "e"], "use super::c::C;\nuse std::fmt;"),
    ];
    let modules = |parts: &[&str]| parts.iter().map(|p| (*p).to_owned()).collect::<Module>();
    let all: BTreeSet<Module> = texts.iter().map(|(module, _)| modules(module)).collect();
    let files = texts.iter().map(|(m, text)| (modules(m), parse(&modules(m), text, &all))).collect();
    let known = edges(&files);
    assert_eq!(known[&modules(&["d", "e"])], BTreeSet::from([modules(&["c"])]), "through its parent's import");
    assert_eq!(known[&modules(&["d"])], BTreeSet::from([modules(&["c"])]), "what is only handed on is not known");
    assert_eq!(circles(&known), [["`a`", "`b`", "`c`"]]);
}
