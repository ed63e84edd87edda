//! The state file: what is kept, what is sealed, what is refused.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn by(who: &str) -> By<'_> {
    By { who, action: "put", object: ("task", "t") }
}

fn key() -> Key {
    Key::of_text(KEY).unwrap()
}

#[test]
fn what_is_put_is_there_after_a_restart_and_no_secret_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trem.db");
    let spec = json!({"kind": "postgres", "url": "postgres://u:hunter2@h/d"}).as_object().unwrap().clone();
    let task = json!({"source": "a"}).as_object().unwrap().clone();
    let store = Store::open(&file, key()).unwrap();
    store.put_endpoint("shop", &spec, &json!({"kind": "postgres"}), Some(0), by("me")).unwrap();
    store.put_task("t", &task, Some(0), by("me")).unwrap();
    assert!(
        store.want("t", Desired::Paused, Some(by("me"))).unwrap() && !store.want("no", Desired::Paused, None).unwrap()
    );
    let token = store.create_token("ann", Role::Operator).unwrap();
    let run = store.begin_run("t", 1).unwrap();
    drop(store);
    let store = Store::open(&file, key()).unwrap();
    assert_eq!(store.endpoint_spec("shop").unwrap().unwrap(), spec);
    let found = store.task("t").unwrap().unwrap();
    assert_eq!((found.spec, found.revision, found.desired), (task, 1, Desired::Paused));
    let ann = Identity { name: "ann".to_owned(), role: Role::Operator };
    assert_eq!(store.identity(&token).unwrap(), Some(ann));
    assert_eq!(store.identity("trem_0").unwrap(), None);
    store.cut_off_runs().unwrap();
    let runs = store.runs("t", 9).unwrap();
    assert_eq!((runs[0].id, runs[0].outcome.as_deref()), (run, Some("cut-off")));
    drop(store);
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in ["hunter2", &token] {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
        }
    }
}

#[test]
fn revisions_are_counted_and_the_wrong_one_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("trem.db"), key()).unwrap();
    let spec = |n: i64| json!({ "n": n }).as_object().unwrap().clone();
    assert_eq!(store.put_task("t", &spec(1), None, by("a")).unwrap().revision, 1);
    assert_eq!(store.put_task("t", &spec(1), None, by("a")).unwrap().revision, 1, "it is as it was");
    assert_eq!(store.put_task("t", &spec(2), Some(1), by("b")).unwrap().revision, 2);
    assert!(matches!(store.put_task("t", &spec(3), Some(1), by("c")), Err(StoreError::Changed)));
    assert!(store.delete_task("t", by("d")).unwrap());
    assert_eq!(store.put_task("t", &spec(3), Some(0), by("d")).unwrap().revision, 3);
    let who: Vec<String> = store.revisions("t").unwrap().into_iter().map(|r| r.who).collect();
    assert_eq!(who, ["d", "b", "a"]);
    let audited: Vec<String> = store.audited(9).unwrap().into_iter().map(|entry| entry.who).collect();
    assert_eq!(audited, ["d", "d", "b", "a"], "what was as it was is no change");
}

#[test]
fn what_is_not_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let said = |file: &Path, key: Key| Store::open(file, key).map(drop).unwrap_err().to_string();
    let file = dir.path().join("trem.db");
    drop(Store::open(&file, key()).unwrap());
    let other = Key::of_text(&KEY.replace("00", "ff")).unwrap();
    assert!(said(&file, other).contains("sealed with another key"));
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(said(&file, key()).contains("newer trem"));
    let foreign = dir.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(said(&foreign, key()).contains("another program"));
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "x".repeat(5000)).unwrap();
    assert!(said(&text, key()).contains("no state file"));
}

#[test]
fn only_so_much_is_kept_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("trem.db"), key()).unwrap();
    let line = |n: usize| Line {
        id: 0,
        at: now(),
        task: if n.is_multiple_of(2) { "even" } else { "odd" }.to_owned(),
        level: "INFO".to_owned(),
        message: n.to_string(),
        fields: json!({}),
    };
    for _ in 0..3 {
        store.add_lines(&(0..2000).map(line).collect::<Vec<_>>()).unwrap();
    }
    let last: Vec<String> = store.lines("odd", 2).unwrap().into_iter().map(|l| l.message).collect();
    assert_eq!(last, ["1997", "1999"]);
    assert_eq!(store.lines("even", u32::MAX).unwrap().len(), 2000);
    for n in 0..3 {
        store.add_event((n == 1).then_some("t"), "kind", json!({ "n": n })).unwrap();
    }
    assert_eq!(store.last_event().unwrap(), 3);
    let of = |task| store.events_after(1, task, 9).unwrap().iter().map(|e| e.id).collect::<Vec<_>>();
    assert_eq!((of(None), of(Some("t"))), (vec![2, 3], vec![2]));
}

#[test]
fn a_key_file_is_made_once_and_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    assert!(Key::of_file(&file, false).is_err());
    let sealed = Key::of_file(&file, true).unwrap().seal("a", b"text").unwrap();
    let again = Key::of_file(&file, true).unwrap();
    assert_eq!(again.open("a", &sealed).unwrap(), b"text");
    assert_eq!(again.open("b", &sealed), None);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}
