//! The binary log: events, taken apart without IO.
//!
//! Formats: MySQL source documentation, "Binary Log Event Structures" (libbinlogevents); MariaDB knowledge base,
//! "Replication Protocol".

pub(super) mod bytes;
mod compressed;
pub(super) mod event;
pub(super) mod gtid;
pub(super) mod row;
pub(super) mod table_map;
pub(super) mod temporal;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trem_engine::change::ColumnBuilder;
    use trem_engine::schema::{Column, Length, Native, Type};

    use super::bytes::Bytes;
    use super::event::Event;
    use super::row::{self, Reading};
    use super::table_map::{Logged, TableMap};
    use crate::mysql::charset::Charsets;
    use crate::mysql::types::DIALECT;

    fn types() -> Vec<Type> {
        let labels = vec!["a".to_owned(), "b".to_owned()];
        let mut types =
            vec![Type::Int8, Type::UInt8, Type::Int16, Type::UInt16, Type::Int32, Type::UInt32, Type::Int64];
        types.extend([
            Type::UInt64,
            Type::Float32,
            Type::Float64,
            Type::Decimal(Some((65, 30))),
            Type::Year,
            Type::Date,
        ]);
        types.extend([Type::Duration(6), Type::Timestamp(6), Type::TimestampTz(6), Type::Bit(Length::Exactly(64))]);
        types.extend([Type::Text(Length::Unlimited), Type::Binary(Length::Exactly(4)), Type::Json, Type::Uuid]);
        types.extend([Type::Enum(labels.clone()), Type::Set(labels)]);
        types
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Bytes of a network are an event or an error, and never a panic.
        #[test]
        fn any_bytes_are_taken_apart(kind: u8, flags: u16, data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Event::parse(kind, flags, &data);
            let _ = TableMap::parse(&data);
        }

        #[test]
        fn any_bytes_are_values(
            kind: u8, meta: u16, at in 0..23usize, data in prop::collection::vec(any::<u8>(), 0..40)
        ) {
            let logged = Logged { kind, meta: if (17..=19).contains(&kind) { meta % 7 } else { meta } };
            let Ok(raw) = row::value(logged, &mut Bytes::new(&data)) else { return Ok(()) };
            let ty = types().swap_remove(at);
            let native = Native { dialect: DIALECT, name: "x".to_owned(), detail: String::new() };
            let column = Column { name: "c".to_owned(), ty: ty.clone(), native, nullable: true, omissible: false };
            let mut builder = ColumnBuilder::new(&ty);
            if let Some(reading) = Reading::new(&column, logged, &Charsets::default()) {
                let _ = reading.push(&mut builder, raw);
            }
        }
    }
}
