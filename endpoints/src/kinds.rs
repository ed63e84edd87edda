//! The kinds of endpoint that there are, in one list.

use crate::kind::Kind;
use crate::mysql::kind::Mysql;
use crate::null::Null;
use crate::postgres::kind::Postgres;

/// Every kind there is.
pub const KINDS: &[&dyn Kind] = &[&Postgres, &Mysql, &Null];

/// The kind of this name.
pub fn find(name: &str) -> Option<&'static dyn Kind> {
    KINDS.iter().copied().find(|kind| kind.name() == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kind::same_database;

    #[test]
    fn every_kind_is_found_by_its_own_name() {
        for kind in KINDS {
            assert_eq!(find(kind.name()).map(|k| k.name()), Some(kind.name()));
        }
        assert!(find("no such database").is_none());
    }

    #[test]
    fn only_one_place_is_one_database() {
        let postgres = |url: &str| {
            let values = BTreeMap::from([("url", url.to_owned())]);
            find("postgres").and_then(|kind| kind.configure(&values).ok()).expect("a URL")
        };
        let null = find("null").and_then(|kind| kind.configure(&BTreeMap::new()).ok()).expect("nothing to say");
        let a = postgres("postgres://u@h:5432/d");
        assert!(same_database(&*a, &*postgres("postgres://other:p@h/d?sslmode=require")));
        for other in ["postgres://u@h:5433/d", "postgres://u@h/e", "postgres://u@i/d", "postgres://u@[h]/d2"] {
            assert!(!same_database(&*a, &*postgres(other)), "{other}");
        }
        assert!(!same_database(&*null, &*null) && !same_database(&*a, &*null));
    }
}
