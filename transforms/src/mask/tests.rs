//! What masks make of values.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use trem_engine::Class;

use super::*;

const TEXT: Type = Type::Text(Length::Unlimited);

fn salt() -> Salt {
    Salt::new("salt")
}

fn masked(masking: Masking, ty: &Type, values: &[Option<&str>]) -> Vec<Option<String>> {
    let text: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
    let values = convert(&text, &TEXT, ty).unwrap();
    let masked = Mask::new(&masking, ty, false).unwrap().values(&values).unwrap();
    assert_eq!(*masked.data_type(), ty.arrow());
    crate::expression::text(&masked, ty).unwrap()
}

fn one(masking: Masking, ty: &Type, value: &str) -> String {
    masked(masking, ty, &[Some(value)]).remove(0).unwrap()
}

#[test]
fn null_stays_null() {
    let maskings = [Masking::Hash(salt()), Masking::KeepLast(2), Masking::Fixed("x".to_owned()), Masking::Null];
    for masking in maskings.into_iter().chain([Masking::Email(salt()), Masking::Format(salt())]) {
        assert_eq!(masked(masking.clone(), &TEXT, &[None, Some("a")])[0], None, "{masking}");
    }
}

#[test]
fn a_text_becomes_another() {
    assert_eq!(one(Masking::KeepLast(4), &TEXT, "4111 1111 1111 1234"), "***************1234");
    assert_eq!(one(Masking::KeepLast(4), &TEXT, "1234"), "****");
    assert_eq!(one(Masking::Fixed("-".to_owned()), &TEXT, "1234"), "-");
    let hash = one(Masking::Hash(salt()), &TEXT, "ann@example.org");
    assert_eq!(hash.len(), 64);
    assert_eq!(one(Masking::Hash(salt()), &Type::Text(Length::AtMost(20)), "ann@example.org"), hash[..20]);
    assert_ne!(one(Masking::Hash(Salt::new("other")), &TEXT, "ann@example.org"), hash);
    let address = one(Masking::Email(salt()), &TEXT, "Ann@example.org");
    assert_eq!((address.len(), &address[16..]), (28, "@example.org"));
    assert_eq!(address, one(Masking::Email(salt()), &TEXT, "ann@example.org"));
    assert_eq!(one(Masking::Email(salt()), &Type::Text(Length::AtMost(20)), "ann@example.org").len(), 20);
}

#[test]
fn numbers_and_uuids_stay_what_they_are() {
    let masked = masked(Masking::Hash(salt()), &Type::Int32, &[Some("7"), Some("-7"), Some("2147483647")]);
    let numbers: Vec<i32> = masked.into_iter().map(|n| n.unwrap().parse().unwrap()).collect();
    assert!(numbers[0] >= 0 && numbers[1] < 0 && numbers[2] >= 0 && numbers[0] != numbers[2]);
    let uuid = one(Masking::Hash(salt()), &Type::Uuid, "00000000-0000-0000-0000-000000000001");
    assert_eq!((uuid.len(), &uuid[14..15]), (36, "8"));
    assert_eq!(one(Masking::Fixed("2024-02-29".to_owned()), &Type::Date, "2020-01-01"), "2024-02-29");
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |masking: Masking, ty: &Type, key: bool| {
        let error = Mask::new(&masking, ty, key).expect_err("refused");
        assert!(error.class() == Class::Refused && error.advice().is_some());
        error.reason()
    };
    assert!(refused(Masking::KeepLast(2), &Type::Int32, false).contains("no mask keep-last 2 of type int32"));
    assert!(refused(Masking::Hash(salt()), &Type::Json, false).contains("no mask hash"));
    assert!(refused(Masking::Format(salt()), &TEXT, true).contains("would make keys equal"));
    assert!(refused(Masking::Hash(salt()), &Type::Text(Length::AtMost(10)), true).contains("would make keys equal"));
    assert!(refused(Masking::Fixed("x".to_owned()), &Type::Date, false).contains("date"));
    assert!(Mask::new(&Masking::Hash(salt()), &Type::Int16, true).is_ok());
}
