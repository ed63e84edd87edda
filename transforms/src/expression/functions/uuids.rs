//! UUIDs that are made of names, and text as UUIDs.

use std::borrow::Cow;

use arrow_array::ArrayRef;
use datafusion_common::Result;
use uuid::Uuid;

use super::arguments::{Arguments, failed, texts};

const NO_UUID: &str = "a text that is no UUID";

/// The UUID of a name in a namespace, which is another UUID: version 5 of RFC 9562.
pub(super) fn of_name(given: &Arguments<'_>) -> Result<ArrayRef> {
    let (namespace, name) = given.split()?;
    let read = |row: usize| namespace.text(row).map(uuid).transpose();
    let same = if namespace.is_constant() { Some(read(0).map_err(failed)?) } else { None };
    texts(given.rows, |row| {
        let namespace = same.map_or_else(|| read(row), Ok)?;
        let (Some(namespace), Some(name)) = (namespace, name.first().and_then(|name| name.text(row))) else {
            return Ok::<_, &str>(None);
        };
        Ok(Some(Uuid::new_v5(&namespace, name.as_bytes()).to_string().into()))
    })
}

/// As UUIDs are written: a cast.
pub(super) fn cast(given: &Arguments<'_>) -> Result<ArrayRef> {
    let (text, _) = given.split()?;
    texts(given.rows, |row| {
        let uuid = text.text(row).map(uuid).transpose()?;
        Ok::<_, &str>(uuid.map(|uuid| Cow::Owned(uuid.to_string())))
    })
}

fn uuid(text: &str) -> Result<Uuid, &'static str> {
    Uuid::try_parse(text).map_err(|_| NO_UUID)
}
