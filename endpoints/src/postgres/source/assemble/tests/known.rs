//! What is known of a table's past, and where in the log it is known.
#![allow(clippy::unwrap_used)]

use trem_engine::schema::History;

use super::*;

#[test]
fn what_is_known_of_a_table_moves_on_where_the_log_has_come_to() {
    let mut a = plain();
    let of = Arc::clone(&a.assembler.followed()[0].1);
    let next = Arc::new(of.with_history(History::of("2".to_owned())));
    let noted = || SchemaChangeKind::Noted { next: Arc::clone(&next) };
    let otherwise = SchemaChangeKind::Reload { reason: "emptied".to_owned() };
    let verdict = Verdict::Emptied { by: vec![1], change: noted(), otherwise: otherwise.clone() };
    a.assembler.is_lost(Lost { index: 0, of: Arc::clone(&of), place: 150, verdict });
    let truncate = vec![b'T', 0, 0, 0, 1, 0, 0, 0, 0, 7];
    give(&mut a, &[begin(100), described(&relation()), truncate, commit(100)]);
    a.reached(160);
    assert!(Arc::ptr_eq(&a.assembler.followed()[0].1, &next));
    // Seen against what was known before: to be looked at again.
    a.assembler.is_lost(Lost { index: 0, of, place: 170, verdict: Verdict::Change(otherwise.clone()) });
    a.reached(180);
    assert_eq!(a.assembler.followed().len(), 1);
    let verdict = Verdict::Emptied { by: vec![1, 7], change: noted(), otherwise };
    a.assembler.is_lost(Lost { index: 0, of: next, place: 190, verdict });
    a.reached(200);
    let set = a.take().unwrap();
    let [Step::Truncate(_), Step::Schema(first), Step::Schema(last)] = set.steps.as_slice() else { panic!("{set:?}") };
    assert!(
        matches!(first.kind, SchemaChangeKind::Noted { .. }) && matches!(last.kind, SchemaChangeKind::Reload { .. })
    );
}
