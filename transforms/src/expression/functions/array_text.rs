//! Arrays as PostgreSQL writes them: `{1,NULL,"a b"}`, nested, and with places that do not begin at 1: `[2:3]={a,b}`.
//!
//! All of a text is read, whatever is asked of it, so that one that is no array is always told.

use std::fmt;

/// The first and the last place of each dimension, where they are written.
type Bounds = Vec<(i64, i64)>;

/// Dimensions that an array can have.
const MOST_DIMENSIONS: usize = 6;
const SPACES: [char; 6] = [' ', '\t', '\n', '\r', '\u{b}', '\u{c}'];

/// Why a text is no array. Nothing of it is quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoArray(&'static str);

impl fmt::Display for NoArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text that is no array such as {{1,2}}: {}", self.0)
    }
}

/// The element at this place, one number for each dimension. `None`: there is none there, or NULL.
pub(super) fn element(array: &str, place: &[i64]) -> Result<Option<String>, NoArray> {
    let (bounds, body) = bounds(array)?;
    let from_zero =
        |(dimension, at): (usize, &i64)| at.checked_sub(bounds.get(dimension).map_or(1, |(first, _)| *first));
    let wanted: Option<Vec<i64>> = place.iter().enumerate().map(from_zero).collect();
    let mut found = None;
    read(&bounds, body, |at, value| {
        if wanted.as_deref() == Some(at) {
            found = value.text();
        }
    })?;
    Ok(found)
}

/// All elements of an array of at most one dimension.
pub(super) fn elements(array: &str) -> Result<Vec<Option<String>>, NoArray> {
    let (bounds, body) = bounds(array)?;
    let mut all = Vec::new();
    match read(&bounds, body, |_, value| all.push(value.text()))?.len() {
        0 | 1 => Ok(all),
        _ => Err(NoArray("it has more than one dimension")),
    }
}

/// How many elements it has in each dimension. An empty array has none.
pub(super) fn lengths(array: &str) -> Result<Vec<i64>, NoArray> {
    let (bounds, body) = bounds(array)?;
    read(&bounds, body, |_, _| ())
}

/// The places that are written before an array, and the array.
fn bounds(array: &str) -> Result<(Bounds, &str), NoArray> {
    let wrong = || NoArray("before its = stand no places such as [0:4]");
    let mut rest = array.trim_start_matches(SPACES);
    let mut bounds = Vec::new();
    while let Some(inside) = rest.strip_prefix('[') {
        let (range, after) = inside.split_once(']').ok_or_else(wrong)?;
        let (first, last) = range.split_once(':').unwrap_or(("1", range));
        let place = |text: &str| text.trim_matches(SPACES).parse::<i32>().map(i64::from).map_err(|_| wrong());
        bounds.push((place(first)?, place(last)?));
        if bounds.len() > MOST_DIMENSIONS {
            return Err(NoArray("it nests too deep"));
        }
        rest = after.trim_start_matches(SPACES);
    }
    match bounds.is_empty() {
        true => Ok((bounds, rest)),
        false => Ok((bounds, rest.strip_prefix('=').ok_or_else(wrong)?)),
    }
}

/// Reads it to its end and shows each element with its place, counted from 0. Tells the length of each dimension.
fn read<'a>(
    bounds: &[(i64, i64)],
    body: &'a str,
    mut each: impl FnMut(&[i64], Value<'a>),
) -> Result<Vec<i64>, NoArray> {
    let (mut tokens, mut form) = (Tokens(body), Form::default());
    let mut before = Before::Nothing;
    while let Some(token) = tokens.next()? {
        before = match (token, before) {
            (Token::Open, Before::Nothing | Before::Open | Before::Comma) => {
                form.open()?;
                Before::Open
            }
            (Token::Value(value), Before::Open | Before::Comma) => {
                each(form.value()?, value);
                form.next();
                Before::Element
            }
            (Token::Close, Before::Open | Before::Element) => {
                form.close()?;
                if form.at.is_empty() { Before::End } else { Before::Element }
            }
            (Token::Comma, Before::Element) => Before::Comma,
            _ => return Err(NoArray("braces, commas and elements do not stand where they should")),
        };
    }
    if before != Before::End {
        return Err(NoArray("it does not end in }"));
    }
    let lengths: Vec<i64> = form.lengths.into_iter().flatten().collect();
    let lengths = if lengths.contains(&0) { Vec::new() } else { lengths };
    let fit = lengths.len() == bounds.len()
        && bounds.iter().zip(&lengths).all(|((first, last), length)| last - first + 1 == *length);
    if bounds.is_empty() || fit { Ok(lengths) } else { Err(NoArray("its elements are not those of its places")) }
}

/// What has been read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Open,
    Comma,
    Element,
    End,
}

/// How the braces stand: all parts of a dimension are equally long, and elements stand in the last one alone.
#[derive(Default)]
struct Form {
    /// Of the open braces, how many elements have been in each.
    at: Vec<i64>,
    lengths: Vec<Option<i64>>,
    /// At which depth the elements are.
    depth: Option<usize>,
}

impl Form {
    fn open(&mut self) -> Result<(), NoArray> {
        if self.at.len() == MOST_DIMENSIONS {
            return Err(NoArray("it nests too deep"));
        }
        self.at.push(0);
        if self.depth.is_some_and(|depth| self.at.len() > depth) {
            return Err(NoArray("an array stands among elements"));
        }
        if self.lengths.len() < self.at.len() {
            self.lengths.push(None);
        }
        Ok(())
    }

    /// An element is here.
    fn value(&mut self) -> Result<&[i64], NoArray> {
        if self.at.len() < self.lengths.len() {
            return Err(NoArray("an element stands among arrays"));
        }
        self.depth = Some(self.at.len());
        Ok(&self.at)
    }

    fn next(&mut self) {
        if let Some(at) = self.at.last_mut() {
            *at += 1;
        }
    }

    fn close(&mut self) -> Result<(), NoArray> {
        if let Some(count) = self.at.pop()
            && let Some(length) = self.lengths.get_mut(self.at.len())
            && *length.get_or_insert(count) != count
        {
            return Err(NoArray("its parts are not equally long"));
        }
        self.next();
        Ok(())
    }
}

enum Token<'a> {
    Open,
    Close,
    Comma,
    Value(Value<'a>),
}

/// An element as it is written.
struct Value<'a> {
    written: &'a str,
    quoted: bool,
}

impl Value<'_> {
    fn text(&self) -> Option<String> {
        if !self.quoted && self.written.eq_ignore_ascii_case("null") {
            return None;
        }
        let mut text = String::with_capacity(self.written.len());
        let mut chars = self.written.chars();
        while let Some(c) = chars.next() {
            text.extend(if c == '\\' { chars.next() } else { Some(c) });
        }
        Some(text)
    }
}

struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Result<Option<Token<'a>>, NoArray> {
        let rest = self.0.trim_start_matches(SPACES);
        let Some(first) = rest.chars().next() else { return Ok(None) };
        let (token, rest) = match first {
            '{' => (Token::Open, &rest[1..]),
            '}' => (Token::Close, &rest[1..]),
            ',' => (Token::Comma, &rest[1..]),
            '"' => {
                let (written, rest) = until(&rest[1..], &['"']);
                let rest = rest.strip_prefix('"').ok_or(NoArray("a quotation mark is not closed"))?;
                (Token::Value(Value { written, quoted: true }), rest)
            }
            _ => {
                let (written, rest) = until(rest, &['{', '}', ',', '"']);
                (Token::Value(Value { written: trimmed(written), quoted: false }), rest)
            }
        };
        self.0 = rest;
        Ok(Some(token))
    }
}

/// Cuts before the first of these characters that no backslash takes the meaning from.
fn until<'a>(text: &'a str, ends: &[char]) -> (&'a str, &'a str) {
    let mut escaped = false;
    let end = text.find(|c: char| {
        let ends = !escaped && ends.contains(&c);
        escaped = !escaped && c == '\\';
        ends
    });
    text.split_at(end.unwrap_or(text.len()))
}

/// Without the spaces at its end, unless a backslash stands before one.
fn trimmed(written: &str) -> &str {
    let short = written.trim_end_matches(SPACES);
    let backslashes = short.len() - short.trim_end_matches('\\').len();
    let kept = if backslashes % 2 == 1 { written[short.len()..].chars().next().map_or(0, char::len_utf8) } else { 0 };
    &written[..short.len() + kept]
}

#[cfg(test)]
mod tests;
