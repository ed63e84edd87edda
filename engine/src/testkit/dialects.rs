//! Two made-up dialects: `left` has a type of its own for every canonical one, `right` has fewer and takes the others
//! as it can: exactly, widened, with a loss, or not at all.

use crate::types::{Counterpart, Dialect, Length, Native, Type, Verdict};

/// The dialect that the memory source speaks.
pub const LEFT: Tongue = Tongue("left");
/// The dialect that the memory target speaks.
pub const RIGHT: Tongue = Tongue("right");

/// One of the two dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tongue(&'static str);

impl Tongue {
    /// Its name.
    pub const fn dialect(self) -> Dialect {
        Dialect::new(self.0)
    }

    /// The type of its own for a canonical one.
    pub fn native(self, ty: &Type) -> Native {
        Native { dialect: self.dialect(), name: format!("{} {ty}", self.0), detail: String::new() }
    }
}

impl Default for Tongue {
    fn default() -> Self {
        LEFT
    }
}

/// What stands for a type on `right`; `None` if nothing does.
pub fn to_right(ty: &Type) -> Option<Counterpart> {
    let of = |ty: &Type, verdict| Some(Counterpart { name: RIGHT.native(ty).name, verdict });
    let lossy = |ty: &Type, why: &str| of(ty, Verdict::Lossy(why.to_owned()));
    match ty {
        Type::Int8 | Type::UInt8 | Type::Year => of(&Type::Int16, Verdict::Widened),
        Type::UInt16 => of(&Type::Int32, Verdict::Widened),
        Type::UInt32 => of(&Type::Int64, Verdict::Widened),
        Type::UInt64 => of(&Type::Decimal(Some((20, 0))), Verdict::Widened),
        Type::Text(Length::Exactly(length)) => of(&Type::Text(Length::AtMost(*length)), Verdict::Widened),
        Type::Binary(Length::AtMost(_) | Length::Exactly(_)) => of(&Type::Binary(Length::Unlimited), Verdict::Widened),
        Type::Bit(_) | Type::Uuid | Type::Json | Type::Enum(_) | Type::Set(_) => {
            of(&Type::Text(Length::Unlimited), Verdict::Widened)
        }
        Type::Decimal(None) => lossy(&Type::Decimal(Some((38, 10))), "numbers of more than 38 digits are cut"),
        Type::Duration(digits) => lossy(&Type::Time(*digits), "a span of more than a day is cut"),
        Type::TimestampTz(digits) => lossy(&Type::Timestamp(*digits), "the zone is not kept"),
        Type::Interval | Type::Xml | Type::Array(_) | Type::Geometry(_) | Type::Named(_) => None,
        Type::Bool
        | Type::Int16
        | Type::Int32
        | Type::Int64
        | Type::Decimal(Some(_))
        | Type::Float32
        | Type::Float64
        | Type::Text(_)
        | Type::Binary(Length::Unlimited)
        | Type::Date
        | Type::Time(_)
        | Type::Timestamp(_) => of(ty, Verdict::Exact),
    }
}

/// Canonical types, at least one of every kind.
pub fn every_type() -> Vec<Type> {
    let labels = || vec!["a".to_owned(), "it's".to_owned(), "ü".to_owned()];
    let mut types = vec![
        Type::Bool,
        Type::Int8,
        Type::Int16,
        Type::Int32,
        Type::Int64,
        Type::UInt8,
        Type::UInt16,
        Type::UInt32,
        Type::UInt64,
        Type::Decimal(None),
        Type::Decimal(Some((10, 2))),
        Type::Decimal(Some((65, 0))),
        Type::Float32,
        Type::Float64,
    ];
    for length in [Length::Unlimited, Length::AtMost(20), Length::Exactly(3)] {
        types.extend([Type::Text(length), Type::Binary(length), Type::Bit(length)]);
    }
    for digits in [0, 3, 6] {
        types.extend([Type::Time(digits), Type::Duration(digits)]);
        types.extend([Type::Timestamp(digits), Type::TimestampTz(digits)]);
    }
    types.extend([Type::Date, Type::Year, Type::Interval, Type::Uuid, Type::Json, Type::Xml]);
    types.extend([Type::Enum(labels()), Type::Set(labels()), Type::Array(Box::new(Type::Int32))]);
    types.extend([Type::Geometry(None), Type::Geometry(Some(4326)), Type::Named("own".to_owned())]);
    types
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};
    use std::sync::Arc;

    use super::*;
    use crate::change::{BatchBuilder, ColumnMask, Op};
    use crate::schema::TableId;
    use crate::testkit::convert;
    use crate::testkit::generate::example;
    use crate::testkit::model::ModelTable;

    /// A number for each kind, from 0; a new kind needs the next one here and an example above.
    fn kind(ty: &Type) -> usize {
        match ty {
            Type::Bool => 0,
            Type::Int8 => 1,
            Type::Int16 => 2,
            Type::Int32 => 3,
            Type::Int64 => 4,
            Type::UInt8 => 5,
            Type::UInt16 => 6,
            Type::UInt32 => 7,
            Type::UInt64 => 8,
            Type::Decimal(_) => 9,
            Type::Float32 => 10,
            Type::Float64 => 11,
            Type::Text(_) => 12,
            Type::Binary(_) => 13,
            Type::Bit(_) => 14,
            Type::Date => 15,
            Type::Time(_) => 16,
            Type::Duration(_) => 17,
            Type::Timestamp(_) => 18,
            Type::TimestampTz(_) => 19,
            Type::Year => 20,
            Type::Interval => 21,
            Type::Uuid => 22,
            Type::Json => 23,
            Type::Xml => 24,
            Type::Enum(_) => 25,
            Type::Set(_) => 26,
            Type::Array(_) => 27,
            Type::Geometry(_) => 28,
            Type::Named(_) => 29,
        }
    }

    #[test]
    fn every_kind_has_a_name_on_both_sides() {
        let types = every_type();
        let kinds: BTreeSet<usize> = types.iter().map(kind).collect();
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), (0..=29).collect::<Vec<_>>());
        for tongue in [LEFT, RIGHT] {
            let names: HashSet<String> = types.iter().map(|ty| tongue.native(ty).name).collect();
            assert_eq!(names.len(), types.len(), "{tongue:?}");
        }
    }

    #[test]
    fn right_takes_types_in_every_way() {
        let (mut exact, mut widened, mut lossy, mut none) = (0, 0, 0, 0);
        for ty in every_type() {
            let Some(there) = to_right(&ty) else {
                none += 1;
                continue;
            };
            match there.verdict {
                Verdict::Exact => {
                    assert_eq!(there.name, RIGHT.native(&ty).name);
                    exact += 1;
                }
                Verdict::Widened => {
                    assert_ne!(there.name, RIGHT.native(&ty).name);
                    widened += 1;
                }
                Verdict::Lossy(why) => {
                    assert!(!why.is_empty());
                    lossy += 1;
                }
            }
        }
        assert!([exact, widened, lossy, none].iter().all(|n| *n > 0));
    }

    #[test]
    fn values_of_every_type_pass_through_a_batch() {
        let columns = every_type().into_iter().map(|ty| (ty.to_string(), ty)).collect();
        let table =
            ModelTable { id: TableId::new("s", "t"), columns, key: vec![0], big: Vec::new(), full_image: false };
        let schema = table.schema();
        let row: Vec<_> = table.columns.iter().map(|(_, ty)| Some(example(ty, 7))).collect();
        let mut builder = BatchBuilder::new(Arc::clone(&schema));
        builder.columns().iter_mut().zip(&row).for_each(|(b, v)| convert::push(b, v.as_ref()));
        builder.end_row(Op::Insert, &ColumnMask::default()).unwrap();
        let batch = builder.finish().unwrap();
        assert_eq!(convert::row(&batch.rows, 0), row);
        assert!(schema.columns.iter().all(|c| c.native == LEFT.native(&c.ty)));
    }
}
