//! Parts of JSON text as they are written, found without making values of the rest.
//!
//! What is passed over is checked, without recursion: text that nests deep takes no stack. No number is read, so that
//! each keeps all its digits.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step<'p> {
    /// Which member of an object.
    pub(super) key: Option<Cow<'p, str>>,
    /// Which element of an array, from 0; from the end if negative.
    pub(super) at: Option<i64>,
}

impl<'p> Step<'p> {
    /// A key of an object, and of an array nothing.
    pub(super) fn key(key: impl Into<Cow<'p, str>>) -> Self {
        Self { key: Some(key.into()), at: None }
    }

    /// An element of an array, and of an object nothing.
    pub(super) fn at(at: i64) -> Self {
        Self { key: None, at: Some(at) }
    }

    /// A part of a path: of an object a key, of an array a place, if it is a number.
    pub(super) fn either(text: impl Into<Cow<'p, str>>) -> Self {
        let text = text.into();
        let at = text.trim_start().parse::<i32>().ok().map(i64::from);
        Self { key: Some(text), at }
    }
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

impl Kind {
    /// Of text that is JSON, or might be.
    fn of(json: &str) -> Self {
        match json.trim_start_matches([' ', '\t', '\n', '\r']).bytes().next() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Null => "null",
        }
    }
}

/// Why there is no answer. Nothing of the text is quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is no JSON, from this line and column on.
    Malformed(usize, usize),
    /// It is JSON, but something else than an array.
    Other(Kind),
    /// A string that no text can hold, such as one with a zero character.
    Unprintable,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(line, column) => {
                write!(f, "a text that is no JSON, from its line {line}, column {column} on")
            }
            Self::Other(kind) => write!(f, "it has to be a JSON array, and a value is of type {}", kind.name()),
            Self::Unprintable => f.write_str("a string in JSON has a character that text cannot have, such as \\u0000"),
        }
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.line(), error.column())
    }
}

/// Whether it is JSON.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// What the value is.
pub(super) fn kind(json: &str) -> Result<Kind, Fault> {
    serde_json::from_str::<IgnoredAny>(json)?;
    Ok(Kind::of(json))
}

/// How many elements an array has.
pub(super) fn length(json: &str) -> Result<usize, Fault> {
    match kind(json)? {
        Kind::Array => Ok(read(json, |reader| reader.deserialize_seq(Count))?),
        other => Err(Fault::Other(other)),
    }
}

/// The part that these steps lead to, if there is one. Of members with the same key the last one counts.
pub(super) fn find<'j>(json: &'j str, steps: &[Step<'_>]) -> Result<Option<&'j str>, Fault> {
    let Some((first, rest)) = steps.split_first() else {
        return Ok(Some(serde_json::from_str::<&RawValue>(json)?.get()));
    };
    let mut found = part(json, first)?;
    for step in rest {
        let Some(inner) = found else { break };
        found = part(inner, step)?;
    }
    Ok(found)
}

/// A part as text: a string without its quotes, nothing of `null`, anything else as it is written.
pub(super) fn text(part: &str) -> Result<Option<Cow<'_, str>>, Fault> {
    match Kind::of(part) {
        Kind::Null => Ok(None),
        Kind::String => match part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(plain) if !plain.contains('\\') => Ok(Some(Cow::Borrowed(plain))),
            _ => match serde_json::from_str::<String>(part) {
                Ok(text) if !text.contains('\0') => Ok(Some(Cow::Owned(text))),
                _ => Err(Fault::Unprintable),
            },
        },
        _ => Ok(Some(Cow::Borrowed(part))),
    }
}

fn part<'j>(json: &'j str, step: &Step<'_>) -> Result<Option<&'j str>, Fault> {
    let found = match (Kind::of(json), &step.key, step.at) {
        (Kind::Object, Some(key), _) => read(json, |reader| reader.deserialize_map(Member(key)))?,
        (Kind::Array, _, Some(at)) => {
            // From the end: the second look keeps no list of them.
            let at = if at < 0 { at.saturating_add_unsigned(length(json)? as u64) } else { at };
            read(json, |reader| reader.deserialize_seq(Element(usize::try_from(at).ok())))?
        }
        _ => {
            serde_json::from_str::<IgnoredAny>(json)?;
            None
        }
    };
    Ok(found.map(RawValue::get))
}

type Reader<'j> = serde_json::Deserializer<serde_json::de::StrRead<'j>>;

fn read<'j, T>(json: &'j str, get: impl FnOnce(&mut Reader<'j>) -> serde_json::Result<T>) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let got = get(&mut reader)?;
    reader.end()?;
    Ok(got)
}

/// The member of an object with this key.
struct Member<'k>(&'k str);

impl<'j> Visitor<'j> for Member<'_> {
    type Value = Option<&'j RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(same) = members.next_key_seed(Same(self.0))? {
            if same {
                found = Some(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a key is this one. As bytes, which half of a character may be too.
struct Same<'k>(&'k str);

impl<'j> DeserializeSeed<'j> for Same<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'j>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Same<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<bool, E> {
        Ok(key == self.0.as_bytes())
    }
}

/// The element of an array at this place.
struct Element(Option<usize>);

impl<'j> Visitor<'j> for Element {
    type Value = Option<&'j RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'j>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut before = 0;
        while Some(before) != self.0 {
            if elements.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
            before += 1;
        }
        let found = elements.next_element()?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// How many elements there are.
struct Count;

impl<'j> Visitor<'j> for Count {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'j>>(self, mut elements: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while elements.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
